"""Whether the tables of a ``.tflite`` file lie inside it.

tflite-runtime follows every offset of a file, also out of it: what it finds there is chance, and a file that was read
well in one process crashes the next. (ai-edge-litert looks for itself.) The format is FlatBuffers'
(https://flatbuffers.dev/internals/); the tables are those of TFLite's ``schema.fbs``, version 3, which ends with
tflite-runtime 2.14.
"""

from __future__ import annotations

from struct import calcsize, unpack_from

# A table's fields in the order of their ids. A digit is a scalar of so many bytes, s a string, v4 a vector of scalars
# of 4 bytes, [Name] a vector of tables, <Name> a union, whose type is the field before it, Name a table.
_FIELDS = {
    "Model": "4 [OperatorCode] [SubGraph] s [Buffer] v4 [Metadata] [SignatureDef]",
    "OperatorCode": "1 s 4 4",
    "SubGraph": "[Tensor] v4 v4 [Operator] s",
    "Tensor": "v4 1 4 s Quantization 1 Sparsity v4 1 [Variant]",
    "Quantization": "v4 v4 v4 v8 1 <Details> 4",
    "Sparsity": "v4 v4 [Dimension]",
    "Dimension": "1 4 1 <Segments> 1 <Segments>",
    "Variant": "v4 1 1",
    "Operator": "4 v4 v4 1 <Options> v1 1 v1 v4 8 8 1 <Other>",
    "Buffer": "v1 8 8",
    "Metadata": "s 4",
    "SignatureDef": "[TensorMap] [TensorMap] s 4 4",
    "TensorMap": "s 4",
}
# The members of a union that hold more than scalars, by their types.
_UNIONS = {
    "Details": {1: "v1"},
    "Segments": {1: "v4", 2: "v2", 3: "v1"},
    # Embedding, Reshape, Squeeze, VarHandle, Bucketize
    "Options": {3: "4 v4 v4", 17: "v4", 30: "v4", 111: "s s", 115: "v4"},
    "Other": {},
}


# So many fields are looked at: a thousand times a usual model's. Tables that share others could make it any number.
_MOST = 3_000_000


def tables_hold(content: bytes) -> bool:
    """Say whether everything that a ``.tflite`` file's tables refer to lies inside the file."""
    file = _File(content)
    try:
        file.table(file.follow(0), _FIELDS["Model"])
    except _OutsideError:
        return False
    return content[4:8] == b"TFL3"


class _OutsideError(Exception):
    pass


class _File:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = _MOST

    def follow(self, at: int) -> int:
        return at + self._number("I", at)

    def table(self, at: int, fields: str) -> None:
        vtable = at - self._number("i", at)
        entries = self._number("H", vtable)
        self._left -= 1 + entries // 2
        if at % 4 or vtable % 2 or entries % 2 or vtable + entries > len(self._content) or self._left < 0:
            raise _OutsideError
        kinds, union = fields.split(), 0
        for field in range((entries - 4) // 2):
            place = self._number("H", vtable + 4 + 2 * field)
            kind = kinds[field] if field < len(kinds) else "1"
            width = int(kind) if kind.isdigit() else 4
            if place and (at + place + width > len(self._content) or (at + place) % width):
                raise _OutsideError
            if kind == "1":
                union = self._content[at + place] if place else 0
            elif place and not kind.isdigit():
                self._value(self.follow(at + place), kind, union)

    def _value(self, at: int, kind: str, union: int) -> None:
        if kind[0] == "<":
            self.table(at, _UNIONS[kind[1:-1]].get(union, ""))
        elif kind[0] in "sv[":
            count, width = self._number("I", at), {"s": 1, "[": 4}.get(kind[0]) or int(kind[1])
            # A string is followed by a NUL.
            if at % 4 or at + 4 + count * width + (kind == "s") > len(self._content) or (at + 4) % width:
                raise _OutsideError
            if kind == "s" and self._content[at + 4 + count]:
                raise _OutsideError
            for entry in range(at + 4, at + 4 + 4 * count, 4) if kind[0] == "[" else ():
                self.table(self.follow(entry), _FIELDS[kind[1:-1]])
        else:
            self.table(at, _FIELDS[kind])

    def _number(self, kind: str, at: int) -> int:
        if not 0 <= at <= len(self._content) - calcsize("<" + kind):
            raise _OutsideError
        number: int = unpack_from("<" + kind, self._content, at)[0]
        return number
