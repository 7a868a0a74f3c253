"""Models that aren't Keras 3's own, or state no inputs, behind the face of a Functional model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pennyweight.engines import first_line
from pennyweight.errors import InputError
from pennyweight_data import Dataset

from ._tensorflow import keras, tf
from .quiet import quiet

KerasModel = Any  # Keras has no types that strict checking could use


class Foreign(keras.layers.Layer):  # type: ignore[misc]
    """A TensorFlow function as a layer: its inputs by name in, its outputs by name out.

    ``dtypes`` are the inputs' in their order, to which what comes is cast. ``foreign_variables`` are the function's.
    """

    def __init__(self, body: Callable[[list[Any]], Any], dtypes: Sequence[Any], variables: Sequence[Any]) -> None:
        super().__init__(name="model", dtype="float32")
        self._body = body
        self._dtypes = tuple(dtypes)
        self.foreign_variables = list(variables)

    def call(self, inputs: list[Any]) -> Any:
        """Give the function's outputs as a list."""
        return self._body([tf.cast(values, dtype) for values, dtype in zip(inputs, self._dtypes)])


def is_opaque(layer: Any) -> bool:
    """Say whether Keras can't rebuild a layer from its configuration: foreign functions and subclassed models."""
    subclassed = isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential)
    return isinstance(layer, Foreign) or (subclassed and not getattr(layer, "inputs", None))


def variables_of(model: KerasModel) -> list[Any]:
    """Give all TensorFlow variables that a model computes with."""
    foreign = [variable for layer in model.layers if isinstance(layer, Foreign) for variable in layer.foreign_variables]
    return [variable.value for variable in model.variables] + foreign


def wrapped_signature(loaded: Any, signature: Any, where: str) -> KerasModel:
    """Give a SavedModel's signature as a Functional model with the signature's names."""
    given: dict[str, Any] = signature.structured_input_signature[1]
    names, outputs = list(given), sorted(signature.structured_outputs)
    if not names:
        raise InputError(f"{where}: its signature takes no input; export it with model.export('FOLDER')")

    def body(values: list[Any]) -> list[Any]:
        answers = signature(**dict(zip(names, values)))
        return [answers[name] for name in outputs]

    # The loaded object owns the variables: without it they would be gone.
    layer = Foreign(body, [given[name].dtype for name in names], signature.variables)
    layer.kept = loaded
    return _functional(layer, {name: (given[name].shape[1:], given[name].dtype.name) for name in names}, outputs)


def wrapped_keras2(model: Any) -> KerasModel:
    """Give a tf_keras model as a Functional one."""
    names = [tensor.name.partition(":")[0] for tensor in model.inputs]

    def body(values: list[Any]) -> list[Any]:
        return list(tf.nest.flatten(model(values[0] if len(values) == 1 else values, training=False)))

    layer = Foreign(body, [tensor.dtype for tensor in model.inputs], model.variables)
    layer.kept = model
    entries = {name: (tensor.shape[1:], tensor.dtype.name) for name, tensor in zip(names, model.inputs)}
    return _functional(layer, entries, list(model.output_names))


def with_inputs(model: KerasModel, data: Dataset) -> KerasModel:
    """Give a model that states its inputs: itself, or a subclassed one called on what the data look like.

    Raises:
        InputError: the model can't be called on such data.
    """
    if getattr(model, "inputs", None):
        return model
    samples = dict(data.x_train) if isinstance(data.x_train, Mapping) else {"input": data.x_train}
    tokens = {name for name, array in samples.items() if array.dtype.kind in "iu" and array.dtype != np.uint8}
    errors: list[Exception] = []
    # Whole numbers wider than a pixel are token ids, unless the model takes no such thing.
    for whole in (tokens, set[str]()) if tokens else (tokens,):
        entries = {
            name: keras.Input(array.shape[1:], dtype="int32" if name in whole else "float32", name=name)
            for name, array in samples.items()
        }
        given = entries if isinstance(data.x_train, Mapping) else entries["input"]
        try:
            with quiet():
                return keras.Model(given, model(given))
        except Exception as error:  # noqa: BLE001  a model's own code raises whatever it likes
            errors.append(error)
    shapes = ", ".join(f"{array.dtype} {array.shape[1:]}" for array in samples.values())
    raise InputError(
        f"the model can't be called on samples of {shapes} ({first_line(errors[-1])}); give its own data"
    ) from errors[-1]


def _functional(layer: Foreign, entries: dict[str, tuple[Any, str]], outputs: Sequence[str]) -> KerasModel:
    inputs = {name: keras.Input(tuple(shape), dtype=dtype, name=name) for name, (shape, dtype) in entries.items()}
    answers = layer(list(inputs.values()))
    named = {name: keras.layers.Identity(name=_layer_name(name))(answer) for name, answer in zip(outputs, answers)}
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    return keras.Model(given, named if len(named) > 1 else next(iter(named.values())))


def _layer_name(name: str) -> str:
    return f"output_{name}".replace("/", "_")
