"""What the wrapper of ai-edge-quantizer writes, on both TFLite engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as Litert

from pennyweight.errors import PennyweightError
from pennyweight_export._tensorflow import tf
from pennyweight_export.quantizer import Kind, minimum_maximum, observe, operators, quantise, with_uint8_input
from pennyweight_export.quiet import quiet
from pennyweight_export.tflite_file import read_tflite

ENGINES = ["ai-edge-litert", "tflite-runtime"]
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(0, 0.3, (64, 48)).astype(np.float32), RANDOM.normal(0, 0.3, (48, 16)).astype(np.float32)
PIXELS = RANDOM.integers(0, 256, (300, 64)).astype(np.uint8)
SEEN = PIXELS.astype(np.float32) / 255
SEEN[0, 0], SEEN[0, 1] = 0, 1


def network(x: Any) -> Any:
    return {"y": tf.nn.softmax(tf.matmul(tf.nn.relu(tf.matmul(x, WEIGHTS[0]) + 0.1), WEIGHTS[1]))}


def converted() -> bytes:
    function = tf.function(network, input_signature=[tf.TensorSpec((None, 64), tf.float32, "x")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    with quiet():
        content: bytes = converter.convert()
    return content


FLOAT = converted()
RANGES = minimum_maximum(FLOAT, {"": SEEN})
FIRST, SECOND, SOFTMAX = (operator.scope for operator in operators(FLOAT))
MIXED: dict[str, Kind] = {FIRST: "int8", SECOND: "int16", SOFTMAX: "float"}


def engine_named(name: str) -> Any:
    if name == "ai-edge-litert":
        return Litert
    return pytest.importorskip("tflite_runtime.interpreter", reason="tflite-runtime isn't installed").Interpreter


def run(engine: Any, content: bytes, inputs: Any) -> Any:
    interpreter = engine(model_content=content)
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_the_operators_are_named_in_the_order_in_which_they_run() -> None:
    assert [operator.type for operator in operators(FLOAT)] == ["FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]
    assert [len(operator.constants) for operator in operators(FLOAT)][2] == 0


@pytest.mark.parametrize("rows", [7, 300, 1000])
def test_ranges_do_not_depend_on_the_batch(rows: int) -> None:
    ranges = minimum_maximum(FLOAT, {"": SEEN}, rows)
    hidden = np.maximum(SEEN @ WEIGHTS[0] + np.float32(0.1), 0)
    assert ranges[operators(FLOAT)[0].inputs[0]] == (0, 1)
    np.testing.assert_allclose(ranges[operators(FLOAT)[0].outputs[0]], (0, hidden.max()), rtol=1e-5)
    assert set(ranges) == set(RANGES)
    # Sums in another order differ in the last bits.
    np.testing.assert_allclose([ranges[name] for name in RANGES], list(RANGES.values()), rtol=1e-5)


def test_every_sample_is_observed() -> None:
    batches = list(observe(FLOAT, {"": SEEN}, 128))
    assert [len(batch[operators(FLOAT)[2].outputs[0]]) for batch in batches] == [128, 128, 44]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("kind", "layers", "wire", "largest"),
    [
        # The largest error of a probability: int8 steps it by 1/256 and the logits by their range / 256; wider kinds
        # leave the error of the weights.
        ("int8", {}, "int8", 0.05),
        ("int16", {}, "float", 0.02),
        ("int8", {SOFTMAX: "float"}, "int8", 0.05),
        ("int8", MIXED, "int8", 0.05),
        ("int16", {FIRST: "float"}, "float", 0.02),
        ("float", {}, "float", 1e-5),
        ("weights int8", {}, "float", 0.02),
    ],
)
def test_each_kind_runs_right_on_each_engine(engine: str, kind: Any, layers: Any, wire: Any, largest: float) -> None:
    content = with_uint8_input(quantise(FLOAT, RANGES, kind, layers, wire), 1 / 255, 0)
    facts = read_tflite(content, "a.tflite")
    assert [(fact.dtype, fact.shape) for fact in (*facts.inputs, *facts.outputs)] == [
        ("uint8", (-1, 64)),
        ("float32", (-1, 16)),
    ]
    wanted = run(Litert, FLOAT, PIXELS.astype(np.float32) / 255)
    assert np.abs(run(engine_named(engine), content, PIXELS) - wanted).max() < largest


def test_the_wire_of_pixels_is_exact() -> None:
    content = with_uint8_input(quantise(FLOAT, RANGES, wire="int8"), 1 / 255, 0)
    seen = next(observe(content, {"": PIXELS}))[operators(FLOAT)[0].inputs[0]]
    np.testing.assert_array_equal(seen, PIXELS[: len(seen)].astype(int) - 128)


def test_an_operator_is_widened_alone() -> None:
    facts = read_tflite(quantise(FLOAT, RANGES, "int8", {SECOND: "int16"}, "int8"), "a.tflite")
    # int8 → float → int16: one QUANTIZE would do, but tflite-runtime 2.14 refuses it.
    assert (facts.operators["QUANTIZE"], facts.operators["DEQUANTIZE"]) == (2, 2)


def test_missing_ranges_are_refused() -> None:
    with pytest.raises(PennyweightError, match="ai-edge-quantizer refuses the model"):
        quantise(FLOAT, {FIRST[:-1]: (0.0, 1.0)})


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(PennyweightError, match="ai-edge-quantizer refuses the model"):
        quantise(FLOAT[:200], RANGES)
