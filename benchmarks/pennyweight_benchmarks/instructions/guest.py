"""The program that is counted: on the target it imports, loads and answers, and marks where each part ends.

    python guest.py BUNDLE ARTIFACT ENGINE

A mark is a system call that ``counting.c`` sees; its number says which part has just ended. On standard output comes
one line of JSON: the versions of what ran, and why a part is missing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing would cost more than this whole file
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARK = 0x50570000
UNCOUNTED, INTERPRETER, NUMPY, RUNTIME, ENGINE, LOAD, FIRST, CLASSIFY, BARE, EMPTY = range(10)
# Python adapts to what it runs for some tens of calls; those aren't counted.
WARM, CALLS = 100, 30
# A model that would take longer than this under emulation is called fewer times.
SECONDS, FEWEST = 20.0, 3


def mark(part: int) -> None:
    """Say that ``part`` has ended. No process has that number: an error, which costs the same every time."""
    try:  # noqa: SIM105
        os.getpriority(0, MARK + part)
    except OSError:
        pass


def main(bundle_path: str, artifact: str, engine: str) -> None:
    """Go through a start and the first answer, then count calls one by one."""
    # numpy's import seeds a generator, and what that costs depends on the seed.
    os.urandom = lambda size: bytes(range(256))[:size]
    import numpy

    mark(NUMPY)
    from pennyweight.bundle import open_bundle
    from pennyweight.engines import engine_version
    from pennyweight.loading import load

    mark(RUNTIME)
    version = engine_version(engine)
    mark(ENGINE)
    bundle = open_bundle(bundle_path)
    model = load(bundle, artifact=artifact, engine=engine, threads=1)
    mark(LOAD)
    from pennyweight.worker import single_call

    inputs = {name: array[0] for name, array in bundle.golden().inputs.items()}
    sample = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    call = single_call(model)
    mark(UNCOUNTED)
    call(sample)
    mark(FIRST)
    wire = model.steps()[0](sample)
    if isinstance(wire, dict) and len(wire) == len(model.engine.outputs) == 1:
        (wire,) = wire.values()
    reason = count_calls(bundle, artifact, engine, call, sample, wire)
    import json
    import platform

    versions = {"engine_version": version, "numpy": numpy.__version__, "python": platform.python_version()}
    print(json.dumps({**versions, "no_bare": reason}), flush=True)


def count_calls(bundle: Any, artifact: str, engine: str, call: Callable[[Any], Any], sample: Any, wire: Any) -> str:
    """Mark after each of many calls: whole ones, the engine's own, and none; give why the engine's own are missing.

    Args:
        bundle: the open bundle.
        artifact: the file that ``engine`` runs.
        engine: its name.
        call: answers ``sample`` through the runtime.
        sample: one input.
        wire: the same as the engine takes it.
    """
    import gc

    from pennyweight_benchmarks.bare import bare_calls

    single = not isinstance(wire, dict)
    bare = bare_calls(engine, bundle.read(artifact), wire) if single else None
    warm, counted = how_many(lambda: call(sample))
    gc.disable()
    mark(UNCOUNTED)
    for part in [UNCOUNTED] * warm + [CLASSIFY] * counted:
        call(sample)
        mark(part)
    if bare is not None:
        mark(UNCOUNTED)
        for part in [UNCOUNTED] * warm + [BARE] * counted:
            bare()
            mark(part)
    mark(UNCOUNTED)
    for part in [UNCOUNTED] * WARM + [EMPTY] * CALLS:
        mark(part)
    return "" if single else "the engine's own calls are counted for models with one input and one output"


def how_many(call: Callable[[], Any]) -> tuple[int, int]:
    """Give how many calls go before, and how many are counted."""
    from time import process_time

    start = process_time()  # a busy machine doesn't make it fewer
    call()
    share = SECONDS / (WARM + CALLS) / max(process_time() - start, 1e-9)
    return (WARM, CALLS) if share >= 1 else (int(WARM * share), max(FEWEST, int(CALLS * share)))


if __name__ == "__main__":
    mark(INTERPRETER)
    import sys
    import warnings

    warnings.simplefilter("ignore")  # a wrong model's cost may be of interest; parity is another verb's matter
    main(*sys.argv[1:])
