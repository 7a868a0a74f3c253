"""Arguments that several verbs have in common."""

from __future__ import annotations

import argparse


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add BUNDLE."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder or .pennyweight file")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add --artifact and --engine."""
    parser.add_argument("--artifact", metavar="NAME", help="this model file of the bundle, such as int8.tflite")
    parser.add_argument("--engine", metavar="NAME", help="ai-edge-litert, tflite-runtime or onnxruntime")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for one inference (default 1)")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust."""
    parser.add_argument(
        "--trust", metavar="FILE", help="refuse a bundle that nobody in this allowed-signers file (ssh-keygen's) signed"
    )


def add_restart(parser: argparse.ArgumentParser) -> None:
    """Add --restart and --settle."""
    parser.add_argument("--restart", metavar="UNIT", help="restart this systemd service after the switch and watch it")
    parser.add_argument(
        "--settle", type=float, default=5.0, metavar="S", help="seconds that the service must keep running (default 5)"
    )
