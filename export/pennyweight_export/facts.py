"""What a written model file is, read back from its bytes and held to what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pennyweight.errors import PennyweightError
from pennyweight.manifest import Wire


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


class FileFacts(NamedTuple):
    """A model file: operators by type, those that compute in float, those that aren't built in."""

    operators: Mapping[str, int]
    float_operators: Mapping[str, int]
    foreign_operators: tuple[str, ...]
    inputs: tuple[TensorFact, ...]
    outputs: tuple[TensorFact, ...]


QUANTISED = {"QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear"}
# Operators that hold a network's weights and nearly all of its work: in an int8 file they must be integer.
WEIGHTED = {
    "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "BATCH_MATMUL",
    "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "RNN", "SVDF",
}  # fmt: skip


def require_asked(
    facts: FileFacts, artifact: str, precision: str, inputs: tuple[Wire, ...], outputs: tuple[Wire, ...]
) -> None:
    """Raise PennyweightError where a file isn't what was asked for.

    Args:
        facts: what the file is.
        artifact: its name, for the error.
        precision: "float32" or "int8".
        inputs, outputs: the wires' tensors and dtypes that were asked for.
    """
    if facts.foreign_operators:
        names = ", ".join(facts.foreign_operators)
        raise PennyweightError(f"{artifact}: needs {names}, which the engines lack; rebuild the layer from common ones")
    for asked, found in ((inputs, facts.inputs), (outputs, facts.outputs)):
        _require_wires(artifact, asked, found)
    floats = sorted(WEIGHTED & set(facts.float_operators))
    if precision == "int8" and floats:
        raise PennyweightError(f"{artifact}: int8 was asked for, but {', '.join(floats)} computes in float")
    if precision == "int8" and not facts.operators.keys() - facts.float_operators.keys() - QUANTISED:
        raise PennyweightError(f"{artifact}: int8 was asked for, but no operator computes in integers")
    if precision == "float32" and facts.operators.keys() & QUANTISED:
        raise PennyweightError(f"{artifact}: float32 was asked for, but the file is quantised")


def _require_wires(artifact: str, asked: tuple[Wire, ...], found: tuple[TensorFact, ...]) -> None:
    by_name = {fact.name: fact for fact in found}
    if len(by_name) != len(asked):
        raise PennyweightError(f"{artifact}: has {len(by_name)} tensors where {len(asked)} were asked for")
    for wire in asked:
        fact = by_name.get(wire.tensor)
        if fact is None or fact.dtype != wire.dtype:
            have = f"{fact.dtype} {fact.name!r}" if fact else ", ".join(by_name)
            raise PennyweightError(f"{artifact}: {wire.dtype} {wire.tensor!r} was asked for, the file has {have}")
        if not fact.shape or fact.shape[0] != -1:
            raise PennyweightError(f"{artifact}: {wire.tensor!r} is fixed to {fact.shape}; its batch must be free")
