"""What a training did: the record that is kept beside the model, and that the loss curve is drawn from."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class History:
    """One training. ``loss`` and ``accuracy`` have one figure an epoch, averaged over it while the weights moved.

    Errors are counts of wrong answers of the finished model on the whole training and the whole test part.
    """

    recipe: str
    data: str
    split_note: str
    seed: int
    epochs: int
    loss: list[float]
    accuracy: list[float]
    parameters: int
    train_errors: int
    train_samples: int
    test_errors: int
    test_samples: int
    seconds: float
    versions: dict[str, str]

    @property
    def test_accuracy(self) -> float:
        """The share of right answers on the test part."""
        return 1 - self.test_errors / self.test_samples

    def to_json(self) -> dict[str, Any]:
        """Give the record as JSON's own types."""
        return {"format": "pennyweight-history", "version": 1, **dataclasses.asdict(self)}
