"""``report``: results as one page to look at, or as Markdown."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pennyweight.bundle import open_bundle
from pennyweight.errors import UsageError
from pennyweight.output import notice, write_atomically

HELP = "a page to look at: verdicts, tables and charts from results' JSON"
OWN_OUTPUT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "files",
        metavar="F.json",
        nargs="+",
        help="results of `bench`, `parity`, `layers` or `demo`, a training's history, or a report's own --json",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the page, such as report.html")
    parser.add_argument("--markdown", action="store_true", help="Markdown instead; without -o it is printed")
    parser.add_argument(
        "--bundle", metavar="BUNDLE", help="answer its evaluation set here, for confusion, flipped samples and sizes"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page; exit code 0."""
    from .documents import Document, check_document, collection, read_documents
    from .evidence import gather_evidence

    if not (args.output or args.markdown or args.json):
        raise UsageError("nowhere to put the page; give -o report.html, or --markdown to print")
    documents: list[Document] = read_documents(args.files)
    if args.bundle:
        bundle = open_bundle(args.bundle)
        notice(args, f"{args.bundle}: answering the evaluation set with every artifact")
        evidence = gather_evidence(bundle)
        if evidence["reason"]:
            notice(args, f"{args.bundle}: {evidence['reason']}")
        documents.append(check_document(evidence, f"{Path(args.bundle).name}-evidence.json"))
    if args.markdown:
        from .summary import report_markdown

        text = report_markdown(documents)
    elif args.output:
        from .report import report_html

        text = report_html(documents)
    if args.output:
        write_atomically(args.output, text.encode())
        notice(args, f"wrote {args.output}")
    elif args.markdown and not args.json:
        print(text)
    if args.json:
        print(json.dumps(collection(documents), ensure_ascii=False, allow_nan=False))
    return 0
