"""Every precision on every engine: the lab's network and a small convolutional one, exported whole."""

from __future__ import annotations

import itertools
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pennyweight import load, open_bundle
from pennyweight.bundle import Bundle
from pennyweight.engines import engines_for, is_installed
from pennyweight.errors import PennyweightError, UsageError
from pennyweight.loading import VerdictWarning
from pennyweight.manifest import ArtifactSpec, EngineRecord, Wire
from pennyweight_data import Dataset, load_data
from pennyweight_export import artifacts, export
from pennyweight_export.candidates import Candidate, choose
from pennyweight_export.facts import FileFacts, require_asked
from pennyweight_export.onnx_file import read_onnx
from pennyweight_export.quantizer import quantise
from pennyweight_export.recipes import RECIPES, Recipe, choose_recipes, recipe_for
from pennyweight_export.tflite_file import read_tflite
from pennyweight_export.trials import Trial
from support import command, one_line

from .conftest import blobs, trained

L = keras.layers
NAMES = [recipe.name for recipe in RECIPES]
PAIRS = [(name, e) for name in NAMES for e in engines_for(name.rpartition(".")[2]) if is_installed(e)]
OLD_ENGINE = pytest.mark.skipif(not is_installed("tflite-runtime"), reason="tflite-runtime isn't installed here")


@pytest.fixture(scope="module")
def lab(lab_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Give the lab's network in every precision."""
    return export(lab_model, "digits", tmp_path_factory.mktemp("all") / "lab", precision=["all"])


@cache
def coloured() -> Dataset:
    return blobs((8, 8, 3))


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Give a small convolutional network in every precision, with enough weights that each converter takes them on."""
    body = [
        L.Rescaling(1 / 127.5, -1),
        L.Conv2D(16, 3, activation="relu"),
        L.Conv2D(32, 3, activation="relu"),
        L.DepthwiseConv2D(3, padding="same"),
        L.GlobalAveragePooling2D(),
    ]
    model = trained(coloured(), 3, *body)
    return export(model, coloured(), tmp_path_factory.mktemp("all") / "conv", precision=["all"], labels=list("abc"))


def record(bundle: Bundle, artifact: str, engine: str) -> EngineRecord:
    (found,) = [one for one in bundle.manifest.artifact(artifact).engines if one.engine == engine]
    return found


def facts(bundle: Bundle, artifact: str) -> FileFacts:
    read = read_onnx if artifact.endswith(".onnx") else read_tflite
    return read(bundle.read(artifact), artifact)


def recipe(artifact: str) -> Recipe:
    found = recipe_for(artifact)
    assert found
    return found


def candidates(bundle: Bundle, artifact: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = bundle.manifest.artifact(artifact).converter["candidates"]
    return found


def on(candidate: dict[str, Any], engine: str) -> dict[str, Any]:
    (found,) = [entry for entry in candidate["engines"] if entry["engine"] == engine]
    return dict(found)


def test_every_precision_is_made(lab: Bundle, conv: Bundle) -> None:
    for bundle in (lab, conv):
        assert [spec.name for spec in bundle.manifest.artifacts] == NAMES
        assert bundle.manifest.gaps == ()
        assert [(spec.name, one.engine) for spec in bundle.manifest.artifacts for one in spec.engines] == PAIRS
        assert bundle.check() == []


@pytest.mark.parametrize(("artifact", "engine"), PAIRS)
def test_a_pair_passes_or_its_failure_is_named(lab: Bundle, conv: Bundle, artifact: str, engine: str) -> None:
    for bundle in (lab, conv):
        found = record(bundle, artifact, engine)
        if artifact == "int4.tflite" and engine == "tflite-runtime":
            assert found.verdict != "pass"
            assert found.reason
        elif artifact == "int4.tflite":
            # 15 steps for a weight cost the lab's network about half a point, and a random one as much as it likes.
            assert found.ran
            assert bundle is not lab or found.figures["agreement"] >= 0.95
        else:
            assert (found.loaded, found.ran, found.verdict) == (True, True, "pass"), found.reason


@pytest.mark.parametrize(("artifact", "engine"), PAIRS)
def test_the_runtime_answers_with_each(lab: Bundle, artifact: str, engine: str) -> None:
    if record(lab, artifact, engine).verdict == "fail" or not record(lab, artifact, engine).loaded:
        pytest.skip(f"{artifact} doesn't run on {engine}, as the manifest says")
    data = load_data("digits")
    images, truth = data.x_test[:300], data.y_test[:300]
    model = load(lab, artifact=artifact, engine=engine)
    answers = np.asarray(model.predict(images))
    assert answers.dtype == np.float32
    assert (answers.argmax(axis=1) == truth).mean() >= 0.85  # the network is right on 92.8 % of all
    assert np.abs(answers.sum(axis=1) - 1).max() <= 0.04  # ten int8 probabilities, each rounded to 1/256
    one = [model.classify(image)[0] for image in images[:50]]
    batch = [model.labels[index] for index in answers[:50].argmax(axis=1)]
    if artifact == "dynamic-int8.onnx":
        # onnxruntime draws the activations' range from the whole batch, so the same image may answer otherwise alone.
        assert sum(a == b for a, b in zip(one, batch)) >= 47
    else:
        assert one == batch
    assert model.describe()["precision"] == recipe(artifact).precision


def test_the_wires_are_what_each_precision_has(lab: Bundle, conv: Bundle) -> None:
    for bundle in (lab, conv):
        for spec in bundle.manifest.artifacts:
            (wire,) = spec.inputs
            assert spec.outputs[0].dtype == "float32"
            assert wire.dtype == ("int16" if spec.precision == "int16x8" else "uint8")
            if spec.precision != "int16x8":
                assert (wire.scale, wire.zero_point) == (None, None)
    # 32,767 steps for what the layers see, 0 to 1 or −1 to 1, told in pixels.
    assert lab.manifest.artifact("int16x8.tflite").inputs[0].scale == pytest.approx(255 / 32767, rel=1e-3)
    wire = conv.manifest.artifact("int16x8.tflite").inputs[0]
    assert wire.scale == pytest.approx(127.5 / 32767, rel=1e-3)
    assert wire.zero_point == pytest.approx(-32767, abs=40)


def test_each_file_holds_the_weights_it_is_named_after(lab: Bundle, conv: Bundle) -> None:
    for bundle in (lab, conv):
        sizes = {spec.name: bundle.manifest.files[spec.name].size for spec in bundle.manifest.artifacts}
        for format_ in ("tflite", "onnx"):
            whole = sizes[f"float32.{format_}"]
            assert sizes[f"float16.{format_}"] < 0.7 * whole
            assert sizes[f"int8.{format_}"] < 0.7 * whole
        assert sizes["int4.tflite"] < sizes["int8.tflite"]
        for name in NAMES:
            layers = facts(bundle, name).layers
            assert recipe(name).weights in {layer.weights for layer in layers}
            assert {layer.activations for layer in layers} == {recipe(name).activations}


@pytest.mark.parametrize(("format_", "content"), [("tflite", "tflite"), ("onnx", "onnx")])
def test_a_file_of_another_precision_is_refused(lab: Bundle, format_: str, content: str) -> None:
    names = [name for name in NAMES if name.endswith(format_)]
    for asked, given in itertools.permutations(names, 2):
        found = facts(lab, given)
        wires = tuple(Wire(fact.name, fact.name, fact.dtype) for fact in found.inputs)
        outputs = tuple(Wire(fact.name, fact.name, fact.dtype) for fact in found.outputs)
        with pytest.raises(PennyweightError, match=f"^{asked}: {recipe(asked).precision} was asked for, but"):
            require_asked(found, recipe(asked), wires, outputs)
        require_asked(found, recipe(given), wires, outputs)


def test_int8_weights_that_are_only_stored_so_are_no_dynamic_int8(lab: Bundle) -> None:
    found = read_tflite(quantise(lab.read("float32.tflite"), {}, "weights int8"), "dynamic-int8.tflite")
    wires = tuple(tuple(Wire(f.name, f.name, f.dtype) for f in ends) for ends in (found.inputs, found.outputs))
    with pytest.raises(PennyweightError, match="FULLY_CONNECTED computes in float"):
        require_asked(found, recipe("dynamic-int8.tflite"), wires[0], wires[1])


def test_operators_that_compute_in_float_say_why(lab: Bundle) -> None:
    for spec in lab.manifest.artifacts:
        assert set(spec.float_operators) <= set(spec.operators)
        assert all(spec.float_operators.values())
    reasons = {name: lab.manifest.artifact(name).float_operators for name in NAMES}
    assert reasons["int8.tflite"] == reasons["int16x8.tflite"] == {}
    assert "round the answers" in reasons["int8.onnx"]["Softmax"]
    # 375 and 150 weights: below what TensorFlow's converter quantises.
    assert reasons["dynamic-int8.tflite"]["FULLY_CONNECTED"].startswith("2 of 3: ")
    assert "stored as int4" in reasons["int4.tflite"]["FULLY_CONNECTED"]
    assert "MatMulInteger" not in reasons["dynamic-int8.onnx"]


@OLD_ENGINE
def test_a_file_that_is_silently_wrong_on_one_engine_is_found_and_named(lab: Bundle) -> None:
    # Of three dynamic-range files one doesn't load in tflite-runtime 2.14, one runs there and is wrong, one is right.
    by_channel, by_tensor, edge = candidates(lab, "dynamic-int8.tflite")
    assert (on(by_channel, "tflite-runtime")["loaded"], on(by_channel, "tflite-runtime")["verdict"]) == (False, None)
    assert "FULLY_CONNECTED" in on(by_channel, "tflite-runtime")["reason"]
    wrong = on(edge, "tflite-runtime")
    assert (wrong["loaded"], wrong["ran"], wrong["verdict"]) == (True, True, "fail")
    assert wrong["likeness"] < 0.2  # one digit in ten by chance
    assert all(on(one, "ai-edge-litert")["verdict"] == "pass" for one in (by_channel, by_tensor, edge))
    assert [one["chosen"] for one in (by_channel, by_tensor, edge)] == [False, True, False]
    # So is int4 with integer kernels; the file that the engine refuses to load does less harm.
    computing = candidates(lab, "int4.tflite")[1]
    assert (on(computing, "tflite-runtime")["ran"], on(computing, "tflite-runtime")["verdict"]) == (True, "fail")
    assert not computing["chosen"]


@OLD_ENGINE
def test_where_there_is_no_better_file_its_verdict_stays_with_it(
    tiny_model: Any, data: Dataset, tmp_path: Path
) -> None:
    # Too few weights for TensorFlow's converter, so that only ai-edge-quantizer makes anything of it.
    bundle = export(tiny_model, data, tmp_path / "b", precision=["float32.tflite", "dynamic-int8.tflite"])
    assert record(bundle, "dynamic-int8.tflite", "ai-edge-litert").verdict == "pass"
    found = record(bundle, "dynamic-int8.tflite", "tflite-runtime")
    assert (found.loaded, found.ran, found.verdict) == (True, True, "fail")
    refused = [one for one in candidates(bundle, "dynamic-int8.tflite") if not one["chosen"]]
    assert [one["reason"] for one in refused] == ["dynamic-int8 was asked for, but no layer has int8 weights"] * 2
    with pytest.warns(VerdictWarning, match="failed parity on tflite-runtime"):
        load(bundle, artifact="dynamic-int8.tflite", engine="tflite-runtime")
    # Nothing chooses the pair, so that the self-test has nothing against the bundle.
    result = command("verify", bundle.path)
    assert result.returncode == 0, result.stdout
    assert sum("excluded" in line for line in result.stdout.splitlines()) == 1


@pytest.mark.parametrize("artifact", ["int8.tflite", "int16x8.tflite"])
def test_two_tools_are_tried_and_both_recorded(lab: Bundle, artifact: str) -> None:
    found = candidates(lab, artifact)
    assert [one["tool"] for one in found] == ["tf.lite.TFLiteConverter", "ai-edge-quantizer"]
    assert sum(one["chosen"] for one in found) == 1
    assert all(one["version"] and one["bytes"] and one["engines"] for one in found)
    chosen = next(one for one in found if one["chosen"])
    assert chosen["tool"] == lab.manifest.artifact(artifact).converter["tool"]


def test_the_golden_set_is_answered_within_each_precisions_tolerance(lab: Bundle, conv: Bundle) -> None:
    for bundle in (lab, conv):
        tolerances = bundle.manifest.golden["tolerance"]
        assert set(tolerances) == set(NAMES)
        for name in NAMES:
            assert tolerances[name] >= recipe(name).least_tolerance
        # A tolerance that lets any answer pass would be none.
        assert max(tolerances[name] for name in NAMES if "int4" not in name) < 0.25


def trial(engine: str, verdict: str | None, agreement: float | None = None) -> Trial:
    figures = {} if agreement is None else {"agreement": agreement}
    loaded = verdict is not None
    return Trial(EngineRecord(engine, "1", "m", loaded, loaded, verdict, "because", figures), None)


CASES = [
    ("most engines", [("pass", 0.99), (None, None)], [("pass", 0.97), ("pass", 0.97)], 1),
    ("undecided rather than wrong", [("fail", 0.1)], [("inconclusive", 0.98)], 1),
    ("refused rather than wrong", [("pass", 0.99), ("fail", 0.1)], [("pass", 0.98), (None, None)], 1),
    ("more alike", [("pass", 0.98)], [("pass", 0.99)], 1),
    ("the worst engine counts", [("pass", 0.97), ("pass", 0.99)], [("pass", 0.98), ("pass", 0.98)], 1),
    ("the first of equals", [("pass", 0.98)], [("pass", 0.98)], 0),
    ("no engine installed", [], [], 0),
]


@pytest.mark.parametrize(("first", "second", "taken"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_better_candidate_is_taken(first: Any, second: Any, taken: int) -> None:
    wanted = recipe("int8.tflite")
    specs = [ArtifactSpec(f"int8.{index}.tflite", "tflite", "int8", (), ()) for index in range(2)]
    rivals = [Candidate(wanted, {"tool": str(index)}, spec, b"x", "") for index, spec in enumerate(specs)]
    tried = {
        spec.name: [trial(str(index), *one) for index, one in enumerate(outcomes)]
        for spec, outcomes in zip(specs, (first, second))
    }
    (choice,), gaps = choose([wanted], rivals, tried)
    assert choice.candidate is rivals[taken]
    assert choice.spec.name == "int8.tflite"
    assert gaps == []


def test_a_recipe_that_no_tool_makes_is_a_gap() -> None:
    wanted = recipe("int8.tflite")
    rivals = [Candidate(wanted, {"tool": name}, None, b"", f"{name} has no Tan") for name in ("one", "other")]
    choices, (gap,) = choose([wanted], rivals, {})
    assert choices == []
    assert gap == ("int8.tflite", "one has no Tan; other has no Tan")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["int8"], ["int8.tflite", "int8.onnx"]),
        (["float16.onnx", " int4 "], ["int4.tflite", "float16.onnx"]),
        (["all"], NAMES),
        (None, ["float32.tflite", "float16.tflite", "dynamic-int8.tflite", "int8.tflite", "float32.onnx", "int8.onnx"]),
    ],
)
def test_recipes_are_chosen_by_precision_or_by_name(names: Any, wanted: list[str]) -> None:
    assert [one.name for one in choose_recipes(names)] == wanted


@pytest.mark.parametrize("names", [[], [""], ["int9"], ["int8", "int4.onnx"], ["INT8"]])
def test_an_unknown_precision_is_refused(names: list[str]) -> None:
    with pytest.raises(UsageError, match="choose from float32, float16, int16x8"):
        choose_recipes(names)


def test_a_precision_that_was_asked_for_and_cannot_be_made_is_exit_1(tmp_path: Path, data: Dataset) -> None:
    entry = keras.Input((6, 6), dtype="uint8")
    odd = keras.ops.tan(L.Flatten()(L.Rescaling(1 / 255)(entry)))
    keras.Model(entry, L.Dense(3)(odd)).save(tmp_path / "tan.keras")
    arrays = {name: getattr(data, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(tmp_path / "data.npz", **arrays)
    words: list[str | Path] = ["export", tmp_path / "tan.keras", "--data", tmp_path / "data.npz", "-o", tmp_path / "b"]
    result = command(*words, "--precision", "int8.tflite,float32", "--any-accuracy")
    assert result.returncode == 1, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["int8.tflite", "not", "made"] in rows
    assert any(line.startswith("int8.tflite: not made; ") and "no Tan" in line for line in result.stderr.splitlines())
    bundle = open_bundle(tmp_path / "b")
    assert [spec.name for spec in bundle.manifest.artifacts] == ["float32.onnx"]
    assert [gap.artifact for gap in bundle.manifest.gaps] == ["float32.tflite", "int8.tflite"]
    assert load(bundle).predict(data.x_test[:3]).shape == (3, 3)
    # The next one to read it is told as well.
    told = command("info", bundle.path)
    assert told.returncode == 0
    assert "not made  int8.tflite: " in told.stdout


def test_a_tool_that_writes_something_else_is_a_gap(
    tiny_model: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = artifacts.TOOLS["float32.tflite"][0]._replace(name="liar")
    monkeypatch.setitem(artifacts.TOOLS, "int8.tflite", (lying,))
    bundle = export(tiny_model, data, tmp_path / "b", precision=["float32.tflite", "int8.tflite"])
    (gap,) = bundle.manifest.gaps
    assert gap.artifact == "int8.tflite"
    assert "int8" in gap.reason
    assert [spec.name for spec in bundle.manifest.artifacts] == ["float32.tflite"]


def test_nonsense_is_one_line_before_anything_is_imported(tmp_path: Path) -> None:
    words = ("export", "nowhere.keras", "--data", "digits", "-o", str(tmp_path / "b"), "--precision", "int9,int8")
    line = one_line(command(*words), 2)
    assert "precision 'int9': choose from" in line


def test_no_warning_is_left_when_all_precisions_are_made(tiny_model: Any, data: Dataset, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle = export(tiny_model, data, tmp_path / "b.pennyweight", precision=["float16", "int4"])
    assert [spec.precision for spec in bundle.manifest.artifacts] == ["float16", "int4", "float16"]
