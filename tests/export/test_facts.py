"""A file that isn't what was asked for is refused, each in its own way; the files are the converters' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from pennyweight.errors import PennyweightError
from pennyweight.manifest import Wire
from pennyweight_export._tensorflow import tf
from pennyweight_export.facts import TensorFact, require_asked
from pennyweight_export.onnx_file import read_onnx
from pennyweight_export.quiet import quiet
from pennyweight_export.recipes import recipe_for
from pennyweight_export.tflite_file import read_tflite


def converted(body: Any, shape: tuple[int | None, ...] = (None, 512), **settings: Any) -> bytes:
    """Convert a function of one float32 tensor ``x`` with TensorFlow's converter."""
    function = tf.function(lambda x: {"y": body(x)}, input_signature=[tf.TensorSpec(shape, tf.float32, "x")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    for name, value in settings.items():
        setattr(converter, name, value)
    with quiet():
        content: bytes = converter.convert()
    return content


def dense(x: Any) -> Any:
    # Large enough that the converter thinks quantising the weights worth it.
    return tf.matmul(x, tf.constant(np.linspace(-1, 1, 512 * 4, dtype=np.float32).reshape(512, 4)))


def asked(content: bytes, precision: str, dtype: str = "float32", format_: str = "tflite") -> None:
    recipe = recipe_for(f"{precision}.{format_}")
    assert recipe
    facts = (read_tflite if format_ == "tflite" else read_onnx)(content, recipe.name)
    wires = (Wire("x", facts.inputs[0].name, dtype),), (Wire("y", facts.outputs[0].name, "float32"),)
    require_asked(facts, recipe, *wires)


FLOAT = converted(dense)


def test_a_float_file_is_a_float_file() -> None:
    asked(FLOAT, "float32")
    facts = read_tflite(FLOAT, "a.tflite")
    assert facts.operators == facts.float_operators == {"FULLY_CONNECTED": 1}
    assert (facts.inputs[0].shape, facts.inputs[0].dtype) == ((-1, 512), "float32")


def test_a_float_file_is_not_int8() -> None:
    with pytest.raises(PennyweightError, match="int8 was asked for, but FULLY_CONNECTED computes in float"):
        asked(FLOAT, "int8")


def test_a_file_with_int8_weights_and_float_activations_is_not_int8() -> None:
    dynamic = converted(dense, optimizations=[tf.lite.Optimize.DEFAULT])
    assert len(dynamic) < len(FLOAT)
    with pytest.raises(PennyweightError, match="FULLY_CONNECTED has float32 activations"):
        asked(dynamic, "int8")
    asked(dynamic, "dynamic-int8")


def test_a_file_that_computes_nothing_is_not_int8() -> None:
    with pytest.raises(PennyweightError, match="no operator computes in integers"):
        asked(converted(tf.sin), "int8")


def test_an_int8_file_is_not_float32() -> None:
    def samples() -> Any:
        return ([np.full((1, 512), value, np.float32)] for value in (-1, 0, 1))

    int8 = converted(dense, optimizations=[tf.lite.Optimize.DEFAULT], representative_dataset=samples)
    asked(int8, "int8")
    with pytest.raises(PennyweightError, match="float32 was asked for, but the file is quantised"):
        asked(int8, "float32")


def test_a_flex_operator_is_refused() -> None:
    target = tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS])
    flex = converted(tf.math.cumprod, target_spec=target)
    with pytest.raises(PennyweightError, match="needs FlexCumprod, which the engines lack"):
        asked(flex, "float32")


def test_another_wire_is_refused() -> None:
    with pytest.raises(PennyweightError, match=r"uint8 .* was asked for, the file has float32"):
        asked(FLOAT, "float32", dtype="uint8")


def test_a_fixed_batch_is_refused() -> None:
    with pytest.raises(PennyweightError, match="its batch must be free"):
        asked(converted(dense, (1, 512)), "float32")


@pytest.mark.parametrize("content", [b"", b"TFL3" * 20, FLOAT[:300]])
def test_what_is_no_tflite_model_is_refused(content: bytes) -> None:
    with pytest.raises(PennyweightError, match="not readable as a TFLite model"):
        read_tflite(content, "a.tflite")


def onnx_model(operator: str = "Relu", domain: str = "", opset: int = 17) -> bytes:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node(operator, ["x"], ["y"], domain=domain)
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, ["batch", 4])], [value("y", 1, ["batch", 4])])
    imports = [onnx.helper.make_opsetid("", opset), *([onnx.helper.make_opsetid(domain, 1)] if domain else [])]
    content: bytes = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    return content


def test_an_onnx_file_is_read() -> None:
    facts = read_onnx(onnx_model(), "a.onnx")
    assert facts.operators == {"Relu": 1}
    assert facts.inputs == (TensorFact("x", (-1, 4), "float32", key="x"),)
    asked(onnx_model(), "float32", format_="onnx")


def test_an_onnx_operator_of_another_domain_is_refused() -> None:
    with pytest.raises(PennyweightError, match=r"needs com.microsoft.Gelu"):
        asked(onnx_model("Gelu", "com.microsoft"), "float32", format_="onnx")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a valid ONNX model"),
        (onnx_model()[:40], "not a valid ONNX model"),
        (onnx_model("NoSuchOperator"), "not a valid ONNX model"),
        (onnx_model(opset=16), "opset 17 was asked for, the file has 16"),
    ],
)
def test_what_is_no_such_onnx_model_is_refused(content: bytes, match: str) -> None:
    with pytest.raises(PennyweightError, match=match):
        read_onnx(content, "a.onnx")
