"""The way from a Keras model to a verified bundle, step by step."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pennyweight
from pennyweight.bundle import EVALUATION_NAME, GOLDEN_NAME, SUFFIX, Bundle, open_bundle
from pennyweight.errors import PennyweightError, UsageError
from pennyweight.manifest import MANIFEST_NAME, ArtifactSpec, ImagePreparation, Manifest, dump_manifest
from pennyweight.parity import CONFIDENCE, MAX_DROP
from pennyweight.samples import Samples, pack_samples
from pennyweight.verdicts import MAX_RELATIVE_ERROR

from .arrays import Arrays, fit, read_arrays
from .candidates import Candidate, Choice, choose
from .card import CARD_NAME, model_card
from .model_files import check_file
from .recipes import REPAIRED, choose_recipes
from .sample_writer import write_samples
from .source import open_source
from .staging import Staging, check_output, check_temporary, staged
from .trials import try_engines

if TYPE_CHECKING:
    from .artifacts import Converters
    from .interface import Interface
    from .mending import Others
    from .model_files import KerasModel

Notice = Callable[[str], None]
# What the converters write to the folder for temporary files, besides the weights (twice, to be on the safe side).
TEMPORARY_BYTES = 4 * 2**20
CALIBRATION_SAMPLES = 500


def export(
    model: KerasModel | str | os.PathLike[str],
    data: Any,
    output: str | os.PathLike[str],
    *,
    force: bool = False,
    labels: Sequence[str] | None = None,
    scale: float | Sequence[float] | None = None,
    offset: float | Sequence[float] | None = None,
    preprocess: str | None = None,
    image: ImagePreparation | None = None,
    calibration: int = CALIBRATION_SAMPLES,
    evaluation: int | Literal["all", "none"] | None = None,
    precision: Sequence[str] | None = None,
    name: str | None = None,
    seed: int = 0,
    trust_code: bool = False,
    any_accuracy: bool = False,
    max_drop: float = MAX_DROP,
    min_agreement: float | None = None,
    confidence: float = CONFIDENCE,
    max_relative_error: float = MAX_RELATIVE_ERROR,
    repair: bool | None = None,
    notice: Notice = lambda text: None,
) -> Bundle:
    """Export a Keras model to a bundle, and try every artifact on every installed engine.

    An artifact that fails parity is still in the bundle, with its verdict in the manifest. One that no tool can make is
    a gap in the manifest, with the reason.

    Args:
        model: a built keras.Model, or the path of a ``.keras`` or legacy ``.h5`` file or of a SavedModel folder.
        data: a ``pennyweight_data.Dataset``, anything with arrays ``x_train y_train x_test y_test`` (for several inputs
            or outputs mappings from the model's names to arrays), or what ``load_data`` reads. Calibration is drawn
            from the training part, evaluation from the test part.
        output: the bundle's folder, or a file that ends in ``.pennyweight``.
        force: replace an older bundle; it stays until the new one is complete.
        labels: the classes' names in order; by default the data's, or "0", "1", ….
        scale, offset: the training fed the model scale × pixel + offset, one number each or one per channel; not for
            a model with its own Rescaling.
        preprocess: instead of these "keras:NAME", where NAME is a module of ``keras.applications`` whose
            ``preprocess_input`` the training used, or one of its modes tf, caffe and torch.
        image: how pictures are prepared for the model; by default bilinear, antialiased and stretched.
        calibration: how many samples the int8 ranges are drawn from.
        evaluation: how many samples of the test part go into the bundle; None takes what 50 MB hold, "none" leaves
            them out once the verdicts are made.
        precision: precisions or single artifacts to make, such as ``["int8", "float16.tflite"]``, or ``["all"]``; by
            default those that a Pi can use, see ``recipes.RECIPES``.
        name: the bundle's name; by default that of ``output``.
        seed: of every draw.
        trust_code: run code that the model file holds (Lambda layers), and import the modules that it names, also from
            its own folder. Without it no code from the file is run.
        any_accuracy: export a model that is no better than chance on the evaluation data, too.
        max_drop, confidence: the accuracy that parity lets an artifact lose, as a fraction, and with which confidence.
        min_agreement: the share of answers that must be the original's, as a fraction; None for no such gate.
        repair: whether ``int8-repaired.tflite`` is made beside int8: None where int8 breaches the gate, True always and
            with the best agreement that the search finds, False never.
        max_relative_error: of outputs that name no single label, the error that parity allows: its RMS over the
            standard deviation of the original's answers.
        notice: called with one line of progress at a time.

    Returns:
        The bundle as it stands under ``output``.

    Raises:
        InputError: the model file or the data can't be used, or don't fit each other.
        UsageError: options that can't be right, a kind of model that can't be exported, or a model that is about as
            good as chance on the data, as it is where its pixels aren't prepared as in training.
        OutputError: ``output`` exists, or can't be written.
        PennyweightError: none of the artifacts could be made.
    """
    place, recipes = Path(output), choose_recipes(precision)
    check_output(place, force)
    if isinstance(model, (str, os.PathLike)):
        check_file(Path(model), trust_code)
    given = read_arrays(data)
    notice("importing TensorFlow")
    # TensorFlow takes seconds to import, and whoever only asks for help shouldn't wait for it.
    from .artifacts import Converters, make_candidates
    from .evidence import draw_calibration, draw_evaluation, draw_golden
    from .foreign import with_inputs
    from .graph import Graph, require_same
    from .interface import recognise
    from .mending import audited, other_samples
    from .original import original_answers
    from .preprocessing import preprocessing_from
    from .sanity import require_better_than_chance

    source = open_source(model, trust_code)
    check_temporary(TEMPORARY_BYTES + 2 * 4 * source.record["parameters"])
    keras_model = with_inputs(source.model, given)
    interface = recognise(keras_model, given, labels, preprocessing_from(scale, offset, preprocess), image)
    dataset = fit(given, interface)
    inputs, answers = draw_evaluation(dataset, interface, _wanted(evaluation, dataset.test_rows), seed)
    answered = original_answers(keras_model, interface, inputs, place.parent)
    evaluated = _samples(interface, inputs, answered, answers)
    calibrated = draw_calibration(dataset, inputs, calibration, seed)
    for line in _introduction(interface, evaluated, calibrated.record):
        notice(line)
    if not any_accuracy:
        require_better_than_chance(keras_model, interface, evaluated)
    golden = draw_golden(evaluated, seed)
    graph = Graph(keras_model, interface)
    require_same(graph, golden)

    gate = {"max_drop": max_drop, "confidence": confidence}
    if not _names_one_class(interface):
        gate["max_relative_error"] = max_relative_error
    if min_agreement is not None:
        gate["min_agreement"] = min_agreement
    title = name or place.name.removesuffix(SUFFIX)
    converters = Converters(graph, interface, calibrated)
    others = other_samples(dataset, inputs, calibrated.inputs, seed)
    converters.calibration = calibrated._replace(record=audited(converters, others, calibrated.labels, notice))
    with staged(place, force) as staging:
        candidates = list(make_candidates(converters, recipes, title, dataset.licence, notice))
        specs = _written(staging, candidates)
        staging.write(GOLDEN_NAME, pack_samples(golden))
        with staging.opened(EVALUATION_NAME) as file:
            write_samples(file, evaluated)
        manifest = Manifest(
            name=title,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            producer=_producer(),
            source=source.record,
            inputs=tuple(entry.spec for entry in interface.inputs),
            outputs=tuple(output.spec for output in interface.outputs),
            files={},
            artifacts=specs,
            evaluation={"samples": evaluated.rows, "part": "x_test", "of": dataset.test_rows, "seed": seed},
            golden={"samples": golden.rows},
            gate=gate,
            licence=dataset.licence,
        )
        _write_manifest(staging, manifest)
        choices, gaps = choose(recipes, candidates, try_engines(staging.folder, specs, manifest.gate, notice))
        for gap in gaps:
            notice(f"{gap.artifact}: not made; {gap.reason}")
        _keep_chosen(staging, specs, choices)
        choices = _with_repaired(staging, manifest, choices, converters, others, repair, notice)
        tolerances = {choice.spec.name: _tolerance(choice) for choice in choices}
        manifest = manifest._replace(
            artifacts=tuple(choice.spec for choice in choices),
            gaps=tuple(gaps),
            golden={**manifest.golden, "tolerance": tolerances},
            files=staging.files(),
        )
        staging.write(CARD_NAME, model_card(manifest, dataset).encode())
        if evaluation == "none":
            staging.remove(EVALUATION_NAME)
        _write_manifest(staging, manifest)
        staging.commit()
    return open_bundle(place)


def _wanted(evaluation: int | str | None, rows: int) -> int | None:
    if evaluation == "all":
        return rows
    if isinstance(evaluation, str) and evaluation != "none":
        raise UsageError(f"evaluation {evaluation!r}: give a number of samples, all or none")
    return evaluation if isinstance(evaluation, int) else None


def _samples(interface: Interface, inputs: Arrays, outputs: Arrays, answers: Arrays) -> Samples:
    # The format has one array of labels: those of the only output.
    labels = next(iter(answers.values())) if len(answers) == 1 else None
    if labels is not None and labels.dtype.kind in "iu" and not _names_one_class(interface):
        labels = None
    return Samples(inputs, outputs, labels)


def _names_one_class(interface: Interface) -> bool:
    output = interface.outputs[0].spec
    return len(interface.outputs) == 1 and output.labelling == "single" and len(output.shape) == 1


def _introduction(interface: Interface, evaluated: Samples, calibration: Mapping[str, Any]) -> list[str]:
    from .sanity import named_right

    lines = []
    for entry in interface.inputs:
        (low, high), of = entry.seen, f" of {entry.spec.name}" if len(interface.inputs) > 1 else ""
        lines.append(f"the model's layers see values{of} from {low:.4g} to {high:.4g}")
    output = interface.outputs[0].spec
    if _names_one_class(interface) and evaluated.labels is not None:
        right = int(named_right(evaluated.outputs[output.name], evaluated.labels).sum())
        share = right / evaluated.rows
        lines.append(f"the original is right on {right:,} of {evaluated.rows:,} evaluation samples ({share:.2%})")
    else:
        lines.append(f"{evaluated.rows:,} evaluation samples; outputs are compared as numbers")
    left_out = calibration["left_out_as_in_evaluation"]
    if left_out:
        lines.append(f"{left_out:,} training samples are evaluation samples too; calibration leaves them out")
    return lines


def _producer() -> dict[str, Any]:
    packages = ("tensorflow", "keras", "onnx", "tf2onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "numpy")
    versions = {package: version(package) for package in packages}
    return {"pennyweight": pennyweight.__version__, "python": platform.python_version(), **versions}


def _written(staging: Staging, candidates: Sequence[Candidate]) -> tuple[ArtifactSpec, ...]:
    """Write the candidates' files; raise PennyweightError where there is none."""
    specs = []
    for candidate in candidates:
        if candidate.spec:
            staging.write(candidate.spec.name, candidate.content)
            specs.append(candidate.spec)
    if not specs:
        reasons = dict.fromkeys(f"{one.recipe.name}: {one.reason}" for one in candidates)
        raise PennyweightError(f"no artifact could be made of the model ({'; '.join(reasons)})")
    return tuple(specs)


def _keep_chosen(staging: Staging, specs: Sequence[ArtifactSpec], choices: Sequence[Choice]) -> None:
    """Leave the chosen candidates' files alone in the bundle, under their artifacts' names."""
    for spec in specs:
        staging.remove(spec.name)
    for choice in choices:
        staging.write(choice.spec.name, choice.candidate.content)


def _with_repaired(
    staging: Staging,
    manifest: Manifest,
    choices: list[Choice],
    converters: Converters,
    others: Others,
    wanted: bool | None,
    notice: Notice,
) -> list[Choice]:
    """Add ``int8-repaired.tflite`` behind ``int8.tflite`` where int8 lost too much, or ``wanted`` says so."""
    from .artifacts import finish
    from .mending import PLAIN, candidate_of, lost_too_much, mend
    from .quality import Gate

    place = next((index for index, choice in enumerate(choices) if choice.spec.name == PLAIN), None)
    if wanted and place is None:
        notice(f"{REPAIRED.name}: not made; there is no {PLAIN} to repair, see --precision")
    if place is None or wanted is False or not (wanted or lost_too_much(choices, manifest.gate)):
        return choices
    notice(f"{REPAIRED.name}: {'looking for the best' if wanted else 'int8 breaches the gate; repairing'}")
    gate = Gate(
        manifest.gate["max_drop"],
        manifest.gate.get("min_agreement"),
        manifest.gate.get("max_relative_error", MAX_RELATIVE_ERROR),
    )
    try:
        content, record = mend(converters, others, gate, bool(wanted), lambda text: notice(f"{REPAIRED.name}: {text}"))
        spec, content = finish(REPAIRED, converters, content, record, manifest.name, manifest.licence)
    except PennyweightError as error:
        notice(f"{REPAIRED.name}: not made; {error}")
        return choices
    candidate = candidate_of(spec, content)
    staging.write(spec.name, content)
    made = tuple(choice.spec for choice in choices)
    _write_manifest(staging, manifest._replace(artifacts=(*made, spec)))
    trials = try_engines(staging.folder, [spec], manifest.gate, notice)
    added, _ = choose([REPAIRED], [candidate], trials)
    return [*choices[: place + 1], *added, *choices[place + 1 :]]


def _tolerance(choice: Choice) -> float:
    """Give the golden set's tolerance: the largest difference of an engine that didn't fail, with headroom."""
    recipe = choice.candidate.recipe
    measured = [
        trial.golden_difference
        for trial in choice.trials
        if trial.golden_difference is not None and trial.record.verdict != "fail"
    ]
    return max(recipe.least_tolerance, recipe.headroom * max(measured, default=0.0))


def _write_manifest(staging: Staging, manifest: Manifest) -> None:
    staging.write(MANIFEST_NAME, dump_manifest(manifest._replace(files=staging.files())))
