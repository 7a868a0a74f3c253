"""Model files of each kind: which are taken, which are refused in one line, and that none of them runs code."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pennyweight.bundle import Bundle
from pennyweight.errors import InputError
from pennyweight_data import Dataset
from pennyweight_export import export
from pennyweight_export._tensorflow import tf
from pennyweight_export.quiet import quiet
from pennyweight_export.source import open_source
from support import command, one_line

from .kinds import Subclassed, numbers, pictures, residual_cnn, sequential, subclassed

L = keras.layers


def answers(source: Any, x: Any) -> Any:
    return np.asarray(source.model(x, training=False))


def exported(path: Path, data: Dataset, folder: Path, **options: Any) -> Bundle:
    return export(path, data, folder / "b", precision=["float32", "int8"], repair=False, **options)


def passes(bundle: Bundle) -> set[str]:
    """Give the artifacts that agree with the original on at least 95 of 100 samples on each engine."""
    return {
        spec.name
        for spec in bundle.manifest.artifacts
        if all(record.figures["agreement"] >= 0.95 for record in spec.engines)
    }


EVERY = {"float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx"}


def test_a_saved_model_from_keras(tmp_path: Path) -> None:
    model, data = residual_cnn()
    with quiet():
        model.export(tmp_path / "saved", verbose=False)
    bundle = exported(tmp_path / "saved", data, tmp_path)
    assert passes(bundle) >= {"float32.tflite", "float32.onnx", "int8.tflite"}
    source = bundle.manifest.source
    assert (source["name"], source["digest_of"], source["parameters"]) == ("saved", "files", model.count_params())
    assert bundle.manifest.inputs[0].dtype == "uint8"
    assert bundle.manifest.outputs[0].meaning == "probabilities"


def test_a_saved_model_of_plain_tensorflow(tmp_path: Path) -> None:
    class Plain(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2))

        @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32, "facts")])  # type: ignore[untyped-decorator]
        def __call__(self, facts: Any) -> Any:
            return {"score": tf.tanh(facts @ self.weight)}

    module, x = Plain(), numbers(6)
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    source = open_source(tmp_path / "saved")
    np.testing.assert_allclose(answers(source, x), module(x)["score"], atol=1e-6)
    assert [tensor.name for tensor in source.model.inputs] == ["facts"]
    assert source.record["parameters"] == 12


def test_a_legacy_h5_file_that_keras_3_refuses(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras, the extra [legacy], isn't installed")
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    # Keras 2 writes "groups" for a depthwise convolution, which Keras 3 doesn't know.
    model = tf_keras.Sequential(
        [
            layers.Input((12, 12, 3)),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.ReLU(6.0),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, "softmax"),
        ]
    )
    with quiet():
        model.save(tmp_path / "old.h5")
    # h5 files of Keras 2 before 2.16 have it; tf_keras 2.21 writes it no more.
    with_groups(tmp_path / "old.h5")
    with pytest.raises(Exception, match="groups"), quiet():
        keras.saving.load_model(tmp_path / "old.h5", compile=False)
    source, x = open_source(tmp_path / "old.h5"), pictures().astype(np.float32) / 255
    np.testing.assert_allclose(answers(source, x), model.predict(x, verbose=0), atol=1e-6)
    assert source.record["parameters"] == model.count_params()


def with_groups(path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)


def test_without_tf_keras_its_install_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sequential((6,), L.Dense(2))
    with quiet():
        model.save(tmp_path / "old.h5")
    import h5py

    with h5py.File(tmp_path / "old.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1]["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(InputError, match=r"Keras 3 refuses it .*pennyweight-workstation\[legacy\]"):
        open_source(tmp_path / "old.h5")


def test_an_h5_file_that_keras_3_reads(tmp_path: Path) -> None:
    model, x = sequential((6,), L.Dense(4, "relu"), L.Dense(2)), numbers(6)
    with quiet():
        model.save(tmp_path / "m.h5")
    source = open_source(tmp_path / "m.h5")
    np.testing.assert_allclose(answers(source, x), model.predict(x, verbose=0), atol=1e-6)
    assert type(source.model) is keras.Sequential


def lambda_that_writes(path: Path, trace: Path) -> None:
    """Save a model whose Lambda layer leaves a file when it is called."""
    code = f"""
import keras
model = keras.Sequential([keras.Input((6,)), keras.layers.Lambda(lambda x: (open({str(trace)!r}, "w").close(), x)[1]),
                          keras.layers.Dense(2)])
model.save({str(path)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    trace.unlink()  # building the model called it


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_is_refused_and_never_run(tmp_path: Path, suffix: str) -> None:
    path, trace = tmp_path / f"m{suffix}", tmp_path / "trace"
    lambda_that_writes(path, trace)
    with pytest.raises(InputError, match=r"holds a Lambda layer, which is code; .*--trust-code"):
        open_source(path)
    assert not trace.exists()
    # The same file, trusted, runs it: so this test would see it.
    open_source(path, trust_code=True).model(np.zeros((1, 6), np.float32))
    assert trace.exists()


def test_a_lambda_hidden_in_a_nested_model_is_refused_too(tmp_path: Path) -> None:
    path, trace = tmp_path / "m.keras", tmp_path / "trace"
    lambda_that_writes(path, trace)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inner = json.loads(members["config.json"])
    outer = {**inner, "config": {**inner["config"], "layers": [inner["config"]["layers"][0], inner]}}
    members["config.json"] = json.dumps(outer).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="Lambda"):
        open_source(path)
    assert not trace.exists()


def test_a_saved_model_that_reads_files_is_refused(tmp_path: Path) -> None:
    class Reader(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, "x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)

    module = Reader()
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    with pytest.raises(InputError, match=r"does more than compute \(ReadFile\)"):
        open_source(tmp_path / "saved")


def test_a_registered_subclass_comes_back_from_its_file(tmp_path: Path) -> None:
    model, data = subclassed()
    model.save(tmp_path / "m.keras")
    bundle = exported(tmp_path / "m.keras", data, tmp_path)
    assert passes(bundle) >= {"float32.tflite", "float32.onnx"}
    assert bundle.manifest.source["class"] == Subclassed.__name__


OWN_CLASS = """
import keras

@keras.saving.register_keras_serializable("own")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_a_model_of_ones_own_classes_needs_them_and_trust(tmp_path: Path) -> None:
    (tmp_path / "own_layers.py").write_text(OWN_CLASS)
    code = """
import keras, own_layers
keras.Sequential([keras.Input((3,)), own_layers.Twice(), keras.layers.Dense(2)]).save("m.keras")
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(InputError, match=r"needs the code of own_layers\.Twice; .*--trust-code"):
        open_source(tmp_path / "m.keras")
    assert "own_layers" not in sys.modules
    assert open_source(tmp_path / "m.keras", trust_code=True).model.count_params() == 8
    sys.modules.pop("own_layers")
    keras.saving.get_custom_objects().pop("own>Twice")
    (tmp_path / "own_layers.py").unlink()
    with pytest.raises(InputError, match=r"own_layers\.Twice isn't found .*put own_layers\.py beside the model"):
        open_source(tmp_path / "m.keras", trust_code=True)


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def h5(folder: Path) -> Path:
    with quiet():
        sequential((6,), L.Dense(2)).save(folder / "m.h5")
    return folder / "m.h5"


def saved_model(folder: Path) -> Path:
    with quiet():
        sequential((6,), L.Dense(2)).export(folder / "saved", verbose=False)
    return folder / "saved"


def weights_alone(folder: Path) -> Path:
    with quiet():
        sequential((6,), L.Dense(2)).save_weights(folder / "m.weights.h5")
    return folder / "m.weights.h5"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def emptied(folder: Path) -> Path:
    for part in (saved_model(folder) / "variables").iterdir():
        part.write_bytes(b"")
    return folder / "saved"


def garbled(folder: Path) -> Path:
    (saved_model(folder) / "saved_model.pb").write_bytes(b"\xff" * 100)
    return folder / "saved"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (written("m.h5", b""), "the model file is empty"),
        (written("m.h5", b"no model"), "not a whole .h5 file"),
        (lambda folder: truncated(h5(folder)), "not a whole .h5 file"),
        (weights_alone, "save the whole model"),
        (written("m.keras", b"no model"), "not a whole .keras file"),
        (written("m.onnx", b"x"), "not a model by its name"),
        (written("m.pt", b"x"), "give a .keras file, an .h5 file or a SavedModel folder"),
        (lambda folder: folder, "a folder without saved_model.pb"),
        (lambda folder: folder / "nothing.keras", "no such model"),
        (emptied, "not a whole SavedModel"),
        (garbled, "saved_model.pb isn't whole"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: truncated(h5(folder)), "not a whole .h5 file"),
        (lambda folder: with_lambda(folder), "holds a Lambda layer, which is code; save it with model.export"),
        (emptied, "not a whole SavedModel"),
    ],
)
def test_the_command_says_it_in_one_line_and_leaves_nothing(
    tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    model = make(tmp_path)
    np.savez(tmp_path / "d.npz", x_train=numbers(6), y_train=np.ones((320, 2)))
    before = sorted(tmp_path.rglob("*"))
    result = command("export", model, "--data", tmp_path / "d.npz", "-o", tmp_path / "b")
    assert says in one_line(result, 2)
    assert sorted(tmp_path.rglob("*")) == before


def with_lambda(folder: Path) -> Path:
    lambda_that_writes(folder / "m.keras", folder / "trace")
    return folder / "m.keras"


def test_a_model_that_cannot_be_called_on_the_data_is_one_line() -> None:
    model, _ = subclassed()
    _, other = sequential((6,), L.Dense(2)), numbers(6)
    from pennyweight_data import make_dataset
    from pennyweight_export.foreign import with_inputs

    data = make_dataset("other", (other[:10], np.ones(10)), (other[10:], np.ones(len(other) - 10)))
    with pytest.raises(InputError, match=r"can't be called on samples of float32 \(6,\)"):
        with_inputs(model, data)
