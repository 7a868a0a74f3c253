"""The original Keras model, asked: fed as its training fed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pennyweight.errors import InputError

from ._tensorflow import keras, tf
from .arrays import Array, Arrays
from .gathering import Gathering

if TYPE_CHECKING:
    from .interface import Input, Interface, KerasModel

ROWS = 1024


def original_answers(model: KerasModel, interface: Interface, inputs: Arrays, folder: Path | None = None) -> Arrays:
    """Give the original Keras model's outputs on interface inputs, by name, with heads appended: (n, …) float32.

    Answers too many for the memory go to a nameless file in ``folder``, by default the system's for temporary files.

    Raises:
        InputError: an answer is NaN or infinite.
        OutputError: the disk is full.
    """
    samples = [inputs[entry.spec.name] for entry in interface.inputs]
    together = {output.spec.name: Gathering(len(samples[0]), folder) for output in interface.outputs}
    for batch in _batches(model, interface.inputs, samples):
        for output, raw in zip(interface.outputs, batch):
            answers = np.asarray(with_head(raw, output.head)) if output.head else raw
            if not np.isfinite(answers).all():
                raise InputError("the model itself answers NaN or infinity on evaluation samples; train it again")
            together[output.spec.name].add(answers)
    return {name: gathering.array() for name, gathering in together.items()}


def raw_answers(model: KerasModel, inputs: Sequence[Input], samples: Sequence[Array]) -> list[Array]:
    """Give a Keras model's own outputs, float32, on samples as the interface takes them, in the inputs' order."""
    return [np.concatenate(parts) for parts in zip(*_batches(model, inputs, samples))]


def _batches(model: KerasModel, inputs: Sequence[Input], samples: Sequence[Array]) -> Iterator[list[Array]]:
    call = tf.function(lambda *batch: called(model, batch), autograph=False)
    for start in range(0, len(samples[0]), ROWS):
        batch = [tf.constant(_fed(array[start : start + ROWS], entry)) for array, entry in zip(samples, inputs)]
        yield [answer.numpy().astype(np.float32) for answer in call(*batch)]


def called(model: KerasModel, values: Sequence[Any]) -> list[Any]:
    """Call a Keras model on its inputs in their order; give its outputs in theirs."""
    cast = [
        tf.cast(given, tensor.dtype) if given.dtype.is_integer else given for given, tensor in zip(values, model.inputs)
    ]
    answers: list[Any] = keras.tree.flatten(model(packed(model, cast), training=False))
    return answers


def packed(model: KerasModel, values: Sequence[Any]) -> Any:
    """Give values, one for each input, in the structure in which a model takes them."""
    if isinstance(model, keras.Sequential) or (len(values) == 1 and not isinstance(model.input, dict)):
        return values[0]
    return keras.tree.pack_sequence_as(model.input, list(values))


def with_head(answers: Any, head: str) -> Any:
    """Append the softmax or sigmoid that the model lacks."""
    return {"softmax": tf.nn.softmax, "sigmoid": tf.math.sigmoid, "": tf.identity}[head](answers)


def _fed(batch: Array, entry: Input) -> Array:
    """Give samples as the training fed them to the Keras model."""
    if entry.swapped:
        batch = batch[..., ::-1]
    if np.all(np.equal(entry.scale, 1)) and np.all(np.equal(entry.offset, 0)):
        return batch
    fed: Array = batch.astype(np.float32) * np.asarray(entry.scale, np.float32) + np.asarray(entry.offset, np.float32)
    return fed
