"""TensorFlow's converter: a graph in, a ``.tflite`` file of one precision out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from ._tensorflow import tf
from .arrays import Arrays
from .graph import Graph
from .quiet import quiet


def convert_float32(graph: Graph, inner: bool = False) -> bytes:
    """Convert with float32 weights and activations; with ``inner`` from the graph after rescaling.

    Raises:
        PennyweightError: TensorFlow's converter can't; so do the other conversions.
    """
    return _converted(_converter(graph, inner))


def convert_float16(graph: Graph) -> bytes:
    """Convert with float16 weights, which the engine turns into float32 once, as it loads the file."""
    converter = _converter(graph)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return _converted(converter)


def convert_dynamic(graph: Graph, per_channel: bool) -> bytes:
    """Convert with int8 weights and activations that the engine quantises as they come.

    ``per_channel`` gives each unit of a Dense layer a scale of its own, which older engines can't read.
    """
    converter = _converter(graph)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel
    return _converted(converter)


def convert_integer(graph: Graph, seen: Arrays, wire: str, activations: str) -> bytes:
    """Convert with int8 weights and int8 or int16 activations, from the graph after rescaling.

    Args:
        graph: the model.
        seen: calibration samples as ``Graph.inner`` takes them, (n, *shape) by name.
        wire: dtype of the inputs that get quantised: "float32", or "uint8" with int8 and "int16" with int16
            activations; outputs are float32, dequantised in the graph.
        activations: "int8" or "int16".
    """
    if graph.loops:
        raise PennyweightError(
            "TensorFlow's converter crashes when it quantises a loop, which this model has: a recurrent layer that is "
            "too long to be written out, or one in a model that Keras can't rebuild"
        )
    converter = _converter(graph, inner=True)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _one_by_one(seen)
    sets = tf.lite.OpsSet
    wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    integer = sets.TFLITE_BUILTINS_INT8 if activations == "int8" else wide
    # With the float set beside it, an operator without an integer kernel stays in float, and reading back finds it.
    converter.target_spec.supported_ops = [integer, sets.TFLITE_BUILTINS]
    converter.inference_input_type = getattr(tf, wire)
    converter.inference_output_type = tf.float32
    return _converted(converter)


def _converter(graph: Graph, inner: bool = False) -> Any:
    # One for each artifact: a converter's settings leak into its next conversion.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.for_tflite(inner)], graph)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _converted(converter: Any) -> bytes:
    try:
        with quiet():
            content: bytes = converter.convert()
    except Exception as error:
        raise PennyweightError(f"TensorFlow's converter refuses the model; {_cause(error)}") from error
    return content


def _cause(error: Exception) -> str:
    missing = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
    if missing is None:
        return first_line(error)
    return f"TFLite has no {missing[1].strip()}: rebuild that layer from common operations"


def _one_by_one(samples: Arrays) -> Callable[[], Any]:
    rows = len(next(iter(samples.values())))
    return lambda: ({name: array[index : index + 1] for name, array in samples.items()} for index in range(rows))
