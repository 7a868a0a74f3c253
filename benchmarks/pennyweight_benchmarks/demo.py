"""The demo: the whole way on the embedded digits, from training to one table and the pictures."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from pennyweight.bench import Plan, measure_bench
from pennyweight.bundle import Bundle
from pennyweight.commands.verify import pairs
from pennyweight.engines import absence, is_installed
from pennyweight.errors import CheckFailedError, OutputError
from pennyweight.isolation import run_isolated
from pennyweight_data import load_data
from pennyweight_export import export
from pennyweight_train import train

from .original import measure_original
from .results import make_results, results_markdown

JsonObject = dict[str, Any]
Notice = Callable[[str], None]

RESULTS_NAME, REPORT_NAME, BUNDLE_NAME, MODEL_NAME = "results.json", "report.html", "bundle", "model.keras"
PLAN = Plan(rounds=4, seconds=0.1, cold_starts=1)
# Of the original's slowest way a call takes tens of milliseconds; so its rounds are what the budget of 90 s allows.
ORIGINAL_PLAN = PLAN._replace(rounds=3, seconds=0.1)


def run_demo(output: Path, force: bool, notice: Notice) -> JsonObject:
    """Train, export, verify, compare, time and draw; give the results, which are in ``output`` too.

    Args:
        output: a folder that doesn't exist; it appears when everything in it is complete.
        force: replace the folder of an earlier demo.
        notice: called with one line of progress at a time.

    Raises:
        OutputError: ``output`` exists, or can't be written.
        CheckFailedError: an artifact answers unlike the original.
    """
    check_place(output, force)
    with _staged(output) as folder:
        steps = Steps(notice)
        with steps.step("train the lab's network on 5,000 digits"):
            data = load_data("digits")
            trained = train("lab", data)
            trained.model.save(folder / MODEL_NAME)
            _write_json(folder / "model.history.json", trained.history.to_json())
        with steps.step("export TFLite and ONNX in float and in fewer bits, and compare each with the original"):
            bundle = export(folder / MODEL_NAME, data, folder / BUNDLE_NAME, name="digits")
        with steps.step("verify the bundle's hashes, and its self-test on each engine"):
            verify_bundle(bundle)
        with steps.step("time the original with TensorFlow"):
            original = measure_original(folder / MODEL_NAME, bundle, ORIGINAL_PLAN)
        with steps.step("time every artifact on every engine"):
            bench = measure_bench(bundle, pairs(bundle, None, None), PLAN, progress=lambda text: None)
            bench["rows"] = [*original, *bench["rows"]]
        results = make_results(bench, recorded_parity(bundle), bundle.manifest)
        with steps.step("draw the pictures"):
            draw_pictures(folder, bundle, trained.history.loss, results)
            write_examples(folder / "examples", data.x_test, data.y_test)
        with steps.step("write the report"):
            write_report(folder, bundle, results, trained.history.to_json())
        results["steps"] = steps.seconds
        _write_json(folder / RESULTS_NAME, results)
        (folder / "results.md").write_text(results_markdown(results), encoding="utf-8")
        _put(folder, output)
    notice(f"done in {sum(steps.seconds.values()):.0f} s")
    return results


class Steps:
    """The steps of a long run: each is announced, timed and reported."""

    def __init__(self, notice: Notice) -> None:
        self.seconds: dict[str, float] = {}
        self._notice = notice

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step, and say how long it took."""
        start = perf_counter()
        self._notice(f"{name} …")
        yield
        self.seconds[name] = round(perf_counter() - start, 2)
        self._notice(f"  {self.seconds[name]:.1f} s")


def verify_bundle(bundle: Bundle) -> None:
    """Hash every file, and replay the golden set on each artifact and engine; raise CheckFailedError."""
    bundle.check()
    for artifact, engine in pairs(bundle, None, None):
        records = [record for record in bundle.manifest.artifact(artifact).engines if record.engine == engine]
        if is_installed(engine) and not any(record.verdict in (None, "fail") for record in records):
            arguments = {"bundle": str(bundle.path), "artifact": artifact, "engine": engine}
            if not run_isolated("pennyweight.golden:golden_task", arguments, 120.0)["passed"]:
                raise CheckFailedError(f"{artifact} on {engine} answers the golden set unlike the original")


def recorded_parity(bundle: Bundle) -> dict[tuple[str, str], JsonObject]:
    """Give the parity that the export just measured in this environment, as rows of the verb ``parity``."""
    rows: dict[tuple[str, str], JsonObject] = {}
    for artifact, engine in pairs(bundle, None, None):
        records = [record for record in bundle.manifest.artifact(artifact).engines if record.engine == engine]
        if records:
            status, figures = records[0].verdict or "fail", records[0].figures or None
            rows[artifact, engine] = {"status": status, "reason": records[0].reason, "figures": figures}
        else:
            rows[artifact, engine] = {"status": "absent", "reason": absence(engine), "figures": None}
    return rows


def draw_pictures(folder: Path, bundle: Bundle, losses: list[float], results: JsonObject) -> None:
    """Draw all five pictures into ``folder``/pictures."""
    # matplotlib takes a second to import, and only this needs it.
    from . import pictures

    place = folder / "pictures"
    place.mkdir()
    samples, spec = bundle.evaluation(), bundle.manifest.outputs[0]
    (images,), probabilities, truth = samples.inputs.values(), samples.outputs[spec.name], np.asarray(samples.labels)
    pictures.digits_picture(place / "digits.png", images, truth, probabilities, spec.labels)
    pictures.errors_picture(place / "errors.png", images, truth, probabilities, spec.labels)
    title = f"Where the original goes wrong, {len(truth):,} test images"
    pictures.confusion_picture(place / "confusion.png", truth, probabilities, spec.labels, title)
    pictures.loss_picture(place / "loss.png", losses)
    pictures.trade_off_picture(place / "trade_off.png", results)


def write_report(folder: Path, bundle: Bundle, results: JsonObject, history: JsonObject) -> None:
    """Write ``report.html``, with the evidence that it needs besides the results."""
    from .documents import check_document
    from .evidence import gather_evidence
    from .report import report_html

    contents = {
        RESULTS_NAME: results,
        "evidence.json": gather_evidence(bundle, recorded_parity(bundle)),
        "model.history.json": history,
    }
    page = report_html([check_document(content, name) for name, content in contents.items()])
    (folder / REPORT_NAME).write_text(page, encoding="utf-8")


def write_examples(folder: Path, images: Any, labels: Any) -> None:
    """Write the first test image of each digit as a PNG, to try ``predict`` on."""
    from PIL import Image

    folder.mkdir()
    for label in range(10):
        image = images[int(np.argmax(labels == label))]
        Image.fromarray(image).save(folder / f"digit-{label}.png")


def next_commands(output: Path) -> list[str]:
    """Give three commands to try next, as they would be typed here."""
    command, folder = _command(), shlex.quote(str(output))
    return [
        f"{command} predict {folder}/{BUNDLE_NAME} {folder}/examples/*.png",
        f"{command} parity {folder}/{BUNDLE_NAME} --max-drop 0.3pt",
        f"{command} bench {folder}/{BUNDLE_NAME} --original {folder}/{MODEL_NAME}",
    ]


def check_place(output: Path, force: bool) -> None:
    """Raise OutputError where the demo's folder can't be made, or something stands that ``force`` may not replace."""
    if os.path.lexists(output):
        if not force:
            raise OutputError(f"{output}: exists already; choose another folder with -o, or replace it with --force")
        if not (output / RESULTS_NAME).is_file() or not (output / BUNDLE_NAME).is_dir():
            raise OutputError(f"{output}: exists and is no demo's folder, so --force won't replace it; choose another")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output.parent}: can't be made ({error.strerror}); choose another with -o") from error
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: the folder {output.parent} can't be written; choose another with -o")


@contextlib.contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """Give a folder beside ``output`` that is gone afterwards unless it was renamed."""
    folder = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise OutputError(f"{output}: can't be written ({error.strerror}); choose another folder with -o") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, output: Path) -> None:
    """Rename the finished folder into place; an older one is put back if that fails."""
    older = folder.with_name(folder.name + ".old")
    replaced = output.exists()
    if replaced:
        output.rename(older)
    try:
        folder.rename(output)
    except BaseException:
        if replaced:
            older.rename(output)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _command() -> str:
    """Give how ``pennyweight`` is started from here: by name where that finds this installation, else by its path."""
    script = Path(sys.executable).with_name("pennyweight")
    found = shutil.which("pennyweight")
    if found and Path(found).resolve() == script.resolve():
        return "pennyweight"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m pennyweight"
    with contextlib.suppress(ValueError):
        script = script.relative_to(Path.cwd())
    return shlex.quote(str(script))


def _write_json(path: Path, content: JsonObject) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
