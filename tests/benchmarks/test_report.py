"""The report: every figure from its JSON, nothing that can be broken into, and what is missing said."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from documents_support import MACHINE, bench_document, parity_document, parity_row, write
from pennyweight import open_bundle
from pennyweight.manifest import InputSpec, dump_manifest
from pennyweight_benchmarks import check_document, gather_evidence, read_documents, report_html, report_markdown
from pennyweight_benchmarks.charts import Point
from pennyweight_benchmarks.evidence import picture_uri
from pennyweight_benchmarks.html import element, embedded_json, escaped, picture
from pennyweight_benchmarks.runs import make_runs
from pennyweight_benchmarks.sections import beats
from support import FIXTURE, command, one_line

JsonObject = dict[str, Any]

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac{1$ &amp; \x00\ud800 日本"
HISTORY: JsonObject = {"format": "pennyweight-history", "version": 1, "loss": [1.5, 0.5, 0.1], "recipe": "lab"}
LAYERS: JsonObject = {
    "format": "pennyweight-layers",
    "version": 1,
    "rows": [{"artifact": "int8.tflite", "layer": "L1", "relative_error": 0.012}],
}
VOID = {"meta", "img", "link", "path", "use", "br"}


class Page(HTMLParser):
    """A page, parsed strictly: every element is closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self.text = ""
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data["json"] = self.data.get("json", "") + data
        elif not self.open or self.open[-1] != "style":
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(*contents: JsonObject) -> Page:
    return Page(report_html([check_document(content, f"{k}.json") for k, content in enumerate(contents)]))


@pytest.fixture(scope="module")
def evidence() -> JsonObject:
    return gather_evidence(open_bundle(FIXTURE))


def test_verdicts_come_first_and_every_section_is_there(evidence: JsonObject) -> None:
    evidence = {**evidence, "bundle": "digits"}
    other = bench_document(3, machine={**MACHINE, "cpu": "another processor"})
    page = page_of(bench_document(), other, parity_document(), evidence, HISTORY, LAYERS)
    heads = re.findall(
        "Verdicts|All figures|Accuracy, latency, size|Speed and memory|Devices side by side|Confusion|Flipped samples"
        "|Training and layers|Environment",
        page.text,
    )
    assert list(dict.fromkeys(heads)) == [
        "Verdicts",
        "All figures",
        "Accuracy, latency, size",
        "Speed and memory",
        "Devices side by side",
        "Confusion",
        "Flipped samples",
        "Training and layers",
        "Environment",
    ]
    for attributes in page.of("svg"):
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"] or "") > 20
    assert len(page.of("svg")) >= 8


def test_each_figure_is_from_the_json(tmp_path: Path) -> None:
    page = page_of(bench_document(1.234), parity_document())
    for text in ("4.94", "2.47", "93.00", "92.84", "16/0/0", "130", "40", "2 of 2 artifact × engine pairs passed"):
        assert text in page.text
    carried = json.loads(page.data["json"])
    assert [one["content"] for one in carried["documents"]] == [bench_document(1.234), parity_document()]
    # The page is made from its own JSON alone.
    again = report_html(read_documents([write(tmp_path / "carried.json", carried)]))
    assert Page(again).text == page.text


def test_a_changed_figure_changes_the_page() -> None:
    document = parity_document()
    document["rows"][1]["figures"]["accuracy"] = 0.4711
    assert "47.11" in page_of(bench_document(), document).text
    assert "47.11" not in page_of(bench_document(), parity_document()).text


@pytest.mark.parametrize("place", ["artifact", "engine", "reason", "bundle", "cpu", "cause", "label", "file", "layer"])
def test_hostile_names_stay_text(place: str, evidence: JsonObject) -> None:
    bench, parity = bench_document(), parity_document()
    proof, layers = json.loads(json.dumps({**evidence, "bundle": "digits"})), json.loads(json.dumps(LAYERS))
    name = f"{HOSTILE}{place}"
    if place in ("artifact", "engine"):
        for row in (bench["rows"][1], parity["rows"][1], proof["flips"][0]["answers"][0] if proof["flips"] else {}):
            row[place] = name
    elif place == "reason":
        bench["rows"][2]["reason"] = parity["rows"][1]["reason"] = name
    elif place == "bundle":
        bench["bundle"] = parity["bundle"] = proof["bundle"] = name
    elif place == "cpu":
        bench["machine"]["cpu"] = bench["machine"]["governor"] = name
    elif place == "cause":
        bench["taints"] = [{"cause": name, "remedy": name}]
    elif place == "label":
        proof["labels"][3] = name
        flip = {"index": 1, "picture": f"data:image/png;base64,AAAA{name}", "label": name, "original": [name, 0.5]}
        proof["flips"] = [{**flip, "answers": [{"artifact": "a", "engine": "b", "answer": [name, 0.6]}]}]
        parity["rows"][1]["figures"]["classes"][0]["label"] = name
    elif place == "layer":
        layers["rows"][0]["layer"] = name
    documents = [
        check_document(content, name if place == "file" else "x.json")
        for content in (bench, parity, proof, HISTORY, layers)
    ]
    content = report_html(documents)
    page = Page(content)
    assert len(page.of("script")) == 1
    assert page.of("script")[0]["type"] == "application/json"
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    for attributes in page.of("img"):
        assert (attributes["src"] or "").startswith("data:image/png;base64,")
    assert "alert(2)" in page.text + page.data["json"]
    content.encode()
    assert "<script>alert" not in report_markdown(documents)


def test_escaping_by_its_parts() -> None:
    assert element("p", "<b>&\"'") == "<p>&lt;b&gt;&amp;&quot;&#x27;</p>"
    assert element("p", class_='" onclick="x') == '<p class="&quot; onclick=&quot;x"></p>'
    assert escaped("a\x00b\ud800") == "a\ufffdb\ufffd"
    assert "</script>" not in embedded_json({"x": "</script><!--"}, "i")[8:-9]
    assert json.loads(re.sub("<.*?>", "", embedded_json({"x": "</script>"}, "i"))) == {"x": "</script>"}
    for uri in ("javascript:alert(1)", "https://example.org/x.png", "data:text/html;base64,AAAA", None, 7):
        assert "no picture" in picture(uri, "x")
    assert 'src="data:image/png;base64,AAAA"' in picture("data:image/png;base64,AAAA", "x")


def test_nothing_is_fetched(evidence: JsonObject) -> None:
    content = report_html([check_document(bench_document(), "a.json"), check_document(evidence, "b.json")])
    page = Page(content)
    for _, attributes in page.elements:
        for key in ("src", "href", "action", "data", "srcset"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import|<script(?! type=\"application/json\")", content)
    assert "default-src 'none'" in str(page.of("meta"))


def test_what_is_missing_is_said_and_never_nought() -> None:
    page = page_of(bench_document())
    assert "Parity: not measured, so this is latency only." in page.text
    assert "float32.onnx on onnxruntime: not installed" in page.text
    assert "no p99.9" in page.text
    assert "0.00" not in page.text
    # A bench that older versions wrote, without what came later.
    old = bench_document()
    for row in old["rows"]:
        row["cold_starts"] = [{"answered_ns": 5e8} for _ in row["cold_starts"]]
    assert "not measured for this row" in page_of(old).text


def test_a_taint_and_a_failure_are_said() -> None:
    bench = bench_document(taints=[{"cause": "the firmware reports throttled", "remedy": "better cooling"}])
    bench["rows"][1].update(status="failed", reason="crashed (SIGSEGV)", rounds=[], cold_starts=[])
    text = page_of(bench, parity_document("fail")).text
    assert "tainted" in text
    assert "the firmware reports throttled: better cooling" in text
    assert "crashed (SIGSEGV)" in text
    assert "1 of 2 artifact × engine pairs passed" in text


def test_what_failed_parity_is_not_called_fastest_nor_on_the_front() -> None:
    assert "Lowest median latency among those that passed: int8" in page_of(bench_document(), parity_document()).text
    failed = page_of(bench_document(), parity_document("fail")).text
    assert "Lowest median latency among those that passed: float32.tflite" in failed
    assert "failed parity" in failed


def test_the_front_is_of_accuracy_latency_and_size() -> None:
    def point(microseconds: float, accuracy: float, size: float) -> Point:
        return Point(0, microseconds, accuracy, accuracy, accuracy, size, "", True, False)

    best = point(2, 93, 10)
    assert beats(best, point(3, 93, 10))
    assert beats(best, point(2, 92, 10))
    assert beats(best, point(2, 93, 11))
    assert not beats(best, best)
    assert not beats(best, point(3, 92, 9))
    assert not beats(best, point(1, 92, 11))


def test_devices_of_one_name_are_told_apart() -> None:
    documents = [check_document(bench_document(k + 1.0), f"place/{name}") for k, name in enumerate("abb")]
    names = [run.device for run in make_runs(documents)]
    assert names == ["a processor (a)", "a processor (b)", "a processor (b) #2"]
    page = Page(report_html(documents))
    assert "Devices side by side" in page.text
    for name in names:
        assert name in page.text


def test_parity_goes_to_its_own_bundle_architecture_and_engine_version() -> None:
    def verdicts(bench: JsonObject, parity: JsonObject) -> list[list[str]]:
        runs = make_runs([check_document(bench, "a.json"), check_document(parity, "b.json")])
        return [[row["parity"]["status"] for row in run.rows] for run in runs]

    assert verdicts(bench_document(), parity_document()) == [["pass", "pass", ""]]
    alone = [["", "", ""], ["pass", "pass"]]
    assert verdicts(bench_document(), parity_document(bundle="other")) == alone
    arm = bench_document(machine={**MACHINE, "architecture": "aarch64"})
    assert verdicts(arm, parity_document()) == alone
    newer = parity_document()
    newer["rows"][1]["engine_version"] = "2.0"
    assert verdicts(bench_document(), newer) == [["pass", "", ""]]


def test_markdown_has_the_same_figures(tmp_path: Path) -> None:
    documents = [check_document(bench_document(), "a.json"), check_document(parity_document(), "b.json")]
    text = report_markdown(documents)
    line = next(line for line in text.splitlines() if line.startswith("| int8.tflite"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3:7] == ["92.84", "99.84", "16/0/0", "2.00"]
    assert cells[-1] == "pass"
    a, b = write(tmp_path / "a.json", bench_document()), write(tmp_path / "b.json", parity_document())
    printed = command("report", a, b, "--markdown")
    assert printed.stdout.strip() == text.strip()
    done = command("report", a, b, "--markdown", "-o", tmp_path / "r.md")
    assert done.stdout == ""
    assert (tmp_path / "r.md").read_text().strip() == text.strip()


def test_outputs_without_labels_have_their_own_table() -> None:
    outputs = [{"name": "depth", "relative_error": 0.0123, "snr_db": 38.2, "cosine": 0.999, "largest": 0.5}]
    row = parity_row("int8.tflite", "ai-edge-litert", 0)
    row["figures"] = {"kind": "numbers", "samples": 10, "outputs": outputs}
    text = page_of(bench_document(), parity_document(rows=[row])).text
    assert "depth" in text
    assert "0.0123" in text


def test_evidence_counts_what_the_bundle_holds(evidence: JsonObject) -> None:
    samples, name = open_bundle(FIXTURE).evaluation(), "probabilities"
    confusion = np.zeros((10, 10), int)
    assert samples.labels is not None
    np.add.at(confusion, (samples.labels, samples.outputs[name].argmax(axis=1)), 1)
    assert evidence["original"]["confusion"] == confusion.tolist()
    assert {row["status"] for row in evidence["rows"]} <= {"pass", "inconclusive", "fail", "absent"}
    for row in evidence["rows"]:
        if row["status"] != "absent":
            assert sum(map(sum, row["confusion"])) == samples.rows
    assert check_document(evidence, "x").kind == "pennyweight-evidence"


def test_flipped_samples_have_both_answers_and_their_picture(lab_bundle: Path) -> None:
    evidence = gather_evidence(open_bundle(lab_bundle))
    samples = open_bundle(lab_bundle).evaluation()
    original = next(iter(samples.outputs.values()))
    figures = {(row["artifact"], row["engine"]): row["figures"] for row in evidence["rows"] if row["figures"]}
    most = max(sum(one[k] for k in ("flips_lost", "flips_won", "flips_other")) for one in figures.values())
    assert evidence["flipped"] >= most > 0
    for flip in evidence["flips"]:
        row = original[flip["index"]]
        assert flip["original"] == [str(row.argmax()), pytest.approx(row.max(), abs=1e-4)]
        assert samples.labels is not None
        assert flip["label"] == str(samples.labels[flip["index"]])
        assert flip["picture"].startswith("data:image/png;base64,")
        assert all(one["answer"][0] != flip["original"][0] for one in flip["answers"])
    page = page_of(evidence)
    assert len(page.of("img")) == len(evidence["flips"])


def test_what_agrees_with_the_original_is_not_answered_again(evidence: JsonObject) -> None:
    known = {(row["artifact"], row["engine"]): row for row in evidence["rows"]}
    again = gather_evidence(open_bundle(FIXTURE), known)
    assert {**again, "created": ""} == {**evidence, "created": ""}
    # A row that says it agrees is believed, so that this is seen to matter; one that doesn't is measured.
    figures = {"samples": 32, "agreement": 1.0}
    believed = gather_evidence(open_bundle(FIXTURE), {pair: {**row, "figures": figures} for pair, row in known.items()})
    assert all(row["figures"] == figures for row in believed["rows"])
    assert believed["flips"] == []


@pytest.mark.parametrize(
    ("shape", "dtype", "span", "drawn"),
    [
        ((8, 8), "uint8", None, True),
        ((8, 8, 1), "uint8", None, True),
        ((8, 8, 3), "uint8", None, True),
        ((8, 8), "float32", (0.0, 1.0), True),
        ((8, 8), "float32", None, False),
        ((8, 8, 5), "uint8", None, False),
        ((64,), "uint8", None, False),
    ],
)
def test_only_pictures_are_drawn(shape: tuple[int, ...], dtype: str, span: Any, drawn: bool) -> None:
    uri = picture_uri(np.ones(shape, dtype), InputSpec("image", shape, dtype, span))
    assert (uri is not None) == drawn


def without_evaluation(place: Path) -> Path:
    """Copy the version-1 bundle, as if it had been exported without an evaluation set."""
    shutil.copytree(FIXTURE, place)
    (place / "evaluation.npz").unlink()
    manifest = open_bundle(FIXTURE).manifest
    files = {name: record for name, record in manifest.files.items() if name != "evaluation.npz"}
    (place / "manifest.json").write_bytes(dump_manifest(manifest._replace(files=files, evaluation=None)))
    return place


def test_the_command_from_bench_to_page(tmp_path: Path) -> None:
    bench, page, everything = tmp_path / "bench.json", tmp_path / "r.html", tmp_path / "all.json"
    measured = command("bench", FIXTURE, "--rounds", "2", "--seconds", "0.005", "-o", bench)
    assert measured.returncode == 0, measured.stderr
    done = command("report", bench, "--bundle", FIXTURE, "-o", page, "--json")
    assert done.returncode == 0, done.stderr
    text = Page(page.read_text(encoding="utf-8")).text
    for row in json.loads(bench.read_text())["rows"]:
        assert f"{row['artifact']} on {row['engine']}" in text
    everything.write_text(done.stdout)
    again = command("report", everything, "-o", tmp_path / "again.html", "--quiet")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert Page((tmp_path / "again.html").read_text(encoding="utf-8")).text == text


def test_a_bundle_without_an_evaluation_set_gives_latency_only_and_says_so(tmp_path: Path) -> None:
    bench, page = write(tmp_path / "a.json", bench_document(bundle="tiny")), tmp_path / "r.html"
    done = command("report", bench, "--bundle", without_evaluation(tmp_path / "bare"), "-o", page)
    assert done.returncode == 0, done.stderr
    assert "no evaluation set, so there is latency only" in done.stderr
    text = Page(page.read_text(encoding="utf-8")).text
    assert "no evaluation set, so there is latency only" in text
    assert "pairs passed" not in text


def test_a_damaged_bundle_leaves_no_page(tmp_path: Path) -> None:
    bundle = tmp_path / "b.pennyweight"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("manifest.json", "{}")
    bench, page = write(tmp_path / "a.json", bench_document()), tmp_path / "r.html"
    one_line(command("report", bench, "--bundle", bundle, "-o", page), 2)
    assert not page.exists()
