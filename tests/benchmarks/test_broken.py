"""A model that was broken on purpose must fail: its weights are shuffled, and every hash made to fit."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from pennyweight.bundle import open_bundle
from pennyweight.manifest import FileRecord, dump_manifest
from support import command


def test_shuffled_weights_fail_parity(lab_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "broken"
    shutil.copytree(lab_bundle, bundle)
    model = onnx.load(bundle / "float32.onnx")
    largest = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    weights = numpy_helper.to_array(largest)
    shuffled = np.random.default_rng(0).permutation(weights.ravel()).reshape(weights.shape)
    largest.CopyFrom(numpy_helper.from_array(shuffled, largest.name))
    content = model.SerializeToString()
    (bundle / "float32.onnx").write_bytes(content)
    manifest = open_bundle(bundle).manifest
    files = {**manifest.files, "float32.onnx": FileRecord(hashlib.sha256(content).hexdigest(), len(content))}
    (bundle / "manifest.json").write_bytes(dump_manifest(manifest._replace(files=files)))

    result = command("parity", bundle, "--json")
    assert result.returncode == 1, result.stderr
    status = {row["artifact"]: row["status"] for row in json.loads(result.stdout)["rows"] if row["figures"]}
    assert status.pop("float32.onnx") == "fail"
    assert set(status.values()) == {"pass"}
