"""How much the seed decides: the same training with several seeds, ``python -m pennyweight_train.spread``."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence

from pennyweight.errors import PennyweightError
from pennyweight.tables import markdown_table
from pennyweight_data import Dataset, load_data

from .history import History
from .recipes import RECIPES
from .training import train


def spread(recipe: str, data: Dataset, seeds: Iterable[int]) -> Iterator[History]:
    """Train once with each seed and give each training's history as soon as it is there."""
    for seed in seeds:
        yield train(recipe, data, seed=seed).history


def main(argv: Sequence[str] | None = None) -> int:
    """Print errors by seed as a Markdown table, and their spread; give 0, or an error's exit code."""
    parser = argparse.ArgumentParser(prog="python -m pennyweight_train.spread", description=__doc__)
    parser.add_argument("recipe", nargs="?", default="lab", choices=RECIPES)
    parser.add_argument("--data", default="lab", metavar="DATA", help="as in `pennyweight train` (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="seeds 1 to N (default %(default)s)")
    args = parser.parse_args(argv)
    try:
        histories = list(spread(args.recipe, load_data(args.data), range(1, args.seeds + 1)))
    except PennyweightError as error:
        print(f"spread: {error}", file=sys.stderr)
        return error.exit_code
    print(report(histories))
    return 0


def report(histories: Sequence[History]) -> str:
    """Give one row a training, and the spread of each figure, as Markdown."""
    train_errors = [history.train_errors for history in histories]
    accuracies = [history.test_accuracy for history in histories]
    samples = histories[0].train_samples
    rows = [
        [str(history.seed), str(history.train_errors), f"{history.test_accuracy:.2%}", f"{history.loss[-1]:.4f}"]
        for history in histories
    ]
    table = markdown_table(["seed", f"errors in {samples:,}", "test accuracy", "last loss"], rows)
    return (
        f"{table}\n\n{len(histories)} seeds: {min(train_errors)}–{max(train_errors)} errors, "
        f"median {statistics.median(train_errors):g}; test accuracy {min(accuracies):.2%}–{max(accuracies):.2%}, "
        f"median {statistics.median(accuracies):.2%}"
    )


if __name__ == "__main__":
    sys.exit(main())
