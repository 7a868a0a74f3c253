"""What a written model file is, read back from its bytes and held to what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pennyweight.errors import PennyweightError
from pennyweight.manifest import Wire

from .recipes import WIDER, Recipe


class TensorFact(NamedTuple):
    """One input or output in a file: its name, shape (−1 where free), dtype, and quantisation where it has one.

    ``key`` is what the file's signature calls it, which is the interface's name.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    key: str = ""


class LayerFact(NamedTuple):
    """An operator that multiplies with weights: its activations' dtype, and that in which its weights are stored.

    ``weights`` is None where both factors are computed. ``in_float`` says that it computes in float.
    """

    operator: str
    activations: str
    weights: str | None
    in_float: bool


class FileFacts(NamedTuple):
    """A model file: operators by type, those that compute in float, those that aren't built in, and its layers."""

    operators: Mapping[str, int]
    float_operators: Mapping[str, int]
    foreign_operators: tuple[str, ...]
    inputs: tuple[TensorFact, ...]
    outputs: tuple[TensorFact, ...]
    layers: tuple[LayerFact, ...]


QUANTISED = {"QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}


def require_asked(
    facts: FileFacts, recipe: Recipe, inputs: tuple[Wire, ...], outputs: tuple[Wire, ...], batch: int = -1
) -> None:
    """Raise PennyweightError where a file isn't what was asked for.

    Args:
        facts: what the file is.
        recipe: what was asked for.
        inputs, outputs: the wires' tensors and dtypes that were asked for.
        batch: 1 where the converter can't leave it free, otherwise −1.
    """
    artifact = recipe.name
    if facts.foreign_operators:
        names = ", ".join(facts.foreign_operators)
        raise PennyweightError(f"{artifact}: needs {names}, which the engines lack; rebuild the layer from common ones")
    for asked, found in ((inputs, facts.inputs), (outputs, facts.outputs)):
        _require_wires(artifact, asked, found, batch)
    wrong = _unlike(facts, recipe)
    if wrong:
        raise PennyweightError(f"{artifact}: {recipe.precision} was asked for, but {wrong}")


def _unlike(facts: FileFacts, recipe: Recipe) -> str:
    """Say in words what isn't as the recipe has it; "" where all is."""
    if recipe.precision == "float32" and facts.operators.keys() & QUANTISED:
        return "the file is quantised"
    stored = [layer for layer in facts.layers if layer.weights is not None]
    if recipe.activations == WIDER:
        return (
            "" if any(layer.weights == recipe.weights for layer in stored) else f"no layer has {recipe.weights} weights"
        )
    # A converter may leave a layer of few weights in float32, which a recipe with float activations can bear.
    mixed = recipe.activations == "float32" and recipe.weights.startswith("int")
    for layer in facts.layers:
        if recipe.integer and layer.in_float:
            return f"{layer.operator} computes in float"
        if layer.activations != recipe.activations:
            return f"{layer.operator} has {layer.activations} activations"
    for layer in stored:
        if layer.weights != recipe.weights and not (mixed and layer.weights == "float32"):
            return f"{layer.operator} has {layer.weights} weights"
        if recipe.precision == "dynamic-int8" and layer.weights == "int8" and layer.in_float:
            return f"{layer.operator} computes in float"
    if recipe.integer and not facts.operators.keys() - facts.float_operators.keys() - QUANTISED:
        return "no operator computes in integers"
    if not recipe.integer and recipe.weights != "float32" and not any(one.weights == recipe.weights for one in stored):
        return f"no layer has {recipe.weights} weights"
    return ""


def _require_wires(artifact: str, asked: tuple[Wire, ...], found: tuple[TensorFact, ...], batch: int) -> None:
    by_name = {fact.name: fact for fact in found}
    if len(by_name) != len(asked):
        raise PennyweightError(f"{artifact}: has {len(by_name)} tensors where {len(asked)} were asked for")
    for wire in asked:
        fact = by_name.get(wire.tensor)
        if fact is None or fact.dtype != wire.dtype:
            have = f"{fact.dtype} {fact.name!r}" if fact else ", ".join(by_name)
            raise PennyweightError(f"{artifact}: {wire.dtype} {wire.tensor!r} was asked for, the file has {have}")
        if not fact.shape or fact.shape[0] != batch:
            wanted = "free" if batch < 0 else str(batch)
            raise PennyweightError(f"{artifact}: {wire.tensor!r} is fixed to {fact.shape}; its batch must be {wanted}")
