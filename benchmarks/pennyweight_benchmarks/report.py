"""The report: results in, one page out that needs nothing else, with the results in it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from pennyweight import __version__

from .documents import Document, collection
from .exhibits import (
    classes_section,
    confusion_section,
    flips_section,
    model_section,
    numbers_section,
)
from .html import Html, element, embedded_json, joined
from .instructions.exhibits import instructions_section
from .performance import speed_section
from .runs import make_runs
from .sections import (
    devices_section,
    environment_section,
    table_section,
    trade_off_section,
    verdict_section,
)
from .summary import headline, report_title

DATA_ID = "pennyweight-data"
# Nothing is fetched, whatever a name in the results may try; styles and pictures are in the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def report_html(documents: Sequence[Document]) -> str:
    """Write the page.

    Args:
        documents: benches, parity, a demo's results, evidence, a training's history, errors per layer,
            instructions; in any number.

    Returns:
        HTML with everything inline. Each figure is from the documents, which the page carries as JSON in the element
        ``pennyweight-data``; ``read_documents`` reads that JSON, and gives this page again.
    """
    runs = make_runs(documents)
    title = report_title(runs)
    sections = [
        verdict_section(runs),
        table_section(runs),
        trade_off_section(runs),
        speed_section(runs),
        devices_section(runs),
        instructions_section(documents),
        confusion_section(documents),
        flips_section(documents),
        classes_section(runs),
        numbers_section(runs),
        model_section(documents),
        environment_section(runs),
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # An icon of nothing, or browsers ask the server for one.
        Html('<link rel="icon" href="data:,">'),
        element("title", title),
        Html(f"<style>{_style()}</style>"),
    )
    lead = element("ul", *(element("li", line) for line in headline(runs, documents)), class_="lead")
    header = element("header", element("p", "Pennyweight report", class_="brand"), element("h1", title), lead)
    footer = element(
        "footer",
        f"Made by Pennyweight {__version__}. Every figure is from the JSON in this page's element “{DATA_ID}”.",
    )
    body = element("body", header, element("main", *sections), footer, embedded_json(collection(documents), DATA_ID))
    return joined(Html("<!DOCTYPE html>\n"), element("html", head, body, lang="en"), Html("\n"))


def _style() -> str:
    return resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
