"""The engines' adapters: what of an engine isn't public has a fallback, and a file's bytes are read once and let go."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import open_bundle
from pennyweight.engines import Engine, is_installed, open_engine
from pennyweight.engines._tflite import TFLiteEngine
from pennyweight.errors import IntegrityError
from pennyweight.loading import LARGE_BYTES
from pennyweight.manifest import FileRecord, dump_manifest
from support import FIXTURE

IMAGES = next(iter(open_bundle(FIXTURE).golden().inputs.values()))
LIBRARIES = {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
TFLITE = [name for name in LIBRARIES if is_installed(name)]
needs_onnxruntime = pytest.mark.skipif(not is_installed("onnxruntime"), reason="onnxruntime isn't installed")

LOAD = """
import sys
import pennyweight.loading
started, start = [], pennyweight.loading.start_new_thread
pennyweight.loading.start_new_thread = lambda work, words: (started.append(1), start(work, words))
from pennyweight.errors import IntegrityError
try:
    with pennyweight.loading.load(sys.argv[1], artifact=sys.argv[2], engine=sys.argv[3]) as model:
        print(len(started), model.artifact.name)
except IntegrityError as error:
    print(len(started), error)
"""


class PublicOnly:
    """An interpreter of a version whose inner wrapper has another name."""

    def __init__(self, interpreter: Any) -> None:
        self._other = interpreter

    def __getattr__(self, name: str) -> Any:
        if name == "_interpreter":
            raise AttributeError(name)
        return getattr(self._other, name)


def answers(engine: Engine) -> list[Any]:
    """Give an engine's answers to the golden images, one by one and as one batch."""
    (to,), (out,) = engine.inputs, engine.outputs
    one = engine.bind_one(1)
    singles = [np.array(one(image[None])) for image in IMAGES]
    return [*singles, engine.bind(len(IMAGES))({to.name: IMAGES})[out.name]]


@pytest.mark.parametrize("name", TFLITE)
def test_without_the_inner_wrapper_the_public_calls_answer_the_same(name: str) -> None:
    interpreter = importlib.import_module(f"{LIBRARIES[name]}.interpreter").Interpreter
    content = (FIXTURE / "float32.tflite").read_bytes()
    public = TFLiteEngine(name, "any", lambda: PublicOnly(interpreter(model_content=content, num_threads=1)))
    inner = open_engine(name, lambda: content)
    np.testing.assert_equal(answers(public), answers(inner))


@needs_onnxruntime
def test_the_files_bytes_are_let_go_and_where_they_are_not_it_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    content = (FIXTURE / "float32.onnx").read_bytes()
    before = sys.getrefcount(content)
    engine = open_engine("onnxruntime", lambda: content)
    adopts = hasattr(onnxruntime.InferenceSession, "_from_initialized_c_session")
    assert (sys.getrefcount(content) == before) == adopts
    if adopts:
        monkeypatch.delattr(onnxruntime.InferenceSession, "_from_initialized_c_session")
    public = open_engine("onnxruntime", lambda: content)
    assert sys.getrefcount(content) > before
    np.testing.assert_equal(answers(public), answers(engine))


def grown(bundle: Path) -> Path:
    """Make the TFLite artifact so large that it is read beside the engine's import; what follows a model is ignored."""
    manifest, name = open_bundle(bundle).manifest, "float32.tflite"
    content = (bundle / name).read_bytes() + bytes(LARGE_BYTES)
    (bundle / name).write_bytes(content)
    files = {**manifest.files, name: FileRecord(hashlib.sha256(content).hexdigest(), len(content))}
    (bundle / "manifest.json").write_bytes(dump_manifest(manifest._replace(files=files)))
    return bundle


def loaded(bundle: Path, artifact: str, engine: str) -> str:
    words = [sys.executable, "-c", LOAD, str(bundle), artifact, engine]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", TFLITE)
def test_a_large_artifact_is_read_beside_the_import_and_believed_no_sooner(name: str, bundle: Path) -> None:
    assert loaded(bundle, "float32.tflite", name) == "0 float32.tflite"
    assert loaded(grown(bundle), "float32.tflite", name) == "1 float32.tflite"
    content = bytearray((bundle / "float32.tflite").read_bytes())
    content[-1] ^= 1
    (bundle / "float32.tflite").write_bytes(content)
    said = loaded(bundle, "float32.tflite", name)
    assert said.startswith("1 ")
    assert "float32.tflite isn't what was exported" in said


@pytest.mark.parametrize("name", TFLITE)
def test_what_the_reader_raises_is_not_blamed_on_the_engine(name: str) -> None:
    def read() -> bytes:
        raise IntegrityError("damaged")

    with pytest.raises(IntegrityError, match=r"^damaged$"):
        open_engine(name, read)


@pytest.mark.parametrize("name", TFLITE)
def test_where_no_thread_can_be_started_it_is_read_all_the_same(name: str, bundle: Path) -> None:
    refuse = (
        "def refuse(*words): raise RuntimeError('no more threads')\npennyweight.loading.start_new_thread = refuse\n"
    )
    code = LOAD.replace("from pennyweight.errors", f"{refuse}from pennyweight.errors")
    words = [sys.executable, "-c", code, str(grown(bundle)), "float32.tflite", name]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "0 float32.tflite\n"
