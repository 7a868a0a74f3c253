"""Bad input of compare and report: one line that says which file, what, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from documents_support import bench_document, parity_document, write
from pennyweight.errors import InputError
from pennyweight_benchmarks.documents import check_document, collection, read_documents
from support import command, one_line

TEXT = json.dumps(bench_document())
BAD = {
    "missing": (None, "can't be read"),
    "empty": ("", "truncated"),
    "truncated": (TEXT[: len(TEXT) // 2], "truncated"),
    "text": ("hello", "truncated"),
    "deep": ("[" * 100_000, "truncated"),
    "NaN": (TEXT.replace("2000.0", "NaN", 1), "truncated"),
    "infinity": (TEXT.replace("2000.0", "1e999", 1), "truncated"),
    "half a character": (TEXT.replace("digits", "\\ud800"), "truncated"),
    "list": ("[1, 2]", "no Pennyweight result"),
    "another tool": ('{"benchmarks": [], "machine_info": {}}', "no Pennyweight result"),
    "another format": ('{"format": "pennyweight-bundle", "version": 1}', "'pennyweight-bundle'"),
    "another version": (json.dumps({**bench_document(), "version": 2}), "version 2, this command reads 1"),
    "no rows": (json.dumps(bench_document(rows=[])), "a run with no rows"),
    "parity without rows": (json.dumps(parity_document(rows=[])), "a run with no rows"),
    "report without results": ('{"format": "pennyweight-report", "version": 1, "documents": []}', "without results"),
}


# Both verbs read by one function: each sees half of the cases.
@pytest.mark.parametrize(("case", "verb"), [(case, ("compare", "report")[k % 2]) for k, case in enumerate(BAD)])
def test_a_file_that_is_no_result_is_one_line(case: str, verb: str, tmp_path: Path) -> None:
    content, said = BAD[case]
    bad, good, page = tmp_path / "bad.json", write(tmp_path / "good.json", bench_document()), tmp_path / "r.html"
    if content is not None:
        bad.write_text(content, encoding="utf-8")
    words = [good, bad] if verb == "compare" else [good, bad, "-o", page]
    line = one_line(command(verb, *words), 2)
    assert said in line
    assert "bad.json" in line
    assert not page.exists()


def damaged(*path: Any, value: Any = None, remove: bool = False) -> dict[str, Any]:
    document = bench_document()
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (damaged("machine", remove=True), "machine is missing"),
        (damaged("machine", value=[]), "machine is no object"),
        (damaged("states", value=[]), "no states"),
        (damaged("rows", value={}), "rows is no list"),
        (damaged("rows", 0, value=None), "rows[0].artifact is missing"),
        (damaged("rows", 0, "engine", value=7), "rows[0].engine is no text"),
        (damaged("rows", 0, "rounds", 1, "quantiles", "p50", value=None), "rounds[1].quantiles.p50"),
        (damaged("rows", 0, "rounds", 1, "quantiles", "p50", value=0), "rounds[1].quantiles.p50"),
        (damaged("rows", 0, "rounds", 1, "quantiles", "p99", value="fast"), "quantiles.p99 is no number"),
        (damaged("rows", 0, "rounds", 0, "samples", 3, value="x"), "samples[3] is no number"),
        (damaged("rows", 0, "rounds", 0, "batches", value=[{"size": 8}]), "images_per_second is missing"),
        (damaged("rows", 0, "rounds", 0, "steps", value={"run": 1}), "steps.prepare is missing"),
        (damaged("rows", 0, "cold_starts", 0, "answered_ns", remove=True), "answered_ns is missing"),
        (damaged("rows", 0, "cold_starts", 0, "numpy_ns", value="x"), "numpy_ns is no number"),
        (damaged("rows", 0, "sustained", value=[{"start_s": 0}]), "quantiles is missing"),
        (damaged("rows", 0, "parity", value={"samples": 0}), "parity.samples"),
        (damaged("taints", value=[{"cause": "heat"}]), "remedy is missing"),
    ],
)
def test_a_damaged_result_says_where(document: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError, match=r"damaged|no states") as caught:
        check_document(document, "x.json")
    assert place in str(caught.value)


def test_a_reports_own_json_is_read_back(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.json", bench_document()), write(tmp_path / "b.json", parity_document())
    documents = read_documents([first, second])
    again = read_documents([write(tmp_path / "all.json", collection(documents))])
    assert [one.content for one in again] == [one.content for one in documents]
    assert [one.file for one in again] == ["a.json", "b.json"]
    broken = collection(documents)
    broken["documents"][1]["content"]["rows"] = []
    with pytest.raises(InputError, match="no rows"):
        read_documents([write(tmp_path / "broken.json", broken)])


def test_report_without_a_place_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json", bench_document())
    assert "-o report.html" in one_line(command("report", good), 2)
    assert "can't be written" in one_line(command("report", good, "-o", tmp_path / "no" / "r.html"), 2)
    assert "no such bundle" in one_line(command("report", good, "-o", tmp_path / "r", "--bundle", tmp_path / "no"), 2)
    assert not (tmp_path / "r").exists()
