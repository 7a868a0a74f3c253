"""The engine onnxruntime."""

from __future__ import annotations

import os
from typing import Any

# From 1.30 on it writes and uploads usage data unless this is set before the import; a user who set it decides.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

from . import Array, Read, Run, RunOne, TensorSpec

PROVIDER = "CPUExecutionProvider"
_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(bool)": "bool",
}


def version() -> str:
    """Give the installed version."""
    return str(onnxruntime.__version__)


def open_engine(read: Read, threads: int) -> ONNXEngine:
    """Load an ``.onnx`` file, whose bytes ``read`` gives."""
    return ONNXEngine(read, threads)


class ONNXEngine:
    """An ONNX model in one inference session on the CPU; any batch size that the file allows."""

    name = "onnxruntime"

    def __init__(self, read: Read, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between frames heat the device and take the camera's core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = _session(read, options)
        self.version = version()
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())

    def bind(self, batch: int) -> Run:
        """Give the function from arrays by tensor name to arrays by tensor name."""
        names = [spec.name for spec in self.outputs]
        call = self._session.run

        def run(arrays: dict[str, Array]) -> dict[str, Array]:
            return dict(zip(names, call(names, arrays)))

        return run

    def bind_one(self, batch: int) -> RunOne:
        """Give the function from array to array of a model with one input and one output.

        Both arrays are bound ahead of the calls, which saves half of a small model's time. That needs known
        shapes, and memory that the session really shares with numpy; otherwise plain ``run`` serves.
        """
        (to,), (out,) = self.inputs, self.outputs
        given, answer = _buffer(to, batch), _buffer(out, batch)
        if given is None or answer is None:
            return self._run_one(to.name, out.name)
        binding = self._session.io_binding()
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu") for array in (given, answer)]
        if any(value.data_ptr() != array.ctypes.data for value, array in zip(values, (given, answer))):
            return self._run_one(to.name, out.name)
        binding.bind_ortvalue_input(to.name, values[0])
        binding.bind_ortvalue_output(out.name, values[1])
        call = self._session.run_with_iobinding

        def run(array: Array) -> Array:
            given[...] = array
            call(binding)
            return answer

        return run

    def _run_one(self, to: str, out: str) -> RunOne:
        call, names = self._session.run, [out]
        return lambda array: call(names, {to: array})[0]

    def close(self) -> None:
        """Let go of the session."""
        del self._session


def _session(read: Read, options: Any) -> Any:
    """Make a session of the bytes that ``read`` gives.

    The public constructor keeps them for as long as the session lives, beside what was made of them. Where a version
    adopts a session that was made outside, they are let go once they are parsed, before the session takes most.
    """
    adopt = getattr(onnxruntime.InferenceSession, "_from_initialized_c_session", None)
    make = getattr(getattr(onnxruntime.capi, "_pybind_state", None), "InferenceSession", None)
    if adopt is None or make is None:
        return onnxruntime.InferenceSession(read(), options, providers=[PROVIDER])
    session = make(options, read(), False, False)  # bytes, not a path; no options from inside the file
    session.initialize_session([PROVIDER], [{}], set())
    return adopt(session)


def _buffer(spec: TensorSpec, batch: int) -> Array:
    """Give an array for a tensor whose shape is known but for the batch, or None."""
    if not spec.shape or spec.shape[0] not in (-1, batch) or -1 in spec.shape[1:]:
        return None
    return np.zeros((batch, *spec.shape[1:]), spec.dtype)


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(value.name, shape, _DTYPES.get(value.type, value.type))
