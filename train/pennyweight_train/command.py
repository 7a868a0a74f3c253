"""The verb ``train``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pennyweight.errors import OutputError, UsageError
from pennyweight.output import emit, notice, write_atomically
from pennyweight.tables import text_table
from pennyweight_data import load_data

from .recipes import RECIPES

if TYPE_CHECKING:
    import keras

    from .history import History
    from .training import Progress

HELP = "train a Keras model on a data set, by a recipe"
OWN_OUTPUT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    recipes = "; ".join(f"{recipe.name}: {recipe.description}" for recipe in RECIPES.values())
    parser.add_argument("recipe", nargs="?", default="lab", metavar="RECIPE", help=f"{recipes} (default %(default)s)")
    parser.add_argument(
        "--data", default="digits", metavar="DATA", help="digits, lab, a file or a folder (default %(default)s)"
    )
    parser.add_argument(
        "--image-shape", metavar="HxW[xC]", help="for a folder of images: make them this size, grey or, with x3, RGB"
    )
    parser.add_argument("--seed", type=int, default=1234, metavar="N", help="of the training (default %(default)s)")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the data (default: the recipe's)")
    parser.add_argument("--force", action="store_true", help="replace an older model")
    parser.add_argument(
        "-o", "--output", dest="model", required=True, type=Path, metavar="MODEL.keras", help="where the model goes"
    )


def run(args: argparse.Namespace) -> int:
    """Train, write the model and its history, and print its errors."""
    place: Path = args.model
    history_place = place.with_suffix(".history.json")
    _check_places(place, history_place, args.force)
    data = load_data(args.data, image_shape=_image_shape(args.image_shape))
    from .training import train

    trained = train(args.recipe, data, seed=args.seed, epochs=args.epochs, progress=_progress(args))
    history = trained.history
    write_atomically(history_place, (json.dumps(history.to_json(), indent=2, allow_nan=False) + "\n").encode())
    save_model(trained.model, place)
    result = {"model": str(place), "history": str(history_place), **history.to_json()}
    emit(args, result, f"{_table(history)}\n\nwrote {place} and {history_place.name}")
    return 0


def save_model(model: keras.Model, place: Path) -> None:
    """Write a Keras model to ``place``, a path ending in ``.keras``: whole or not at all. Raise OutputError."""
    beside = place.with_name(f".{place.stem}.{os.getpid()}.part.keras")
    try:
        model.save(beside)
        beside.replace(place)
    except OSError as error:
        raise OutputError(f"{place}: can't be written ({error.strerror}); choose another place with -o") from error
    finally:
        beside.unlink(missing_ok=True)


def _image_shape(given: str | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    parts = given.lower().split("x")
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--image-shape {given}: write 32x32 for grey or 32x32x3 for RGB")
    return tuple(int(part) for part in parts)


def _check_places(place: Path, history_place: Path, force: bool) -> None:
    # Before the training: nobody should wait for it and then lose it.
    if place.suffix != ".keras":
        raise UsageError(f"{place}: a model's name ends in .keras; choose another with -o")
    if not place.parent.is_dir():
        raise OutputError(f"{place}: there is no folder {place.parent}; make it or choose another place with -o")
    if not os.access(place.parent, os.W_OK):
        raise OutputError(f"{place}: the folder {place.parent} can't be written to; choose another place with -o")
    for existing in (place, history_place):
        if existing.is_dir():
            raise OutputError(f"{existing}: is a folder; choose another place with -o")
        if existing.exists() and not force:
            raise OutputError(f"{existing}: exists already; --force replaces it")


def _progress(args: argparse.Namespace) -> Progress | None:
    if args.quiet:
        return None
    if not sys.stderr.isatty():
        notice(args, f"training {args.recipe} on {args.data}, seed {args.seed}")
        return None
    total = args.epochs or (RECIPES[args.recipe].epochs if args.recipe in RECIPES else 0)

    def show(epoch: int, loss: float, accuracy: float) -> None:
        end = "\n" if epoch == total else ""
        line = f"\rtraining {args.recipe}: epoch {epoch}/{total}  loss {loss:.4f}  accuracy {accuracy:.2%} "
        print(line, end=end, file=sys.stderr, flush=True)

    return show


def _table(history: History) -> str:
    rows = [
        [part, f"{samples - errors:,} of {samples:,} right", f"{errors:,}", f"{1 - errors / samples:.2%}"]
        for part, errors, samples in (
            ("training part", history.train_errors, history.train_samples),
            ("test part", history.test_errors, history.test_samples),
        )
    ]
    facts = (
        f"{history.recipe} on {history.data}: {history.parameters:,} parameters, {history.epochs} epochs, "
        f"seed {history.seed}, loss {history.loss[0]:.4f} → {history.loss[-1]:.4f}, {history.seconds:.1f} s\n"
        f"test part: {history.split_note}"
    )
    return f"{facts}\n\n{text_table(['', 'answers', 'errors', 'accuracy'], rows, left=2)}"
