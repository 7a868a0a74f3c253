"""The page in a real browser: quiet, self-contained, readable on a phone, in the dark and by ear."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from browser import Browser, chromium
from documents_support import MACHINE, bench_document, parity_document
from pennyweight import open_bundle
from pennyweight.manifest import InputSpec
from pennyweight_benchmarks import check_document, gather_evidence, report_html
from pennyweight_benchmarks.evidence import picture_uri
from support import FIXTURE

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here (Debian: apt-get install chromium)")

LONG = "a-model-with-a-name-that-no-phone-is-wide-enough-for-and-no-space-in-it-anywhere.tflite"
# What lies wholly outside the window to the right, or makes the page wider than it is.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
UNNAMED = """[...document.querySelectorAll('svg, img')].filter(one =>
    !(one.getAttribute('aria-label') || one.getAttribute('alt') || '').trim()).length"""
UNTABLED = """[...document.querySelectorAll('figure')].filter(one => !one.querySelector('table')).length"""
# The contrast of the texts' colour with the page's, by WCAG 2.1's formula.
CONTRAST = """(() => {
    const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
    const paper = light(getComputedStyle(document.body).backgroundColor);
    return Math.min(...[...document.querySelectorAll('p, li, td, th, h1, h2, summary, svg text')].map(one => {
        const style = getComputedStyle(one), ink = light(one.tagName === 'text' ? style.fill : style.color);
        return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); }));
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench, parity = bench_document(), parity_document()
    bench["rows"][1]["artifact"] = parity["rows"][1]["artifact"] = LONG
    bench["taints"] = [{"cause": "the firmware reports throttled", "remedy": "better cooling"}]
    for row in bench["rows"][:2]:
        span = {"seconds": 60, "calls": 10, "quantiles": {"p50": 2000.0, "p99": 3000.0}}
        row["sustained"] = [{**span, "start_s": 60.0 * k} for k in range(5)]
        for one in row["rounds"]:
            one["steps"] = {"prepare": 200.0, "run": 1500.0, "finish": 300.0}
            one["batches"] = [{"size": size, "images_per_second": 1000.0 * size} for size in (1, 8, 64)]
    other = bench_document(5, machine={**MACHINE, "board": "Raspberry Pi 4 Model B Rev 1.5"})
    history = {"format": "pennyweight-history", "version": 1, "loss": [1.5, 0.5, 0.1]}
    rows = [{"artifact": "int8.tflite", "layer": f"L{k}", "relative_error": 0.01 * k} for k in range(1, 4)]
    layers = {"format": "pennyweight-layers", "version": 1, "rows": rows}
    evidence = gather_evidence(open_bundle(FIXTURE))
    answer = {"artifact": LONG, "engine": "ai-edge-litert", "answer": ["5", 0.51]}
    pixel = picture_uri(np.zeros((20, 20), np.uint8), InputSpec("image", (20, 20), "uint8"))
    flip = {"index": 1, "picture": pixel, "original": ["3", 0.6], "answers": [answer]}
    evidence["flips"] = [{**flip, "label": label} for label in "3589"]
    contents = (bench, other, parity, history, layers, evidence)
    path = tmp_path_factory.mktemp("page") / "report.html"
    documents = [check_document(content, f"{k}.json") for k, content in enumerate(contents)]
    path.write_text(report_html(documents), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_is_quiet_fits_and_asks_for_nothing(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.show(width, dark)
    browser.open(page)
    assert browser.complaints() == []
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.ask("innerWidth") == width
    assert browser.ask(OVERFLOW) <= 0
    # Unfolded tables scroll inside their own container, too.
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.ask(OVERFLOW) <= 0
    assert browser.ask("document.querySelectorAll('svg').length") >= 9


def test_every_chart_has_words_and_a_table(browser: Browser, page: Path) -> None:
    browser.show(1280)
    browser.open(page)
    assert browser.ask(UNNAMED) == 0
    assert browser.ask(UNTABLED) == 0


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_from_the_page(browser: Browser, page: Path, dark: bool) -> None:
    browser.show(1280, dark)
    browser.open(page)
    shade = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, shade[4:-1].split(","))) < 200) == dark
    # WCAG 2.1 AA asks for 4.5 : 1.
    assert browser.ask(CONTRAST) >= 4.5


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.show(1280)
    browser.open(page)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000
    # A4 within its margins is 703 px wide: what lay beyond would be cut off or shrink the whole page.
    browser.show(703, media="print")
    assert browser.ask(OVERFLOW) <= 0


def test_the_checks_would_see_a_bad_page(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<meta name=viewport content='width=device-width'><body style='background:#fff'><p style='color:#ccc'>pale</p>"
        "<div style='width:2000px'>wide</div><figure><svg></svg></figure>"
        "<img src='missing.png'><script>console.error('no')</script>"
    )
    browser.show(375)
    browser.open(bad)
    assert browser.complaints()
    assert len(browser.requests()) == 2
    assert browser.ask(OVERFLOW) > 0
    assert browser.ask(UNNAMED) == 2
    assert browser.ask(UNTABLED) == 1
    assert browser.ask(CONTRAST) < 4.5
