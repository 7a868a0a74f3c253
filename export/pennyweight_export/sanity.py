"""Whether the original model is any good on the data as they are prepared, before anything is converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pennyweight.errors import UsageError
from pennyweight.samples import Samples
from pennyweight.tallies import chosen_classes
from pennyweight_data import pieces

from .arrays import Array
from .original import raw_answers, with_head
from .preprocessing import Preprocessing, candidates
from .quiet import quiet

if TYPE_CHECKING:
    from .interface import Input, Interface, KerasModel

# Above this accuracy nobody asks whether the pixels were prepared as in training.
GOOD = 0.8
# Of the way from chance to perfect: so little is near chance.
NEAR = 0.1
# Another preparation is named where it is right so much more often, and more than half-way from chance to perfect.
BETTER = 0.2
TRIED = 512
FEWEST = 30


def require_better_than_chance(model: KerasModel, interface: Interface, evaluated: Samples) -> None:
    """Stop where a classifier is near chance, or far better on pixels that are prepared in another common way.

    Raises:
        UsageError: so it is; the line names the preparation with which the model is right, where one is.
    """
    if len(interface.outputs) != 1 or evaluated.labels is None or evaluated.rows < FEWEST:
        return
    output = interface.outputs[0]
    if output.spec.labelling != "single" or len(output.spec.shape) != 1:
        return
    right = named_right(evaluated.outputs[output.spec.name], evaluated.labels)
    accuracy, (recall, chance) = float(right.mean()), _balanced(right, evaluated.labels)
    if accuracy >= GOOD:
        return
    said = f"the original is right on {accuracy:.1%} of {evaluated.rows:,} evaluation samples"
    best = _best(model, interface, evaluated)
    if best is not None and best[2] >= max(accuracy + BETTER, (1 + chance) / 2):
        name, found, share = best
        raise UsageError(f"{said}, but on {share:.1%} with {name}: {_advice(interface, found)}, or add --any-accuracy")
    if recall <= chance + NEAR * (1 - chance):
        raise UsageError(
            f"{said}, which is near chance: give the data as in training (--scale, --offset or --preprocess, the "
            "classes' order), or add --any-accuracy"
        )


def named_right(outputs: Array, labels: Array) -> Array:
    """Say of each sample whether its most probable class is its label: (n,) bool."""
    chosen: Array = np.concatenate([chosen_classes(piece) for piece in pieces(outputs)])
    right: Array = chosen == labels
    return right


def _balanced(right: Array, labels: Array) -> tuple[float, float]:
    """Give the mean recall of the classes that occur, and what guessing would give: one class too common hides it."""
    classes = np.unique(labels)
    return float(np.mean([right[labels == one].mean() for one in classes])), 1 / max(2, len(classes))


def _best(model: KerasModel, interface: Interface, evaluated: Samples) -> tuple[str, Preprocessing, float] | None:
    """Try the common preparations; give the one with which the model is right most often, with its accuracy."""
    (entry, *others), (output,) = interface.inputs, interface.outputs
    if others or entry.takes != "float32":
        return None
    rows = np.random.default_rng(0).permutation(evaluated.rows)[:TRIED]
    samples, labels = evaluated.inputs[entry.spec.name][rows], np.asarray(evaluated.labels)[rows]
    tried = []
    for name, found in _candidates(entry):
        scale, offset, swapped = found.for_shape(entry.spec.shape)
        fed = entry._replace(scale=scale, offset=offset, swapped=swapped)
        with quiet():  # TensorFlow warns of functions that are made again and again
            raw = raw_answers(model, [fed], [samples])[0]
        answers = np.asarray(with_head(raw, output.head))
        if np.isfinite(answers).all():
            tried.append((name, found, float((chosen_classes(answers) == labels).mean())))
    return max(tried, key=lambda one: one[2], default=None)


def _candidates(entry: Input) -> list[tuple[str, Preprocessing]]:
    if entry.spec.dtype == "uint8":
        return candidates(entry.spec.shape)
    # Floats that someone divided by 255, for a model that does so itself.
    return [("the floats × 255", Preprocessing(255.0))]


def _advice(interface: Interface, found: Preprocessing) -> str:
    if interface.inputs[0].spec.dtype != "uint8":
        return "give the data as uint8 pixels"
    return f"use {found.option}" if found.option else "leave --scale, --offset and --preprocess out"
