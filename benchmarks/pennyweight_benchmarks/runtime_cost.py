"""What the runtime costs over the bare engine, as ratios within one run, beside the goals; ``make bench`` prints them.

python -m pennyweight_benchmarks.runtime_cost [--folder build/bench] [-o FILE.json] [digits mobile96 mobile224]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pennyweight.bundle import open_bundle
from pennyweight.isolation import run_isolated
from pennyweight.output import write_atomically
from pennyweight.tables import text_table

from .bare import BARE_START, LATE_START, LOAD_START, bare_calls, usual_recipe
from .cost_models import PLAIN, make_models

# Rounds in which the two sides of a ratio take turns; the ratio is that of their rounds' medians.
ROUNDS = 21
STARTS = 15
BATCH = {"digits": 1000, "mobile96": 64, "mobile224": 16}
BATCH_DEFAULT = 64


class Ratio(NamedTuple):
    """One figure beside its goal: ``most`` or ``least`` is what it may be, the other is None."""

    what: str
    model: str
    artifact: str
    engine: str
    value: float
    most: float | None
    least: float | None

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


def take_turns(calls: Sequence[Callable[[], Any]], seconds: float = 0.02, rounds: int = ROUNDS) -> list[float]:
    """Give each call's median time in seconds: of the rounds' medians, with the calls in random order in each round."""
    clock, order = time.perf_counter_ns, random.Random(1)
    counts = [max(3, int(seconds / max(_once(call), 1e-9))) for call in calls]
    medians: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for index in order.sample(range(len(calls)), len(calls)):
            call, times = calls[index], []
            for _ in range(counts[index]):
                start = clock()
                call()
                times.append(clock() - start)
            medians[index].append(statistics.median(times))
    empty = statistics.median(_empty(clock) for _ in range(200))
    return [max(statistics.median(values) - empty, 1.0) / 1e9 for values in medians]


def steady_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Time ``classify`` and ``predict`` against the engine's bare calls, and the usual recipe; for ``run_isolated``."""
    from pennyweight import load

    bundle = open_bundle(arguments["bundle"])
    content, engine = bundle.read(arguments["artifact"]), arguments["engine"]
    model = load(bundle, artifact=arguments["artifact"], engine=engine)
    (images,) = bundle.golden().inputs.values()
    image, rows = images[0].copy(), arguments["batch"]
    many = images[[row % len(images) for row in range(rows)]].copy()
    classify, predict = model.classify, model.predict
    one, ours = take_turns([bare_calls(engine, content, image[None].copy()), lambda: classify(image)])
    bare_many, ours_many = take_turns([bare_calls(engine, content, many), lambda: predict(many)])
    result = {"bare": one, "classify": ours, "bare batch": bare_many, "predict": ours_many}
    path = Path(arguments["bundle"], arguments["artifact"])
    for trial in (True, False):
        starts = [_once(lambda: load(path, engine=engine, trial=trial)) for _ in range(3)]  # noqa: B023
        result["bare file, tried first" if trial else "bare file"] = statistics.median(starts)
    if arguments["plain"]:
        recipe = usual_recipe(engine, Path(arguments["plain"]).read_bytes())
        result["recipe"], result["classify beside recipe"] = take_turns(
            [lambda: recipe(image), lambda: classify(image)]
        )
    return result


def keras_task(arguments: dict[str, Any]) -> dict[str, Any]:
    """Time Keras' own ``predict`` on one image, in seconds; for ``run_isolated``."""
    import keras
    import numpy as np

    model = keras.models.load_model(arguments["model"])
    image = np.zeros((1, *model.inputs[0].shape[1:]), np.uint8)
    model.predict(image, verbose=0)
    return {"predict": take_turns([lambda: model.predict(image, verbose=0)], rounds=7)[0]}


def measure(folder: Path, names: Sequence[str], progress: Callable[[str], None]) -> list[Ratio]:
    """Measure every ratio for the models called ``names``, made in ``folder`` where they aren't there yet."""
    ratios = []
    for name, bundle in make_models(folder, names, progress).items():
        for spec in open_bundle(bundle).manifest.artifacts:
            for record in spec.engines:
                progress(f"{name}: {spec.name} on {record.engine}")
                ratios += _pair_ratios(folder, name, bundle, spec.name, record.engine)
    return ratios


def table(ratios: Sequence[Ratio]) -> str:
    """Lay the ratios out beside their goals."""
    header = ["ratio", "model", "artifact", "engine", "value", "goal", ""]
    cells = [
        [one.what, one.model, one.artifact, one.engine, f"{one.value:,.2f}", _goal(one), _mark(one)] for one in ratios
    ]
    return text_table(header, cells, 4)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; exit code 0 whatever it says, as a benchmark judges nothing on a shared machine."""
    parser = argparse.ArgumentParser(prog="python -m pennyweight_benchmarks.runtime_cost", description=__doc__)
    parser.add_argument("models", nargs="*", default=["digits", "mobile96", "mobile224"])
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args(argv)
    ratios = measure(args.folder, args.models, lambda text: print(text, file=sys.stderr, flush=True))
    if args.output:
        write_atomically(args.output, json.dumps([one._asdict() for one in ratios], indent=2).encode())
    print(table(ratios))
    return 0


def _pair_ratios(folder: Path, name: str, bundle: Path, artifact: str, engine: str) -> list[Ratio]:
    def ratio(what: str, value: float, most: float | None = None, least: float | None = None) -> Ratio:
        return Ratio(what, name, artifact, engine, value, most, least)

    precision = artifact.partition(".")[0]
    plain = folder / name / PLAIN[artifact] if name == "digits" else None
    arguments = {"bundle": str(bundle), "artifact": artifact, "engine": engine, "batch": BATCH.get(name, BATCH_DEFAULT)}
    arguments["plain"] = str(plain) if plain else ""
    times = run_isolated(f"{__spec_name__}:steady_task", arguments, 900)
    found = [
        ratio("classify / bare", times["classify"] / times["bare"], most=1.35),
        ratio("predict(batch) / bare batch", times["predict"] / times["bare batch"], most=1.1),
    ]
    if name == "digits":
        cost = times["bare file, tried first"] - times["bare file"]
        found.append(ratio("bare file's trial, ms", cost * 1000))
    if plain:
        goal = 6.0 if precision == "int8" else 2.3 if engine == "onnxruntime" else 3.2
        asked = precision == "float32" or engine == "ai-edge-litert"
        value = times["recipe"] / times["classify beside recipe"]
        found.append(ratio("usual recipe / classify", value, least=goal if asked else None))
        keras = run_isolated(f"{__spec_name__}:keras_task", {"model": str(folder / name / "model.keras")}, 300)
        found.append(ratio("Keras predict / classify", keras["predict"] / times["classify"], least=5000))
    return [*found, *_start_ratios(folder, ratio, name, bundle, artifact, engine)]


def _start_ratios(
    folder: Path, ratio: Callable[..., Ratio], name: str, bundle: Path, artifact: str, engine: str
) -> list[Ratio]:
    inputs = str(folder / name / "inputs.npy")
    python, command = [sys.executable, "-c"], [sys.executable, "-m", "pennyweight", "predict"]
    commands = {
        "bare": [*python, BARE_START, engine, str(bundle / artifact), inputs],
        "load": [*python, LOAD_START, str(bundle), artifact, engine, inputs],
        "late": [*python, LATE_START, str(bundle), artifact, engine, inputs],
        "command": [
            *command,
            str(bundle),
            str(folder / name / "input.npy"),
            "--artifact",
            artifact,
            "--engine",
            engine,
        ],
    }
    first: dict[str, list[float]] = {name: [] for name in commands}
    whole: dict[str, list[float]] = {name: [] for name in commands}
    peak: dict[str, list[float]] = {name: [] for name in commands}
    order = random.Random(2)
    # A device has compiled the runtime's modules at its first run; so has this machine, unless told not to.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for command_line in commands.values():
        subprocess.run(command_line, capture_output=True, check=True, env=environment)
    for _ in range(STARTS):
        for kind in order.sample(list(commands), len(commands)):
            start = time.monotonic_ns()
            done = subprocess.run(commands[kind], capture_output=True, text=True, check=True, env=environment)
            whole[kind].append(time.monotonic_ns() - start)
            if kind != "command":
                stamp, kilobytes, _ = done.stdout.split()
                first[kind].append(int(stamp) - start)
                peak[kind].append(int(kilobytes))
    return [
        ratio("cold start: load / bare", _paired(first["load"], first["bare"]), most=1.10),
        ratio("cold start: numpy, then load / bare", _paired(first["late"], first["bare"]), most=1.10),
        ratio("cold start: predict / bare", _paired(whole["command"], whole["bare"]), most=1.4),
        ratio("peak memory: load / bare", _paired(peak["load"], peak["bare"]), most=1.05),
    ]


def _paired(ours: Sequence[float], bare: Sequence[float]) -> float:
    """Give the median of the rounds' ratios: what else goes on changes more slowly than a round takes."""
    return statistics.median(one / other for one, other in zip(ours, bare))


def _once(call: Callable[[], Any]) -> float:
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _empty(clock: Callable[[], int]) -> int:
    start = clock()
    return clock() - start


def _goal(one: Ratio) -> str:
    if one.most is not None:
        return f"≤ {one.most:g}"
    return f"≥ {one.least:,g}" if one.least is not None else ""


def _mark(one: Ratio) -> str:
    return "" if one.most is None and one.least is None else "met" if one.met else "missed"


# Under ``python -m`` this module is called __main__, and a child process can't import that.
__spec_name__ = f"{__package__}.runtime_cost"

if __name__ == "__main__":
    sys.exit(main())
