"""Build the targets, renew their lock, or run a script on one.

python -m pennyweight_benchmarks.pi build [TARGET …]
python -m pennyweight_benchmarks.pi lock
python -m pennyweight_benchmarks.pi run TARGET SCRIPT [ARGUMENT …]
python -m pennyweight_benchmarks.pi memory WHEEL BUNDLE PICTURE [--megabytes N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from pennyweight.errors import PennyweightError

from .environment import make_environment
from .errors import TargetError
from .lock import write_lock
from .memory import SMALL, complaints, measure_memory, memory_table
from .renewal import renewed_lock
from .run import target_environment
from .target import build, build_all
from .targets import TARGETS

# The one that has every engine.
MEMORY_TARGET = "arm64-debian12"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 when a target can't be built, else that of the script."""
    parser = argparse.ArgumentParser(
        prog="python -m pennyweight_benchmarks.pi",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build targets").add_argument("targets", nargs="*", metavar="TARGET")
    verbs.add_parser("lock", help="renew the lock file from the archive and the index")
    runner = verbs.add_parser("run", help="run a script with a target's Python and all its wheels")
    runner.add_argument("target", choices=list(TARGETS))
    runner.add_argument("words", nargs=argparse.REMAINDER, metavar="SCRIPT [ARGUMENT …]")
    memory = verbs.add_parser("memory", help="what predict and parity take on a whole machine, engine by engine")
    for name in ("wheel", "bundle", "picture"):
        memory.add_argument(name, type=Path, metavar=name.upper())
    memory.add_argument("--megabytes", type=int, default=SMALL, metavar="N", help=f"the machine's ({SMALL})")
    args = parser.parse_args(argv)
    try:
        if args.verb == "build":
            unknown = [name for name in args.targets if name not in TARGETS]
            if unknown:
                parser.error(f"no target {unknown[0]!r}; the targets are {', '.join(TARGETS)}")
            return _build(args.targets or list(TARGETS))
        if args.verb == "lock":
            write_lock(renewed_lock(_progress))
            return 0
        if args.verb == "memory":
            return _memory(args.wheel, args.bundle, args.picture, args.megabytes)
        return _run(args.target, args.words)
    except PennyweightError as error:
        _progress(f"pennyweight: {error}")
        return error.exit_code


def _build(names: list[str]) -> int:
    start = monotonic()
    built, left_out = build_all(names, _progress)
    for name, one in built.items():
        print(f"{name}: {one.target.board}, {one.target.core}, Python {one.target.python}: {one.root}")
    for name, reason in left_out.items():
        print(f"{name}: left out: {reason}")
    print(f"{len(built)} of {len(names)} targets in {monotonic() - start:.0f} s")
    return 1 if left_out else 0


def _run(name: str, words: list[str]) -> int:
    built = build(name, _progress)
    with tempfile.TemporaryDirectory() as folder:
        system = "numpy" not in built.target.wheels
        python = make_environment(Path(folder, "environment"), built, built.wheels, system=system)
        return subprocess.run([python, *words], env=target_environment(python), check=False).returncode


def _memory(wheel: Path, bundle: Path, picture: Path, megabytes: int) -> int:
    for path in (wheel, bundle, picture):
        if not path.exists():
            raise TargetError(f"{path}: no such file; give the device wheel, a bundle and a picture")
    built = build(MEMORY_TARGET, _progress)
    measured = measure_memory(built, wheel, bundle, picture, megabytes, progress=_progress)
    print(memory_table(measured))
    found = complaints(measured)
    for line in found:
        _progress(f"pennyweight: {line}")
    return 1 if found else 0


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
