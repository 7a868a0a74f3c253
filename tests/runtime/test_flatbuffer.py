"""Whether a ``.tflite`` file's tables lie in it, against ai-edge-litert, which looks before it reads."""

from __future__ import annotations

import random
import struct
from collections import Counter
from pathlib import Path

import pytest

from pennyweight.engines._flatbuffer import tables_hold
from support import FIXTURE

FILES = sorted(FIXTURE.glob("*.tflite"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_a_whole_file_holds_and_no_part_of_it_does(path: Path) -> None:
    whole = path.read_bytes()
    assert tables_hold(whole)
    for size in range(len(whole)):
        assert not tables_hold(whole[:size])


def test_tables_that_multiply_are_refused() -> None:
    """A vector of one subgraph many times over, whose vector is one operator as often."""
    assert tables_hold(nested(10))
    assert not tables_hold(nested(2000))


def nested(count: int) -> bytes:
    size = 4 * count
    # The tables' layouts, at 8, 20 and 32: Model's field 2, SubGraph's field 3, and an operator without fields.
    layouts = struct.pack("<5H2x6H2H4x", 10, 8, 0, 0, 4, 12, 8, 0, 0, 0, 4, 4, 4)
    model = 40
    subgraph = model + 12 + size
    operator = subgraph + 12 + size
    content = struct.pack("<I4s", model, b"TFL3") + layouts
    for table, layout, target in ((model, 8, subgraph), (subgraph, 20, operator)):
        entries = [target - (table + 12 + 4 * index) for index in range(count)]
        content += struct.pack(f"<iII{count}I", table - layout, 4, count, *entries)
    return content + struct.pack("<i", operator - 32)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_it_refuses_what_ai_edge_litert_refuses(path: Path) -> None:
    """Nearly: of an operator's options the fields' widths aren't known here, and fields that litert skips are."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    chance, whole = random.Random(path.name), path.read_bytes()
    counts: Counter[tuple[bool, bool]] = Counter()
    for _ in range(2000):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            interpreter.Interpreter(model_content=bytes(content))
            refused = False
        except (ValueError, RuntimeError) as error:
            # What else it says is of a file that it has read.
            refused = "not a valid Flatbuffer" in str(error)
        counts[tables_hold(bytes(content)), not refused] += 1
    assert min(counts[True, True], counts[False, False]) > 500
    # 38 of 20,000 were measured over many kinds of damage.
    assert counts[True, False] + counts[False, True] <= 20, counts
