"""Proofs that the measuring measures right; ``make bench-proof`` prints them.

python -m pennyweight_benchmarks.proofs [--tries 200] [--folder build/bench] [aa] [tools] [parity]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from pennyweight.bench import NO_DIFFERENCE, Plan, claim, measure_bench, speed_up
from pennyweight.bundle import Bundle, open_bundle
from pennyweight.commands.parity import measure_rows
from pennyweight.commands.verify import pairs
from pennyweight.engines import is_installed
from pennyweight.isolation import run_isolated

from .cost_models import make_models

JsonObject = dict[str, Any]
Progress = Callable[[str], None]

# What an honest 95 % method claims more often than this among 200 once in a thousand: binomial(200, 0.05).
MOST_CLAIMS = 21
TRY = Plan(rounds=5, seconds=0.005, cold_starts=0, batches=())
# Independent tools agree with the figures of a model of a millisecond or more within this share.
AGREEMENT = 0.10
TOOL_ROUNDS = 15
TOOL_CALLS = 60
PARITY_SECONDS = 5.0


class Agreement(NamedTuple):
    """An artifact's latency as an independent tool finds it, and ours over that."""

    artifact: str
    engine: str
    tool: str
    tool_ms: float
    ratio: float


def count_false_claims(bundle: Bundle, pair: tuple[str, str], tries: int, progress: Progress) -> int:
    """Bench a pair against itself so many times; give how often a difference is claimed, where there is none."""
    claims = 0
    for number in range(tries):
        rows = measure_bench(bundle, [pair, pair], TRY._replace(seed=number), progress=lambda text: None)["rows"]
        claims += claim(speed_up(*rows)) != NO_DIFFERENCE
        progress(f"A/A: {claims} claims in {number + 1} tries")
    return claims


def compare_with_tools(bundle: Path, progress: Progress) -> list[Agreement]:
    """Set our median of each pair beside what the engine's own tool finds on the same file, both in turns."""
    opened = open_bundle(bundle)
    found = []
    for artifact, engine in pairs(opened, None, None):
        tool = TOOLS.get(engine)
        if tool is None or not is_installed(engine):
            continue
        progress(f"{artifact} on {engine}")
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(TOOL_ROUNDS):
            plan = Plan(rounds=1, seconds=0.2, cold_starts=0, batches=(), seed=number)
            (row,) = measure_bench(opened, [(artifact, engine)], plan, progress=lambda text: None)["rows"]
            ours.append(row["rounds"][0]["quantiles"]["p50"] / 1e6)
            theirs.append(tool(bundle / artifact))
        # Other work on the machine only adds to a round's figure, so the lowest of each is what compares.
        name = tool.__name__.strip("_").replace("_", " ")
        found.append(Agreement(artifact, engine, name, min(theirs), min(ours) / min(theirs)))
    return found


def time_parity(bundle: Bundle) -> tuple[int, int, float]:
    """Measure parity of every artifact on every engine; give the samples, the pairs measured, and the seconds."""
    start = perf_counter()
    rows = measure_rows(bundle, pairs(bundle, None, None))
    measured = [row["figures"] for row in rows if row["figures"]]
    return measured[0]["samples"], len(measured), perf_counter() - start


def onnxruntime_test_task(arguments: JsonObject) -> JsonObject:
    """Let onnxruntime's own test tool run an ONNX file, on one thread; give its average in ms. For ``run_isolated``."""
    import onnxruntime
    from onnxruntime.tools import onnxruntime_test as tool

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session_class = onnxruntime.InferenceSession

    def session(path: str, sess_options: Any, providers: Any) -> Any:
        return session_class(path, options, providers=["CPUExecutionProvider"])

    # The tool has no option for it, and by default it takes all cores.
    tool.onnxrt.InferenceSession = session
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        tool.run_model(arguments["path"], TOOL_CALLS)
    return {"average_ms": float(said.getvalue().split("avg latency: ")[1].split()[0])}


def _onnxruntime_test(path: Path) -> float:
    return float(run_isolated(f"{__spec_name__}:onnxruntime_test_task", {"path": str(path)}, 300)["average_ms"])


def _litert_benchmark(path: Path) -> float:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [str(Path(sys.executable).with_name("litert-benchmark")), "--model", str(path), "--num_threads", "1"]
        command += ["--num_runs", str(TOOL_CALLS), "--warmup_runs", str(TOOL_CALLS), "--result_json", file.name]
        subprocess.run(command, capture_output=True, check=True, timeout=300)
        return float(json.loads(Path(file.name).read_text())["latency"]["median_ms"])


TOOLS: dict[str, Callable[[Path], float]] = {
    "onnxruntime": _onnxruntime_test,
    "ai-edge-litert": _litert_benchmark,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the proofs that were asked for, by default all; exit code 1 when one fails."""
    parser = argparse.ArgumentParser(prog="python -m pennyweight_benchmarks.proofs", description=__doc__)
    parser.add_argument("proofs", nargs="*", default=["parity", "tools", "aa"])
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--tries", type=int, default=200)
    args = parser.parse_args(argv)

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    digits = open_bundle(make_models(args.folder, ["digits"], progress)["digits"])
    good = True
    if "parity" in args.proofs:
        samples, measured, seconds = time_parity(digits)
        good &= seconds <= PARITY_SECONDS
        print(f"parity of {samples:,} samples on {measured} pairs: {seconds:.1f} s (at most {PARITY_SECONDS:g})")
    if "tools" in args.proofs:
        for one in compare_with_tools(make_models(args.folder, ["mobile160"], progress)["mobile160"], progress):
            good &= abs(one.ratio - 1) <= AGREEMENT
            print(
                f"{one.artifact} on {one.engine}: {one.ratio:.3f} of the {one.tool_ms:.2f} ms that {one.tool} finds "
                f"(within {AGREEMENT:.0%})"
            )
    if "aa" in args.proofs:
        pair = next(pair for pair in pairs(digits, None, None) if is_installed(pair[1]))
        claims = count_false_claims(digits, pair, args.tries, progress)
        good &= claims <= MOST_CLAIMS * args.tries / 200
        print(f"A/A: {claims} of {args.tries} comparisons of {pair[0]} on {pair[1]} with itself claim a difference")
    return 0 if good else 1


# Under ``python -m`` this module is called __main__, and a child process can't import that.
__spec_name__ = f"{__package__}.proofs"

if __name__ == "__main__":
    sys.exit(main())
