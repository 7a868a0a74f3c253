"""``int8-repaired.tflite``: made beside ``int8.tflite`` where that lost too much, or where it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pennyweight.engines import first_line
from pennyweight.errors import PennyweightError

from .arrays import Array, Arrays
from .audit import audit, require_disjoint
from .candidates import Candidate, Choice
from .evidence import digests, draw_others, seen_by_layers
from .quality import Gate, HeldOut, with_blends
from .quantizer import operators, with_uint8_input
from .recipes import REPAIRED
from .repair import Repaired, repair
from .search import Plan
from .tflite_file import read_tflite

if TYPE_CHECKING:
    from pennyweight_data import Dataset

    from .artifacts import Converters

Notice = Callable[[str], None]
PLAIN = "int8.tflite"
# Further training samples: half of them to draw ranges from, half held out to choose by. As float32 they take at most
# as many bytes.
OTHERS = 2000
OTHERS_BYTES = 128 * 10**6


class Others(NamedTuple):
    """Training samples beside those of calibration, none of which is an evaluation sample: as inputs, and classes."""

    inputs: Arrays
    labels: Array | None

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(next(iter(self.inputs.values())))

    def half(self, second: bool) -> Others:
        """Give one half of them."""
        cut = slice(self.rows // 2, None) if second else slice(self.rows // 2)
        return Others({name: array[cut] for name, array in self.inputs.items()}, _cut(self.labels, cut))


def other_samples(data: Dataset, evaluation: Arrays, calibration: Arrays, seed: int) -> Others:
    """Draw them, as many as memory allows; hold calibration to being no part of the evaluation.

    Raises:
        InputError: calibration samples are evaluation samples.
    """
    require_disjoint(digests(calibration), digests(evaluation))
    one = sum(4 * int(np.prod(array.shape[1:])) for array in calibration.values())
    samples = max(2, min(OTHERS, OTHERS_BYTES // one))
    return Others(*draw_others(data, evaluation, calibration, samples, seed))


def audited(converters: Converters, others: Others, labels: Array | None, notice: Notice) -> dict[str, Any]:
    """Give the calibration record with the audit in it; say its warnings.

    ``labels`` are the calibration samples' class numbers, for a classifier.
    """
    calibration = converters.calibration.record
    output = converters.interface.outputs[0].spec
    try:
        content = converters.float32_inner
        some = others.half(second=False)
        seen = seen_by_layers(some.inputs, converters.interface) if some.rows else {}
        found = audit(
            content,
            _by_tensor(content, converters.seen),
            _by_tensor(content, seen),
            labels,
            output.labels if output.labelling == "single" else (),
            calibration["seed"],
        )
    except (PennyweightError, RuntimeError, ValueError) as error:  # the interpreter's, of a model that it can't run
        notice(f"calibration: not audited; {first_line(error)}")
        return {**calibration, "audit": {"reason": first_line(error)}}
    for warning in found.warnings:
        notice(f"calibration: {warning}")
    return {**calibration, "audit": found.record}


def lost_too_much(choices: Sequence[Choice], gate: Mapping[str, Any]) -> bool:
    """Say whether int8 breaches the gate on an engine: a verdict of fail, or undecided and worse than allowed."""
    for choice in choices:
        for record in choice.spec.engines if choice.spec.name == PLAIN else ():
            worse = record.figures.get("drop", 0.0) > gate["max_drop"]
            if record.verdict == "fail" or (record.verdict == "inconclusive" and worse):
                return True
    return False


def mend(
    converters: Converters, others: Others, gate: Gate, best: bool, notice: Notice
) -> tuple[bytes, dict[str, Any]]:
    """Search for the repair; give the file, with the wire of int8, and what the manifest says of how it was made.

    Args:
        converters: the model.
        others: training samples beside those of calibration.
        gate: what may be lost.
        best: whether to go on after the gate holds.
        notice: told of each step.

    Raises:
        PennyweightError: the model can't be repaired so.
    """
    interface = converters.interface
    if len(interface.inputs) > 1 and interface.wire == "uint8":
        raise PennyweightError("repair is made for models with one input of pixels, or with inputs of numbers")
    if converters.graph.loops:
        raise PennyweightError("the values inside a loop can't be read, so there are no ranges to mend")
    if others.half(second=True).rows < 2:
        raise PennyweightError("there are no training samples left to choose a repair by; give more of them")
    content, chosen_by = converters.float32_inner, others.half(second=True)
    samples = _by_tensor(content, converters.seen)
    more = _by_tensor(content, seen_by_layers(others.half(second=False).inputs, interface))
    classifier = len(interface.outputs) == 1 and interface.outputs[0].spec.labelling == "single"
    blended, labels = with_blends(chosen_by.inputs, chosen_by.labels, converters.calibration.record["seed"])
    seen = _by_tensor(content, seen_by_layers(blended, interface))
    held_out = HeldOut(content, seen, labels if classifier else None, classifier)
    result = repair(content, samples, held_out, gate, notice, best, more=more)
    return _with_wire(result.plan, converters), _record(result, held_out, chosen_by)


def _with_wire(plan: Plan, converters: Converters) -> bytes:
    """Build the file, with uint8 pixels in where the interface has pixels."""
    if converters.interface.wire != "uint8":
        return plan.build()
    first = operators(plan.content)[0]
    if plan.kinds.get(first.scope, "int8") == "int8":
        content = plan.build("int8")
        (fact,) = read_tflite(content, REPAIRED.name).inputs
        if fact.scale is not None and fact.zero_point is not None:
            return with_uint8_input(content, fact.scale, fact.zero_point + 128)
    scale, offset = converters.interface.inputs[0].held
    return with_uint8_input(plan.build(), scale, round(-offset / scale))


def _record(result: Repaired, held_out: HeldOut, chosen_by: Others) -> dict[str, Any]:
    return {
        "tool": "ai-edge-quantizer",
        "version": version("ai-edge-quantizer"),
        "from": "after rescaling",
        "repair": {
            "held_out": {"samples": chosen_by.rows, "blends": held_out.rows - chosen_by.rows, "part": "x_train"},
            "gate_held": result.holds,
            "equalised": any(entry["kept"] and "equalised" in entry["step"] for entry in result.log),
            "log": result.log,
        },
    }


def candidate_of(spec: Any, content: bytes) -> Candidate:
    """Wrap the file as the only candidate of its recipe."""
    return Candidate(REPAIRED, spec.converter, spec, content, "")


def _by_tensor(content: bytes, arrays: Arrays) -> Arrays:
    """Give arrays by the names of a file's input tensors instead of the interface's."""
    return {fact.name: arrays[fact.key] for fact in read_tflite(content, "float32").inputs if fact.key in arrays}


def _cut(labels: Array | None, cut: slice) -> Array | None:
    return None if labels is None else labels[cut]
