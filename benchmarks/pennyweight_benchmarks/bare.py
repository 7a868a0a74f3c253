"""What the runtime is held to: each engine's own calls, and the recipe of the tutorials, without our code between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], Any]


def tflite_interpreter(engine: str, content: bytes, threads: int = 1) -> Any:
    """Load a model file with tflite-runtime or ai-edge-litert, ready to run."""
    if engine == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter
    else:
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def onnx_session(content: bytes, threads: int = 1) -> Any:
    """Load a model file with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def bare_calls(engine: str, content: bytes, batch: Any) -> Call:
    """Give the engine's fastest public way to set this ready-made batch, run, and get the answer."""
    if engine == "onnxruntime":
        return _bound(content, batch)
    interpreter = tflite_interpreter(engine, content)
    to = interpreter.get_input_details()[0]["index"]
    if len(batch) > 1:
        interpreter.resize_tensor_input(to, batch.shape)
        interpreter.allocate_tensors()
    out = interpreter.get_output_details()[0]["index"]
    set_tensor, invoke, get_tensor = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor

    def call() -> Any:
        set_tensor(to, batch)
        invoke()
        return get_tensor(out)

    return call


def _bound(content: bytes, batch: Any) -> Call:
    import onnxruntime

    session = onnx_session(content)
    to, out = session.get_inputs()[0].name, session.get_outputs()[0].name
    answer = session.run([out], {to: batch})[0]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu") for array in (batch.copy(), answer)]
    binding = session.io_binding()
    binding.bind_ortvalue_input(to, values[0])
    binding.bind_ortvalue_output(out, values[1])
    run, update, get = session.run_with_iobinding, values[0].update_inplace, values[1].numpy

    def call() -> Any:
        update(batch)
        run(binding)
        return get()

    return call


def usual_recipe(engine: str, content: bytes) -> Callable[[Any], tuple[int, float]]:
    """Give what tutorials write: float, divide, quantise, set, invoke, get, dequantise, softmax, argmax.

    ``content`` is a plain conversion with a float or int8 input of 0 to 1 and logits out.
    """
    if engine == "onnxruntime":
        session = onnx_session(content)

        def by_session(image: Any) -> tuple[int, float]:
            x = np.expand_dims(image.astype(np.float32) / 255.0, 0)
            return _top(session.run(None, {session.get_inputs()[0].name: x})[0][0])

        return by_session
    interpreter = tflite_interpreter(engine, content)

    def by_interpreter(image: Any) -> tuple[int, float]:
        to, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        x = np.expand_dims(image.astype(np.float32) / 255.0, 0)
        if to["dtype"] == np.int8:
            scale, zero_point = to["quantization"]
            x = np.clip(np.round(x / scale + zero_point), -128, 127).astype(np.int8)
        interpreter.set_tensor(to["index"], x)
        interpreter.invoke()
        y = interpreter.get_tensor(out["index"])[0]
        if out["dtype"] == np.int8:
            scale, zero_point = out["quantization"]
            y = (y.astype(np.float32) - zero_point) * scale
        return _top(y)

    return by_interpreter


def _top(logits: Any) -> tuple[int, float]:
    exponentials = np.exp(logits - np.max(logits))
    probabilities = exponentials / exponentials.sum()
    return int(np.argmax(probabilities)), float(np.max(probabilities))


BARE_START = """
import sys, time
import numpy as np
engine, path, inputs = sys.argv[1:]
images = np.load(inputs)
if engine == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    out = session.run(None, {session.get_inputs()[0].name: images[:1]})[0]
else:
    if engine == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter
    else:
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images[:1])
    interpreter.invoke()
    out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
label = int(out[0].argmax())
stamp = time.monotonic_ns()
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(stamp, peak, label)
"""

LOAD_START = """
import sys, time
from pennyweight import load
bundle, artifact, engine, inputs = sys.argv[1:]
model = load(bundle, artifact=artifact, engine=engine)
import numpy as np
images = np.load(inputs)
label, _ = model.classify(images[0])
stamp = time.monotonic_ns()
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(stamp, peak, label)
"""
# The same in a program that has numpy imported before: nothing large is left to read the artifact beside.
LATE_START = "import numpy as np\n" + LOAD_START
