"""What tflite-runtime and ai-edge-litert have in common: the TFLite Interpreter, one per batch size."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Callable

from . import Array, Run, RunOne, TensorSpec

# set, invoke and get of one interpreter, and its input and output tensors' indices by name.
_Calls = tuple[Callable[..., Any], Callable[[], Any], Callable[[int], Any], dict[str, int], dict[str, int]]

# Interpreters kept besides the first, whose batch is 1: each has buffers of its own for its batch size.
KEPT = 2


class TFLiteEngine:
    """A TFLite model behind the Interpreter class of one of the two packages."""

    def __init__(self, name: str, version: str, make: Callable[[], Any]) -> None:
        self.name = name
        self.version = version
        self._make = make
        first = make()
        first.allocate_tensors()
        inputs, outputs = first.get_input_details(), first.get_output_details()
        self.inputs = tuple(_spec(details) for details in inputs)
        self.outputs = tuple(_spec(details) for details in outputs)
        self._shapes = {details["name"]: tuple(int(size) for size in details["shape"]) for details in inputs}
        # What it was allocated for; the signature's batch is −1 where it is free.
        shape = self._shapes[self.inputs[0].name]
        self._first_batch = shape[0] if shape else 1
        self._kept: OrderedDict[int, _Calls] = OrderedDict({self._first_batch: _calls(first)})

    def bind(self, batch: int) -> Run:
        """Prepare a batch size; give the function from arrays by tensor name to arrays by tensor name."""
        set_tensor, invoke, get_tensor, inputs, outputs = self._prepared(batch)

        def run(arrays: dict[str, Array]) -> dict[str, Array]:
            for name, index in inputs.items():
                set_tensor(index, arrays[name])
            invoke()
            return {name: get_tensor(index) for name, index in outputs.items()}

        return run

    def bind_one(self, batch: int) -> RunOne:
        """Prepare a batch size of a model with one input and one output; give the function from array to array."""
        set_tensor, invoke, get_tensor, inputs, outputs = self._prepared(batch)
        (to,), (out,) = inputs.values(), outputs.values()

        def run(array: Array) -> Array:
            set_tensor(to, array)
            invoke()
            return get_tensor(out)

        return run

    def close(self) -> None:
        """Let go of the interpreters."""
        self._kept.clear()

    def _prepared(self, batch: int) -> _Calls:
        calls = self._kept.get(batch)
        if calls is None:
            interpreter = self._make()
            for details in interpreter.get_input_details():
                interpreter.resize_tensor_input(details["index"], (batch, *self._shapes[details["name"]][1:]))
            interpreter.allocate_tensors()
            calls = self._kept[batch] = _calls(interpreter)
            if len(self._kept) > KEPT + 1:
                self._kept.pop(next(size for size in self._kept if size != self._first_batch))
        self._kept.move_to_end(batch)
        return calls


def _spec(details: dict[str, Any]) -> TensorSpec:
    shape = tuple(int(size) for size in details.get("shape_signature", details["shape"]))
    scale, zero_point = details["quantization"]
    if not scale:
        return TensorSpec(details["name"], shape, details["dtype"].__name__)
    return TensorSpec(details["name"], shape, details["dtype"].__name__, float(scale), int(zero_point))


def _calls(interpreter: Any) -> _Calls:
    """Give set, invoke and get, and the tensors' indices by name.

    The wrapper's own calls skip the public ones' check for outside views of its buffers. This engine hands out
    none, so the check can't fire. Where a version has no such wrapper, the public calls serve.
    """
    inputs = {details["name"]: int(details["index"]) for details in interpreter.get_input_details()}
    outputs = {details["name"]: int(details["index"]) for details in interpreter.get_output_details()}
    inner: Any = getattr(interpreter, "_interpreter", None)
    if all(callable(getattr(inner, name, None)) for name in ("SetTensor", "Invoke", "GetTensor")):
        return inner.SetTensor, inner.Invoke, inner.GetTensor, inputs, outputs
    return interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor, inputs, outputs
