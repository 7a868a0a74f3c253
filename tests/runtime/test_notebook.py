"""What a notebook shows of results: their figures, as tables that nothing breaks out of."""

from __future__ import annotations

import json

import pytest

from pennyweight import Plan, load, measure_bench, measure_parity, open_bundle
from pennyweight.notebook import bench_html, numeric_parity_html
from pennyweight.tables import html_table
from pennyweight.verdicts import NumericParity, OutputDifference, Parity
from support import FIXTURE, installed_pairs

PAIRS = installed_pairs()
needs_an_engine = pytest.mark.skipif(not PAIRS, reason="no engine is installed here")


@needs_an_engine
def test_parity_shows_itself() -> None:
    bundle = open_bundle(FIXTURE)
    artifact, engine = PAIRS[0]
    parity = measure_parity(load(bundle, artifact=artifact, engine=engine), bundle.evaluation())
    assert isinstance(parity, Parity)
    shown = parity._repr_html_()
    assert shown.startswith("<table>")
    assert shown.endswith("</table>")
    assert f"{parity.verdict}: " in shown
    assert f"{100 * parity.agreement:.2f} %" in shown
    assert f"{parity.flips_lost} lost, {parity.flips_won} won" in shown
    without = parity._replace(reference="original", accuracy=None, original_accuracy=None, mcnemar_p=None)
    assert "accuracy" not in without._repr_html_()
    assert "unlike the original" in without._repr_html_()


def test_outputs_without_labels_show_themselves() -> None:
    output = OutputDifference("depth", 0.0123, 38.2, 0.9991, None, 0)
    parity = NumericParity("numbers", "pass", "depth: relative error 0.0123", 32, 0.05, (output,))
    shown = parity._repr_html_()
    assert shown == numeric_parity_html(parity)
    assert '<td style="text-align:right">0.0123</td>' in shown
    # What isn't known is an empty cell, never 0.
    assert '<td style="text-align:right"></td>' in shown


@needs_an_engine
def test_a_bench_shows_itself_and_is_plain_json() -> None:
    plan = Plan(rounds=2, seconds=0.005, cold_starts=1, batches=())
    result = measure_bench(open_bundle(FIXTURE), PAIRS[:1], plan, progress=lambda text: None)
    shown = result._repr_html_()  # type: ignore[attr-defined]
    artifact, engine = PAIRS[0]
    assert artifact in shown
    assert engine in shown
    assert shown.count("<tr>") == 2
    assert bench_html(json.loads(json.dumps(result))) == shown


def test_a_row_without_figures_gives_its_reason() -> None:
    row = {"artifact": "a", "engine": "b", "engine_version": None, "status": "failed", "reason": "crashed (SIGSEGV)"}
    shown = bench_html({"bundle": "x", "taints": [], "rows": [{**row, "rounds": [], "cold_starts": []}]})
    assert "failed: crashed (SIGSEGV)" in shown


def test_names_stay_text() -> None:
    shown = html_table(["<b>"], [["<script>alert(1)</script>"], ["&"]], caption="<i>")
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert '<caption style="text-align:left">&lt;i&gt;</caption>' in shown
