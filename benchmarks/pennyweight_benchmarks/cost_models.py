"""The models that the runtime's cost is measured on: the lab's digits, and a MobileNet with two sizes of picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pennyweight.bundle import open_bundle

# The artifacts whose cost is measured, and for each a plain conversion of the lab's network (float or int8 in, logits
# out), as tutorials make it.
PLAIN = {"float32.tflite": "plain-float32.tflite", "int8.tflite": "plain-int8.tflite", "float32.onnx": "plain.onnx"}
# With 160 pixels one image takes a millisecond or more whatever the precision, and still many fit a short round.
SIZES = {"mobile96": 96, "mobile160": 160, "mobile224": 224}
Progress = Callable[[str], None]


def make_models(folder: Path, names: Sequence[str], progress: Progress) -> dict[str, Path]:
    """Give each model's bundle by name; those that aren't in ``folder`` yet are made."""
    bundles = {}
    for name in names:
        place = folder / name
        if not (place / "bundle" / "manifest.json").exists():
            progress(f"{name}: making the model and its bundle")
            place.mkdir(parents=True, exist_ok=True)
            _make_digits(place) if name == "digits" else _make_mobile(place, SIZES[name])
        bundle = open_bundle(place / "bundle")
        (images,) = bundle.golden().inputs.values()
        np.save(place / "inputs.npy", images)
        np.save(place / "input.npy", images[0])
        bundles[name] = place / "bundle"
    return bundles


def _make_digits(place: Path) -> None:
    from pennyweight_data import load_data
    from pennyweight_export import export
    from pennyweight_train import train

    data = load_data("digits")
    trained = train("lab", data)
    trained.model.save(place / "model.keras")
    export(trained.model, data, place / "bundle", force=True, precision=list(PLAIN))
    _make_plain(trained.model, data.x_train, place)


def _make_plain(model: Any, images: Any, place: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    weights = [tf.Variable(weight) for weight in model.get_weights()]

    class Plain(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.weights = weights

        @tf.function(input_signature=[tf.TensorSpec((1, *images.shape[1:]), tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def logits(self, x: Any) -> Any:
            x = tf.reshape(x, (1, -1))
            for kernel, bias in zip(self.weights[:-2:2], self.weights[1:-2:2], strict=True):
                x = tf.nn.relu(x @ kernel + bias)
            return x @ self.weights[-2] + self.weights[-1]

    plain = Plain()
    concrete = plain.logits.get_concrete_function()
    for artifact in ("float32.tflite", "int8.tflite"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], plain)
        if artifact.startswith("int8"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None] / np.float32(255)] for image in images[::20])
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        (place / PLAIN[artifact]).write_bytes(converter.convert())
    onnx_model, _ = tf2onnx.convert.from_function(plain.logits, input_signature=plain.logits.input_signature)
    (place / PLAIN["float32.onnx"]).write_bytes(onnx_model.SerializeToString())


def _make_mobile(place: Path, size: int) -> None:
    """Export a MobileNetV2 of ten classes. Its weights are random: what it answers doesn't matter for its cost."""
    import keras

    from pennyweight_data import make_dataset
    from pennyweight_export import export

    keras.utils.set_random_seed(1)
    network = keras.applications.MobileNetV2((size, size, 3), include_top=True, weights=None, classes=10)
    pixels = keras.Input((size, size, 3), dtype="uint8")
    model = keras.Model(pixels, network(keras.layers.Rescaling(1 / 127.5, -1)(pixels)))
    model.save(place / "model.keras")
    chance = np.random.default_rng(1)
    parts = [(chance.integers(0, 256, (rows, size, size, 3), np.uint8), np.arange(rows) % 10) for rows in (40, 20)]
    options: dict[str, Any] = {"calibration": 20, "precision": list(PLAIN), "repair": False, "any_accuracy": True}
    export(model, make_dataset("random pictures", *parts), place / "bundle", force=True, **options)
