"""What a bench's worker process does: time one artifact on one engine, and say what it saw.

Only the standard library and numpy are imported at the top: ``cold_start`` measures what an import costs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .latency import Call
    from .manifest import Manifest
    from .model import Model

Array = Any  # np.ndarray[Any, Any] can't be subscripted at run time on numpy 1.21
JsonObject = dict[str, Any]

# What a fresh interpreter is given with -c: less than a module run with -m would import, and a stamp before anything.
COLD_START = (
    "from time import perf_counter_ns as clock; interpreter = clock(); import numpy; numpy = clock(); "
    "from pennyweight.worker import cold_start; cold_start(interpreter, numpy)"
)
STEPS = ("prepare", "run", "finish")
# Steps and batches are timed for this part of a round's seconds each.
SHARE = 0.25
LEAST_BATCHES = 2
# A batch that would take longer, or more memory, than this is left out, and says so.
BATCH_SECONDS = 10.0
BATCH_BYTES = 2**27
SPAN = 60.0


def latency_task(arguments: JsonObject) -> JsonObject:
    """Time one artifact × engine on the bundle's golden inputs; for ``run_isolated``.

    ``arguments``: "bundle", "artifact", "engine", "threads", "seconds", "least", and may hold "batches" (sizes) and
    "rate" (calls per second). Gives a ``Timing`` as JSON, with "engine_version", "steps" (median nanoseconds),
    "batches", "paced" (a ``Timing``, or None without a rate) and "peak_bytes".
    """
    from .latency import peak_bytes, time_call, time_paced, time_steps

    model, golden, inputs = _opened(arguments)
    call, seconds = single_call(model), arguments["seconds"]
    answer = time_call(call, inputs, seconds, arguments["least"])._asdict()
    answer["steps"] = dict(zip(STEPS, time_steps(model.steps(), inputs, SHARE * seconds)))
    rate = arguments.get("rate")
    answer["paced"] = None
    if rate:
        calls = max(arguments["least"], int(rate * seconds))
        answer["paced"] = time_paced(call, inputs, rate, calls)._asdict()
    answer["peak_bytes"] = peak_bytes()  # of single images: batches need more
    answer["batches"] = throughput(model, golden, arguments.get("batches", ()), SHARE * seconds)
    return {**answer, "engine_version": model.engine.version}


def sustained_task(arguments: JsonObject) -> JsonObject:
    """Answer for "seconds", at "rate" or without a pause, and give "spans": see ``time_spans``; for ``run_isolated``.

    ``arguments`` also holds "bundle", "artifact", "engine" and "threads", and may hold "span" in seconds.
    """
    from .latency import time_spans
    from .machine import machine_state

    model, _, inputs = _opened(arguments)
    span, rate = arguments.get("span", SPAN), arguments.get("rate")
    return {"spans": time_spans(single_call(model), inputs, arguments["seconds"], span, rate, machine_state)}


def throughput(model: Model, inputs: dict[str, Array], sizes: Sequence[int], seconds: float) -> list[JsonObject]:
    """Give images per second for each size of batch: whole batches in a loop for about ``seconds``.

    A batch that would take too long or too much memory has None and the "reason".
    """
    clock, rows = perf_counter_ns, len(next(iter(inputs.values())))
    found: list[JsonObject] = []
    each = 0.0
    for size in sizes:
        need = sum(array[:1].nbytes for array in inputs.values()) * size
        reason = ""
        if need > BATCH_BYTES:
            reason = f"its inputs need {need / 1e6:,.0f} MB"
        elif each * size > BATCH_SECONDS:
            reason = f"one batch would take about {each * size:,.0f} s"
        if reason:
            found.append({"size": size, "images_per_second": None, "batches": 0, "reason": reason})
            continue
        picks = np.arange(size) % rows
        batch: Any = {name: array[picks] for name, array in inputs.items()}
        batch = batch if len(batch) > 1 else next(iter(batch.values()))
        model.predict(batch)  # the engine prepares its buffers for this size
        count, start = 0, clock()
        while clock() < start + seconds * 1e9 or count < LEAST_BATCHES:
            model.predict(batch)
            count += 1
        each = (clock() - start) / 1e9 / count / size
        found.append({"size": size, "images_per_second": 1 / each, "batches": count, "reason": ""})
    return found


def single_call(model: Model) -> Call:
    """Give what answers one sample: ``classify`` where there is a single label, else ``predict`` on a batch of 1."""
    from .errors import OutputKindError

    try:
        model.labels  # noqa: B018  asked for its error
    except OutputKindError:
        return lambda one: model.predict(
            {name: array[None] for name, array in one.items()} if isinstance(one, dict) else one[None]
        )
    return model.classify


def cold_start(interpreter: int, numpy: int) -> None:
    """Be a process that imports, loads, answers one sample once, and says when (one line of JSON on standard output).

    ``sys.argv``: the bundle, the artifact, the engine, the threads. Standard input: one sample's bytes, the inputs in
    the manifest's order. The clock is the system's monotonic one, so that the parent can take its own start from it;
    ``interpreter`` and ``numpy`` are its readings before and after numpy's import.
    """
    path, artifact, engine, threads = sys.argv[1:]
    from .bundle import open_bundle
    from .engines import engine_version
    from .loading import load  # noqa: F401  so that its import counts here

    runtime = perf_counter_ns()
    engine_version(engine)
    imported = perf_counter_ns()
    bundle = open_bundle(path)
    model = _load(bundle, artifact, engine, int(threads))
    loaded = perf_counter_ns()
    sample = _bare(_unpack_sample(sys.stdin.buffer.read(), bundle.manifest))
    single_call(model)(sample)
    stamps = {"interpreter": interpreter, "numpy": numpy, "runtime": runtime, "imported": imported, "loaded": loaded}
    stamps["answered"] = perf_counter_ns()
    from .latency import peak_bytes

    peak = peak_bytes()
    times = ", ".join(f'"{name}_ns": {stamp}' for name, stamp in stamps.items())
    print(f'{{"result": {{{times}, "peak_bytes": {"null" if peak is None else peak}}}}}', flush=True)


def pack_sample(inputs: dict[str, Array], manifest: Manifest, row: int) -> bytes:
    """Give one sample's bytes as ``cold_start`` reads them."""
    return b"".join(np.ascontiguousarray(inputs[spec.name][row]).tobytes() for spec in manifest.inputs)


def _unpack_sample(raw: bytes, manifest: Manifest) -> dict[str, Array]:
    sample, offset = {}, 0
    for spec in manifest.inputs:
        count = int(np.prod(spec.shape))
        array = np.frombuffer(raw, spec.dtype, count, offset)
        sample[spec.name] = array.reshape(spec.shape)
        offset += array.nbytes
    return sample


def _opened(arguments: JsonObject) -> tuple[Model, dict[str, Array], list[Any]]:
    """Give the model, the golden inputs by name, and the same one by one."""
    from .bundle import open_bundle

    bundle = open_bundle(arguments["bundle"])
    model = _load(bundle, arguments["artifact"], arguments["engine"], arguments["threads"])
    golden = bundle.golden()
    inputs = [{name: array[row] for name, array in golden.inputs.items()} for row in range(golden.rows)]
    return model, golden.inputs, [_bare(one) for one in inputs]


def _load(bundle: Any, artifact: str, engine: str, threads: int) -> Model:
    import warnings

    from .loading import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a wrong model's speed may be of interest; parity is another verb's matter
        return load(bundle, artifact=artifact, engine=engine, threads=threads)


def _bare(sample: dict[str, Array]) -> Any:
    return sample if len(sample) > 1 else next(iter(sample.values()))
