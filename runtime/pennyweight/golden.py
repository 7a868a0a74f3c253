"""The golden self-test: the bundle's few inputs, answered here, held to the original model's outputs."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from .errors import CheckFailedError
from .model import Model
from .samples import Samples

# Where an artifact has no tolerance of its own: far above float32's rounding, far below a wrong answer.
DEFAULT_TOLERANCE = 1e-3


class GoldenResult(NamedTuple):
    """``largest`` absolute difference from the original, ``tolerance`` it is held to, samples, labels that changed.

    ``changed`` counts only samples whose two best classes lie further apart in the original than the tolerance
    explains; it is None where the output has no single label.
    """

    samples: int
    largest: float
    tolerance: float
    changed: int | None

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance and no label changed."""
        return bool(self.largest <= self.tolerance) and not self.changed


def replay_golden(model: Model, golden: Samples) -> GoldenResult:
    """Answer the golden inputs and compare; raise EngineError when the engine fails."""
    answers = _by_name(
        model, model.predict(golden.inputs if len(golden.inputs) > 1 else next(iter(golden.inputs.values())))
    )
    tolerances: dict[str, float] = model.manifest.golden.get("tolerance", {})
    tolerance = float(tolerances.get(model.artifact.name, DEFAULT_TOLERANCE))
    largest, changed = 0.0, None
    for spec in model.manifest.outputs:
        wanted, got = golden.outputs[spec.name], answers[spec.name]
        difference = np.abs(got.astype(np.float64) - wanted).max(initial=0.0)
        largest = float("inf") if np.isnan(difference) else max(largest, float(difference))
        if spec.labelling == "single" and len(spec.shape) == 1 and spec.shape[0] > 1:
            changed = (changed or 0) + _changed_labels(wanted, got, tolerance)
    return GoldenResult(golden.rows, largest, tolerance, changed)


def require_golden(model: Model, golden: Samples) -> None:
    """Raise CheckFailedError when the model doesn't answer the golden inputs as the original did."""
    result = replay_golden(model, golden)
    if not result.passed:
        raise CheckFailedError(
            f"{model.artifact.name} on {model.engine.name} {model.engine.version} answers unlike the original "
            f"(largest difference {result.largest:.3g}, allowed {result.tolerance:.3g})"
        )


def _changed_labels(wanted: Any, got: Any, tolerance: float) -> int:
    ranked = np.sort(wanted, axis=-1)
    clear = ranked[:, -1] - ranked[:, -2] > 2 * tolerance
    return int((clear & (wanted.argmax(-1) != got.argmax(-1))).sum())


def _by_name(model: Model, answers: Any) -> dict[str, Any]:
    return answers if isinstance(answers, dict) else {model.manifest.outputs[0].name: answers}


def golden_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Replay the golden set of ``arguments``' bundle, artifact and engine; for a child process."""
    from .bundle import open_bundle
    from .loading import load

    bundle = open_bundle(arguments["bundle"])
    with warnings.catch_warnings():
        # An artifact that failed parity is replayed all the same: that is what is asked here.
        warnings.simplefilter("ignore")
        model = load(bundle, artifact=arguments["artifact"], engine=arguments["engine"])
    with model:
        result = replay_golden(model, bundle.golden())
        return {**result._asdict(), "passed": result.passed, "version": model.engine.version}
