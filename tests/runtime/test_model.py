from __future__ import annotations

import importlib
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.engines import engine_version, is_installed
from pennyweight.engines._tflite import TFLiteEngine
from pennyweight.errors import CheckFailedError, EngineMissingError, InputError, OutputKindError, UsageError
from pennyweight.loading import VerdictWarning, machine
from pennyweight.manifest import EngineRecord, Manifest, dump_manifest
from pennyweight.model import PIECE_ROWS, Model
from support import FIXTURE, installed_pairs

BUNDLE = open_bundle(FIXTURE)
GOLDEN = BUNDLE.golden()
IMAGES = next(iter(GOLDEN.inputs.values()))
WANTED = next(iter(GOLDEN.outputs.values()))


def rewritten(bundle: Path, manifest: Manifest) -> Path:
    (bundle / "manifest.json").write_bytes(dump_manifest(manifest))
    return bundle


def with_verdict(bundle: Path, verdict: str) -> Path:
    """Give every pair of artifact and engine this verdict, for the versions and machine of here."""
    manifest = open_bundle(bundle).manifest
    artifacts = []
    for spec in manifest.artifacts:
        records = []
        for name, engine in installed_pairs():
            if name == spec.name:
                records.append(
                    EngineRecord(engine, engine_version(engine), machine(), True, True, verdict, "made so", {})
                )
        artifacts.append(spec._replace(engines=tuple(records)))
    return rewritten(bundle, manifest._replace(artifacts=tuple(artifacts)))


@pytest.fixture(params=installed_pairs(), ids="-".join)
def model(request: pytest.FixtureRequest) -> Any:
    artifact, engine = request.param
    with load(BUNDLE, artifact=artifact, engine=engine) as loaded:
        yield loaded


def tolerance(model: Model) -> float:
    return float(model.manifest.golden["tolerance"][model.artifact.name])


def test_it_answers_the_golden_set_as_the_original_did(model: Model) -> None:
    assert abs(model.predict(IMAGES) - WANTED).max() <= tolerance(model)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, PIECE_ROWS, PIECE_ROWS + 3])
def test_any_batch_gives_what_single_images_give(model: Model, rows: int) -> None:
    batch = np.resize(IMAGES, (rows, *IMAGES.shape[1:]))
    answers = model.predict(batch)
    assert answers.shape == (rows, *WANTED.shape[1:])
    assert answers.dtype == np.float32
    singles = np.concatenate([model.predict(IMAGES[index : index + 1]) for index in range(len(IMAGES))])
    # Kernels of another batch size add in another order: float32 rounding of numbers up to 1, or one int8 step.
    allowed = 1e-6 if model.artifact.precision == "float32" else 1 / 128
    if rows:
        np.testing.assert_allclose(answers, np.resize(singles, answers.shape), rtol=0, atol=allowed)


def test_classify_names_what_predict_ranks_first(model: Model) -> None:
    answers = model.predict(IMAGES)
    for image, row in zip(IMAGES, answers):
        label, probability = model.classify(image)
        # One int8 step apart at most: the batch's kernel may round the other way.
        assert probability == pytest.approx(float(row.max()), abs=1 / 128)
        assert row[model.labels.index(label)] >= row.max() - 1 / 128
        ranked = model.classify(image, top=len(row))
        assert ranked[0][0] == label
        assert [share for _, share in ranked] == sorted((share for _, share in ranked), reverse=True)
    assert model.classify(IMAGES[0], top=2) == model.classify(IMAGES[0], top=99)[:2]


def test_the_image_that_was_given_stays_as_it_was(model: Model) -> None:
    image = IMAGES[0].copy()
    image.setflags(write=False)
    model.classify(image)
    model.predict(image[None])
    np.testing.assert_array_equal(image, IMAGES[0])


def test_an_answer_is_not_overwritten_by_the_next(model: Model) -> None:
    first = model.predict(IMAGES[:1])
    kept = first.copy()
    for image in IMAGES:
        model.predict(image[None])
        model.classify(image)
    np.testing.assert_array_equal(first, kept)


def test_one_model_may_be_called_from_several_threads(model: Model) -> None:
    wanted = [model.classify(image) for image in IMAGES]
    barrier = threading.Barrier(4)

    def work(offset: int) -> bool:
        barrier.wait()
        for turn in range(300):
            index = (turn * 7 + offset) % len(IMAGES)
            if turn % 50 == 0:
                model.predict(IMAGES[: 1 + turn % 3])
            if model.classify(IMAGES[index]) != wanted[index]:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_several_models_run_side_by_side(model: Model) -> None:
    wanted = model.predict(IMAGES)

    def work(_: int) -> bool:
        with load(BUNDLE, artifact=model.artifact.name, engine=model.engine.name) as own:
            return bool((own.predict(IMAGES) == wanted).all())

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, range(3)))


def test_a_frame_with_a_colour_is_prepared_first(model: Model) -> None:
    height, width = IMAGES.shape[1:3]
    frame = np.zeros((2 * height, 2 * width + 8, 4), np.uint8)[:, : 2 * width]
    frame[..., :3] = IMAGES[0].repeat(2, axis=0).repeat(2, axis=1)[..., None]
    wanted = model.classify(model.prepare(frame, colour="bgra"))
    assert model.classify(frame, colour="bgra") == wanted
    assert model.classify(frame, top=3, colour="bgra")[0] == wanted
    assert model.classify(IMAGES[0], colour="gray") == model.classify(IMAGES[0])
    with pytest.raises(InputError, match="prepare"):
        model.classify(frame)


def test_a_closed_model_says_so() -> None:
    model = load(BUNDLE)
    model.classify(IMAGES[0])
    model.close()
    with pytest.raises(InputError, match="closed"):
        model.classify(IMAGES[0])
    with pytest.raises(InputError, match="closed"):
        model.predict(IMAGES)


def test_load_takes_float32_on_the_first_installed_engine() -> None:
    described = load(BUNDLE).describe()
    float_pairs = [pair for pair in installed_pairs() if pair[0].startswith("float32")]
    order = ["ai-edge-litert", "tflite-runtime", "onnxruntime"]
    assert described["engine"] == min((engine for _, engine in float_pairs), key=order.index)
    assert described["precision"] == "float32"
    assert "passed parity" in described["reason"] or "golden set" in described["reason"]


def test_load_never_takes_a_pair_that_failed(bundle: Path) -> None:
    with_verdict(bundle, "fail")
    with pytest.raises(CheckFailedError, match="no artifact may be chosen here"):
        load(bundle)


def test_an_explicit_choice_of_a_failing_pair_warns(bundle: Path) -> None:
    with_verdict(bundle, "fail")
    artifact, engine = installed_pairs()[0]
    with pytest.warns(VerdictWarning, match="failed parity"):
        load(bundle, artifact=artifact, engine=engine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(with_verdict(bundle, "pass"), artifact=artifact, engine=engine)


def test_a_pair_without_a_verdict_first_replays_the_golden_set(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    bare = manifest._replace(artifacts=tuple(spec._replace(engines=()) for spec in manifest.artifacts))
    assert "golden set" in load(rewritten(bundle, bare)).describe()["reason"]
    impossible = bare._replace(golden={**bare.golden, "tolerance": dict.fromkeys(bare.files, -1.0)})
    with pytest.raises(CheckFailedError, match="unlike the original"):
        load(rewritten(bundle, impossible))


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="no engine 'tensorrt'; the engines are ai-edge-litert"):
        load(BUNDLE, engine="tensorrt")
    with pytest.raises(UsageError, match=r"doesn't read float32\.onnx; onnxruntime does"):
        load(BUNDLE, artifact="float32.onnx", engine="ai-edge-litert")
    with pytest.raises(UsageError, match="threads must be"):
        load(BUNDLE, threads=0)


def test_an_engine_that_is_not_installed_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how Python itself marks a module that can't be imported.
    for name in list(sys.modules):
        if name.startswith(("onnxruntime", "pennyweight.engines.onnxruntime")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("pennyweight.engines.is_installed", lambda name: False)
    with pytest.raises(EngineMissingError, match="pip install onnxruntime"):
        load(BUNDLE, engine="onnxruntime")


def test_a_regression_has_no_label(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    raw = manifest.outputs[0]._replace(meaning="raw", labelling="none", labels=())
    with load(rewritten(bundle, manifest._replace(outputs=(raw,)))) as model:
        with pytest.raises(OutputKindError, match="use predict"):
            model.classify(IMAGES[0])
        assert model.predict(IMAGES).shape == WANTED.shape


def test_ties_take_the_lowest_index() -> None:
    from pennyweight.classification import LIST_CLASSES, highest

    for classes in (3, LIST_CLASSES + 1):
        row = np.zeros((1, classes), np.float32)
        row[0, -2:] = 0.5
        assert highest([str(index) for index in range(classes)])(row) == (str(classes - 2), 0.5)


@pytest.mark.parametrize("name", [name for name in ("ai-edge-litert", "tflite-runtime") if is_installed(name)])
def test_the_interpreter_that_was_loaded_answers_single_images(name: str) -> None:
    adapter = {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}[name]
    interpreter = importlib.import_module(f"{adapter}.interpreter").Interpreter
    content, made = (FIXTURE / "float32.tflite").read_bytes(), []

    def make() -> Any:
        made.append(interpreter(model_content=content, num_threads=1))
        return made[-1]

    engine = TFLiteEngine(name, "any", make)
    engine.bind_one(1)
    # Its batch is free, and still a second interpreter for one image would take the model's memory again.
    assert engine.inputs[0].shape[0] == -1
    assert len(made) == 1
    engine.bind(3)
    assert len(made) == 2
