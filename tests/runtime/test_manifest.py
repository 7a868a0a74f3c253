from __future__ import annotations

import json
from typing import Any

import pytest

from pennyweight.errors import BundleError, IntegrityError
from pennyweight.manifest import (
    MAX_MANIFEST_BYTES,
    Gap,
    canonical_digest,
    dump_manifest,
    is_file_name,
    parse_manifest,
)
from support import FIXTURE

RAW = (FIXTURE / "manifest.json").read_bytes()


def changed(path: tuple[str | int, ...], value: Any) -> bytes:
    """Give the manifest with one field changed and its digest made right again."""
    content = json.loads(RAW)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    content["sha256"] = canonical_digest(content)
    return json.dumps(content).encode()


def test_a_manifest_survives_writing_and_reading() -> None:
    manifest = parse_manifest(RAW, "here")
    assert parse_manifest(dump_manifest(manifest), "here") == manifest
    assert json.loads(dump_manifest(manifest))["version"] == 1


def test_gaps_are_read_back_and_older_manifests_have_none() -> None:
    manifest = parse_manifest(RAW, "here")
    assert "gaps" not in json.loads(RAW)
    assert manifest.gaps == ()
    gaps = (Gap("int8.tflite", "TFLite has no Tan"),)
    assert parse_manifest(dump_manifest(manifest._replace(gaps=gaps)), "here").gaps == gaps
    for wrong in (7, ["int8.tflite"], [{"artifact": "int8.tflite"}], [{"artifact": 1, "reason": ""}]):
        with pytest.raises(BundleError, match="must be"):
            parse_manifest(changed(("gaps",), wrong), "here")


def test_layout_may_change_but_content_may_not() -> None:
    content = json.loads(RAW)
    assert parse_manifest(json.dumps(content, indent=7).encode(), "here") == parse_manifest(RAW, "here")
    content["name"] += "x"
    with pytest.raises(IntegrityError, match="changed after it was written"):
        parse_manifest(json.dumps(content).encode(), "here")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("version",), 2, "bundle version 2"),
        (("version",), True, "bundle version"),
        (("format",), "another", "no Pennyweight manifest"),
        (("name",), 5, "'name' must be a text"),
        (("inputs",), {}, "'inputs' must be a list of objects"),
        (("inputs", 0, "dtype"), "complex128", "'dtype' must be one of"),
        (("inputs", 0, "shape"), [0, 4], "'shape' must be a list of sizes"),
        (("inputs", 0, "shape"), [True], "'shape' must be a list of sizes"),
        (("inputs", 0, "range"), [0], "'range' must be two numbers"),
        (("outputs",), [], "needs an input, an output and an artifact"),
        (("outputs", 0, "labels"), ["one"], "labels"),
        (("files",), {}, "isn't among its files"),
        (("files", "../escape"), {"sha256": "0", "size": 1}, "can't be a bundle's file"),
        (("files", "golden.npz", "size"), -1, "'size' must be a whole number"),
        (("artifacts", 0, "name"), "absent.tflite", "isn't among its files"),
        (("artifacts", 0, "inputs", 0, "name"), "other", "doesn't wire"),
        (("artifacts", 0, "inputs", 0, "scale"), "big", "'scale' must be a finite number"),
        (("artifacts", 0, "engines", 0, "verdict"), "perhaps", "'verdict' must be one of"),
    ],
)
def test_a_wrong_field_is_named(path: tuple[str | int, ...], value: Any, says: str) -> None:
    with pytest.raises(BundleError, match="here") as caught:
        parse_manifest(changed(path, value), "here")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b" " * (MAX_MANIFEST_BYTES + 1), RAW[:-40]],
    ids=["empty", "list", "open", "no text", "deep", "NaN", "huge", "cut"],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleError, match="here"):
        parse_manifest(raw, "here")


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        *[(name, True) for name in ("int8.tflite", "a", "A-1_b.c")],
        *[(name, False) for name in ("", "..", "a/b", "a\\b", "a\n", "/a", ".hidden", "x" * 101, "ä", "a\0")],
    ],
)
def test_file_names_are_plain(name: str, fine: bool) -> None:
    assert is_file_name(name) is fine
