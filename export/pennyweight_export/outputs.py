"""What an output means: classes of a sample or of each of its pixels, several labels at once, or plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pennyweight.errors import InputError
from pennyweight.manifest import OutputSpec

from ._tensorflow import keras
from .arrays import Array
from .foreign import is_opaque

# Layers that pass on what they are given, so that the activation before them counts.
_PASSING = {"Identity", "Reshape", "Flatten", "Permute", "Dropout", "Cropping2D", "Cropping1D", "Squeeze"}


def recognise_output(
    tensor: Any,
    answers: Mapping[str, Array],
    labels: Sequence[str] | None,
    asked: bool,
    probe: Callable[[], Array],
) -> tuple[OutputSpec, str, bool]:
    """Tell an output's meaning from its shape, its last activation and the data's answers.

    Args:
        tensor: the Keras model's output.
        answers: the data's answers of both parts, training first, by what errors call them.
        labels: the classes' names, where they are known.
        asked: the user gave the names, so they must be of use.
        probe: gives the model's own answers to a few samples, for endings that no layer tells.

    Returns:
        The output; the head to append ("softmax", "sigmoid" or ""); whether the answers are one-hot rows.

    Raises:
        InputError: labels that don't fit, or answers of another shape than the model's.
    """
    shape = tuple(int(size) for size in tensor.shape[1:])
    train = next(iter(answers.values()))
    ending = _ending(tensor, probe)
    kind = _kind(shape, ending, train)
    if kind == "numbers":
        if asked:
            raise InputError("labels were given, but the data's targets are no class numbers; leave --labels out")
        _require_targets(shape, answers)
        return OutputSpec("output", shape, "raw", "none"), "", False
    head = "" if ending in ("softmax", "sigmoid") else "sigmoid" if kind == "multi" or shape[-1] == 1 else "softmax"
    if kind == "multi":
        names = _labels(shape[-1], labels)
        return OutputSpec("probabilities", shape, "probabilities", "multi", names), head, False
    classes = 2 if shape[-1] == 1 else shape[-1]
    names = _labels(classes, labels)
    one_hot = train.dtype != np.int64
    if not one_hot:
        _require_classes(classes, answers)
    # The manifest names two classes of one number only where it is a sample's, not each pixel's.
    spec = OutputSpec(
        "probabilities", shape, "probabilities", "single", names if len(names) == shape[-1] or shape == (1,) else ()
    )
    return spec, head, one_hot


def _kind(shape: tuple[int, ...], ending: str, train: Array) -> str:
    """Give "single", "multi" or "numbers"."""
    if not shape:
        return "numbers"
    if train.dtype.kind in "iu" and train.shape[1:] in (shape[:-1], (*shape[:-1], 1)) and train.ndim >= len(shape):
        if shape[-1] == 1 and (len(shape) > 1 or ending != "sigmoid"):
            # One output with whole-number targets stands for a class only where the targets are the two classes.
            return "single" if _zeros_and_ones(train) else "numbers"
        return "single"
    if train.shape[1:] != shape or len(shape) != 1 or shape[0] < 2 or not _zeros_and_ones(train):
        return "numbers"
    if not (train == 0).any():
        return "numbers"
    if (train.sum(axis=1) == 1).all():
        return "single" if ending in ("softmax", "sigmoid") else "numbers"
    return "multi" if ending != "softmax" else "numbers"


def _zeros_and_ones(array: Array) -> bool:
    return bool(((array == 0) | (array == 1)).all())


def _require_targets(shape: tuple[int, ...], answers: Mapping[str, Array]) -> None:
    """Refuse targets that can't be this output's; of one number a sample both (n,) and (n, 1) will do."""
    for what, array in answers.items():
        if array.shape[1:] != shape and array[:1].size != int(np.prod(shape)):
            raise InputError(
                f"{what} has shape {array.shape[1:]} a sample, the model's output {shape}; give its own data"
            )


def _labels(classes: int, given: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(given or (str(index) for index in range(classes)))
    if len(names) != classes:
        raise InputError(f"{len(names)} labels ({', '.join(names)[:80]}) for {classes} classes; name each class once")
    if len(set(names)) != classes:
        raise InputError(f"the labels {', '.join(names)[:80]} repeat one; name each class once")
    return names


def _require_classes(classes: int, answers: Mapping[str, Array]) -> None:
    for part, targets in answers.items():
        if targets.min() < 0 or targets.max() >= classes:
            raise InputError(
                f"{part} holds classes from {targets.min()} to {targets.max()}, the model has 0..{classes - 1}; "
                "give the data it was made for"
            )


def _ending(tensor: Any, probe: Callable[[], Array]) -> str:
    """Name the activation that an output passed last: such as "softmax"; "linear" where there is none."""
    last = tensor._keras_history.operation
    while isinstance(last, keras.Model) and getattr(last, "outputs", None):
        inner = last.outputs[0]._keras_history.operation
        if inner is last:
            break
        last = inner
    kind = type(last).__name__
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    if kind in _PASSING or is_opaque(last):
        return _ending_of(probe())
    activation = getattr(last, "activation", None)
    return str(getattr(activation, "__name__", kind.lower() if activation is None else "linear"))


def _ending_of(answers: Array) -> str:
    """Tell from a model's answers whether they are probabilities."""
    if (
        answers.shape[-1:] not in ((), (1,))
        and (answers >= 0).all()
        and np.allclose(answers.sum(axis=-1), 1, atol=1e-3)
    ):
        return "softmax"
    return "sigmoid" if ((answers >= 0) & (answers <= 1)).all() else "linear"
