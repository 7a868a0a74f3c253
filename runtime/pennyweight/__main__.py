"""``python -m pennyweight``."""

from .cli import run

run()
