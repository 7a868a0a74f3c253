"""Files on their way to a device: only what it lacks, by hash, from where an earlier try broke off."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import IO

from pennyweight.bundle import EVALUATION_NAME, HASHED_BYTES, SIGNATURE_NAME, Bundle
from pennyweight.manifest import MANIFEST_NAME

from .connection import Connection
from .failures import DeviceError

TRIES = 2


def send_file(connection: Connection, name: str, file: IO[bytes], size: int, sha256: str) -> None:
    """Bring a file's content under ``name`` in the device's folder; raise DeviceError when it arrives damaged."""
    for _ in range(TRIES):
        here = connection.ask("have", name=name, sha256=sha256)
        if here["whole"]:
            return
        offset = here["bytes"] if here["bytes"] <= size else 0
        file.seek(offset)
        while piece := file.read(HASHED_BYTES):
            connection.ask("append", piece, name=name, offset=offset)
            offset += len(piece)
        if size == 0:
            connection.ask("append", name=name, offset=0)
        if connection.ask("seal", name=name, sha256=sha256)["right"]:
            return
    raise DeviceError("fault", f"{name} arrives damaged", "check the device's memory card and memory")


def send_bytes(connection: Connection, name: str, content: bytes) -> None:
    """Bring bytes under ``name`` in the device's folder."""
    send_file(connection, name, io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest())


def bundle_name(bundle: Bundle) -> str:
    """Give a bundle's name in a device's folder: its manifest's hash, so its own name never leaves the workstation."""
    return f"bundles/{hashlib.sha256(bundle.manifest_bytes).hexdigest()[:16]}"


def missing_mb(connection: Connection, bundle: Bundle, with_evaluation: bool) -> float:
    """Give how much space a bundle still needs on a device, in 2**20 bytes."""
    if connection.ask("read", name=f"{bundle_name(bundle)}/{MANIFEST_NAME}")["text"] is not None:
        return 0.0
    return sum(bundle.manifest.files[name].size for name in sent_files(bundle, with_evaluation)) / 2**20


def send_bundle(connection: Connection, bundle: Bundle, with_evaluation: bool) -> str:
    """Bring a bundle to the device; give its name in the folder there.

    It travels file by file, and the manifest goes last: a bundle that is only half there is none.
    """
    name = bundle_name(bundle)
    for file in sent_files(bundle, with_evaluation):
        record = bundle.manifest.files[file]
        with bundle.open(file) as content:
            send_file(connection, f"{name}/{file}", content, record.size, record.sha256)
    signature = bundle.signature()
    if signature is not None:
        send_bytes(connection, f"{name}/{SIGNATURE_NAME}", signature)
    send_bytes(connection, f"{name}/{MANIFEST_NAME}", bundle.manifest_bytes)
    return name


def sent_files(bundle: Bundle, with_evaluation: bool) -> Sequence[str]:
    """Give the names of the bundle's files that a device needs."""
    absent = bundle.evaluation_left_behind or not with_evaluation
    return [name for name in bundle.manifest.files if not (absent and name == EVALUATION_NAME)]
