"""An artifact that was broken on purpose fails: in the exporter's own trial, and in `pennyweight parity`."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema

from pennyweight import open_bundle
from pennyweight.engines import engines_for, is_installed
from pennyweight.manifest import FileRecord, dump_manifest
from pennyweight_export import command as verb
from pennyweight_export.trials import Trial, try_engines
from support import command


def shuffled_tflite(content: bytes) -> bytes:
    """Shuffle the weights of every fully connected layer, each within itself."""
    random, model = np.random.default_rng(0), schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            tensor = graph.tensors[operator.inputs[1]]
            size = 1 if tensor.type == schema.TensorType.INT8 else 4
            buffer = model.buffers[tensor.buffer]
            weights = np.asarray(buffer.data, np.uint8).reshape(-1, size)
            buffer.data = random.permutation(weights).ravel()
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def shuffled_onnx(content: bytes) -> bytes:
    """Shuffle every weight matrix within itself."""
    random, model = np.random.default_rng(0), onnx.load_model_from_string(content)
    for weight in model.graph.initializer:
        if len(weight.dims) == 2:
            values = onnx.numpy_helper.to_array(weight)
            mixed = random.permutation(values.ravel()).reshape(values.shape)
            weight.CopyFrom(onnx.numpy_helper.from_array(mixed, weight.name))
    result: bytes = model.SerializeToString()
    return result


BREAK = {
    "float32.tflite": shuffled_tflite,
    "int8.tflite": shuffled_tflite,
    "float32.onnx": shuffled_onnx,
    "int8.onnx": shuffled_onnx,
}


@pytest.fixture(params=BREAK)
def broken(request: pytest.FixtureRequest, lab_bundle: Path, tmp_path: Path) -> tuple[Path, str]:
    """Give a copy of the lab's bundle with one artifact's weights shuffled and every hash made right again."""
    name, copy = str(request.param), tmp_path / "broken"
    shutil.copytree(lab_bundle, copy)
    content = BREAK[name]((copy / name).read_bytes())
    (copy / name).write_bytes(content)
    manifest = open_bundle(lab_bundle).manifest
    files = {**manifest.files, name: FileRecord(hashlib.sha256(content).hexdigest(), len(content))}
    artifacts = tuple(spec._replace(engines=()) for spec in manifest.artifacts)
    (copy / "manifest.json").write_bytes(dump_manifest(manifest._replace(files=files, artifacts=artifacts)))
    return copy, name


def tried(bundle: Path, name: str) -> list[Trial]:
    manifest = open_bundle(bundle).manifest
    return try_engines(bundle, [manifest.artifact(name)], manifest.gate, lambda text: None)[name]


def test_shuffled_weights_fail(broken: tuple[Path, str]) -> None:
    bundle, name = broken
    records = [trial.record for trial in tried(bundle, name)]
    assert [record.engine for record in records] == [e for e in engines_for(name.rpartition(".")[2]) if is_installed(e)]
    assert [(record.loaded, record.ran, record.verdict) for record in records] == [(True, True, "fail")] * len(records)
    result = command("parity", bundle)
    assert result.returncode == 1, result.stderr
    assert result.stdout.count("fail") >= len(records)

    # What the exporter writes of it makes the verb's exit code 1, with one line that names the artifact.
    manifest = open_bundle(bundle).manifest
    artifacts = tuple(spec._replace(engines=tuple(records)) for spec in manifest.artifacts if spec.name == name)
    (bundle / "manifest.json").write_bytes(dump_manifest(manifest._replace(artifacts=artifacts)))
    assert verb._exit_code(argparse.Namespace(quiet=True, precision=None), open_bundle(bundle)) == 1


def test_what_an_engine_cannot_load_is_recorded(lab_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(lab_bundle, copy)
    manifest = open_bundle(lab_bundle).manifest
    content = (copy / "float32.onnx").read_bytes()[:1000]
    (copy / "float32.onnx").write_bytes(content)
    files = {**manifest.files, "float32.onnx": FileRecord(hashlib.sha256(content).hexdigest(), len(content))}
    (copy / "manifest.json").write_bytes(dump_manifest(manifest._replace(files=files)))
    (trial,) = tried(copy, "float32.onnx")
    assert (trial.record.loaded, trial.record.ran, trial.record.verdict) == (False, False, None)
    assert "can't load this model" in trial.record.reason
    assert trial.golden_difference is None


def test_a_crash_of_an_engine_is_recorded(lab_bundle: Path, monkeypatch: Any) -> None:
    from pennyweight.errors import EngineError
    from pennyweight_export import trials

    def crash(*_: object) -> None:
        raise EngineError("crashed (SIGSEGV)")

    monkeypatch.setattr(trials, "run_isolated", crash)
    for trial in tried(lab_bundle, "int8.tflite"):
        assert (trial.record.loaded, trial.record.ran, trial.record.reason) == (False, False, "crashed (SIGSEGV)")
        assert trial.record.version != "unknown"


def test_an_engine_that_is_not_installed_is_noticed(lab_bundle: Path, monkeypatch: Any) -> None:
    from pennyweight_export import trials

    lines: list[str] = []
    monkeypatch.setattr(trials, "is_installed", lambda name: name != "tflite-runtime")
    manifest = open_bundle(lab_bundle).manifest
    found = try_engines(lab_bundle, [manifest.artifact("int8.tflite")], manifest.gate, lines.append)["int8.tflite"]
    assert "tflite-runtime" not in [trial.record.engine for trial in found]
    assert "tflite-runtime isn't installed; not tried on it: int8.tflite" in lines
