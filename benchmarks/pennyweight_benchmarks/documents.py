"""Result files: the JSON that the verbs write, read back and checked, so that what follows can rely on its shape.

Fields that every version of a result has are required; any other may be missing, and is then an empty cell later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pennyweight.bench import COLD_PARTS
from pennyweight.errors import InputError

JsonObject = dict[str, Any]

BENCH, RESULTS, PARITY = "pennyweight-bench", "pennyweight-results", "pennyweight-parity"
EVIDENCE, HISTORY, LAYERS = "pennyweight-evidence", "pennyweight-history", "pennyweight-layers"
INSTRUCTIONS = "pennyweight-instructions"
COLLECTION = "pennyweight-report"
VERSION = 1
MAX_BYTES = 256 * 2**20
WRITERS = "`bench`, `parity` and `demo` write these with -o"


class Document(NamedTuple):
    """One result: the file that it is from, its format's name, and its content."""

    file: str
    kind: str
    content: JsonObject


def read_documents(paths: Sequence[str | Path]) -> list[Document]:
    """Read result files; a report's JSON counts as the results in it.

    Raises:
        InputError: a file that is missing, truncated, another tool's, of another version, or has no rows.
    """
    return [document for path in paths for document in _read(Path(path))]


def check_document(content: Any, where: str) -> Document:
    """Hold one result's content to its format's shape; ``where`` names it in errors. Raise InputError."""
    if not isinstance(content, dict):
        raise InputError(f"{where}: no Pennyweight result ({WRITERS})")
    kind = content.get("format") or (PARITY if _is_bare_parity(content) else None)
    if kind not in CHECKS:
        found = f"format {str(kind)[:40]!r}" if kind else 'it names no "format"'
        raise InputError(f"{where}: no Pennyweight result, {found} ({WRITERS})")
    version = content.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise InputError(
            f"{where}: {kind} version {str(version)[:20]}, this command reads {VERSION}; "
            "use the version of pennyweight-workstation that wrote it, or measure again"
        )
    CHECKS[kind](_Shape(content, where))
    return Document(where, kind, content)


def collection(documents: Sequence[Document]) -> JsonObject:
    """Give one JSON object with all the documents in it, which ``read_documents`` reads back."""
    held = [{"file": Path(document.file).name, "content": document.content} for document in documents]
    return {"format": COLLECTION, "version": VERSION, "documents": held}


def number(value: Any) -> float | None:
    """Give a field as a number, or None where it is missing or none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


class _Shape:
    """A part of a document, with its place for errors."""

    def __init__(self, value: Any, where: str, place: str = "") -> None:
        self.value = value
        self._where = where
        self._place = place

    def refuse(self, wanted: str) -> InputError:
        return InputError(f"{self._where}: {self._place or 'it'} {wanted}; the file is damaged, measure again")

    def __getitem__(self, key: str) -> _Shape:
        place = f"{self._place}.{key}" if self._place else key
        if not isinstance(self.value, dict) or key not in self.value:
            raise _Shape(None, self._where, place).refuse("is missing")
        return _Shape(self.value[key], self._where, place)

    def get(self, key: str) -> _Shape | None:
        return self[key] if isinstance(self.value, dict) and self.value.get(key) is not None else None

    def items(self, least: int = 0) -> Iterable[_Shape]:
        if not isinstance(self.value, list):
            raise self.refuse("is no list")
        if len(self.value) < least:
            raise InputError(f"{self._where}: a run with no {self._place}, so nothing to show; measure again")
        return [_Shape(item, self._where, f"{self._place}[{index}]") for index, item in enumerate(self.value)]

    def mapping(self) -> _Shape:
        if not isinstance(self.value, dict):
            raise self.refuse("is no object")
        return self

    def text(self) -> None:
        if not isinstance(self.value, str):
            raise self.refuse("is no text")

    def numeric(self, low: float = -math.inf) -> None:
        if number(self.value) is None or self.value < low:
            raise self.refuse("is no number" if low == -math.inf else f"is no number from {low:g}")

    def numeric_fields(self, low: float = -math.inf) -> None:
        for name, value in self.mapping().value.items():
            if value is not None:
                self[name].numeric(low)

    def numbers(self, low: float = -math.inf) -> None:
        for item in self.items():
            item.numeric(low)


def _check_bench(shape: _Shape) -> None:
    shape["machine"].mapping()
    for state in shape["states"].items(1):
        state.mapping()
    for taint in shape["taints"].items():
        taint["cause"].text()
        taint["remedy"].text()
    for row in shape["rows"].items(1):
        _check_names(row)
        row["status"].text()
        for one in row["rounds"].items():
            _check_timing(one)
            if one.get("paced"):
                _check_timing(one["paced"])
                one["paced"]["late"].numeric(0)
            for name in ("prepare", "run", "finish") if one.get("steps") else ():
                one["steps"][name].numeric(0)
            for batch in one["batches"].items() if one.get("batches") else ():
                batch["size"].numeric(1)
                if batch["images_per_second"].value is not None:
                    batch["images_per_second"].numeric(1e-9)
        for start in row["cold_starts"].items():
            start["answered_ns"].numeric(1)
            start.numeric_fields()
        for span in row["sustained"].items() if row.get("sustained") else ():
            span["start_s"].numeric(0)
            span["quantiles"].numeric_fields()
        if row.get("parity"):
            _check_figures(row["parity"])


def _check_timing(timing: _Shape) -> None:
    timing["calls"].numeric(1)
    timing["every"].numeric(1)
    timing["samples"].numbers(0)
    # A latency of nothing can't be a ratio's logarithm.
    timing["quantiles"]["p50"].numeric(1e-6)
    timing["quantiles"].numeric_fields(1e-6)
    for name in ("resident_bytes", "peak_bytes"):
        if timing.get(name):
            timing[name].numeric(0)


def _check_results(shape: _Shape) -> None:
    for row in shape["rows"].items(1):
        _check_names(row)
        row["parity"].text()
        if row.get("bytes"):
            row["bytes"].numeric(1)
    _check_bench(shape["bench"])


def _check_parity(shape: _Shape) -> None:
    for row in shape["rows"].items(1):
        _check_names(row)
        row["status"].text()
        if row.get("figures"):
            _check_figures(row["figures"])


def _check_figures(figures: _Shape) -> None:
    figures["samples"].numeric(1)
    for name in ("accuracy", "original_accuracy", "agreement", "drop", "flips_lost", "flips_won", "flips_other"):
        if figures.get(name):
            figures[name].numeric()
    for name in ("accuracy_interval", "original_interval", "drop_interval"):
        if figures.get(name):
            _check_interval(figures[name])
    for one in figures["classes"].items() if figures.get("classes") else ():
        one["label"].text()
        for name in ("samples", "original", "recall"):
            one[name].numeric(0)


def _check_interval(interval: _Shape) -> None:
    interval.numbers()
    if len(interval.value) != 2:
        raise interval.refuse("is no interval")


def _check_evidence(shape: _Shape) -> None:
    shape["bundle"].text()
    for artifact in shape["artifacts"].items(1):
        artifact["name"].text()
        artifact["bytes"].numeric(1)
    for label in shape["labels"].items():
        label.text()
    classes = len(shape["labels"].value)
    _check_parity(shape)
    for one in [shape["original"], *shape["rows"].items()]:
        if one.get("confusion"):
            _check_square(one["confusion"], classes)
    for flip in shape["flips"].items():
        flip["index"].numeric(0)
        for answer in [flip["original"], *(one["answer"] for one in flip["answers"].items())]:
            if not isinstance(answer.value, list) or len(answer.value) != 2 or number(answer.value[1]) is None:
                raise answer.refuse("is no label with its probability")


def _check_square(matrix: _Shape, side: int) -> None:
    lines = list(matrix.items())
    for line in lines:
        line.numbers(0)
    if len(lines) != side or any(len(line.value) != side for line in lines):
        raise matrix.refuse(f"is no table of {side} × {side}")


def _check_history(shape: _Shape) -> None:
    shape["loss"].numbers()
    if not shape["loss"].value:
        raise shape["loss"].refuse("is empty")


def _check_layers(shape: _Shape) -> None:
    for row in shape["rows"].items(1):
        row["artifact"].text()
        row["layer"].text()
        row["relative_error"].numeric(0)


def _check_instructions(shape: _Shape) -> None:
    shape["bundle"].text()
    shape["bundle_sha256"].text()
    targets = shape["targets"].mapping()
    for name in targets.value:
        for version in targets[name]["packages"].mapping().value.values():
            _Shape(version, str(name)).text()
    for row in shape["rows"].items(1):
        _check_names(row)
        row["target"].text()
        row["status"].text()
        row["reason"].text()
        if row.get("threads"):
            row["threads"].numeric(1)
        targets[row["target"].value]
        for one in row["rounds"].items(1 if row["status"].value == "ok" else 0):
            for name in COLD_PARTS:
                one["start"][name].numeric(0)
            for name in ("classify", "bare") if one.get("bare") else ("classify",):
                one[name]["instructions"].numeric(1)


def _check_names(row: _Shape) -> None:
    row["artifact"].text()
    row["engine"].text()


CHECKS = {
    BENCH: _check_bench,
    RESULTS: _check_results,
    PARITY: _check_parity,
    EVIDENCE: _check_evidence,
    HISTORY: _check_history,
    LAYERS: _check_layers,
    INSTRUCTIONS: _check_instructions,
}


def _read(path: Path) -> list[Document]:
    content = _decode(path)
    if isinstance(content, dict) and content.get("format") == COLLECTION:
        held = content.get("documents")
        if content.get("version") != VERSION or not isinstance(held, list) or not held:
            raise InputError(f"{path}: a report's JSON of another version, or without results; make it again")
        return [_held(one, f"{path}: documents[{index}]") for index, one in enumerate(held)]
    return [check_document(content, str(path))]


def _held(one: Any, where: str) -> Document:
    if not isinstance(one, dict) or not isinstance(one.get("file"), str):
        raise InputError(f"{where} is no result; make the report's JSON again")
    return check_document(one.get("content"), where)._replace(file=one["file"])


def _decode(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise InputError(f"{path}: can't be read ({reason}); give a result's JSON file ({WRITERS})") from error
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MB, so no result of ours ({WRITERS})")
    try:
        content = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in raw:
            # Half a character, which an escape can write, can't be printed anywhere.
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not whole JSON, so truncated or no result ({WRITERS})") from error


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _is_bare_parity(content: JsonObject) -> bool:
    """Tell a result of the verb ``parity`` from before it named its format."""
    return "rows" in content and "max_drop" in content and "bundle" in content
