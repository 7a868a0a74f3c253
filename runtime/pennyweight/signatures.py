"""A bundle's signature: ``manifest.json.sig``, made and checked by OpenSSH's ssh-keygen (8.2 or later).

    ssh-keygen -Y sign -n pennyweight -f KEY manifest.json          # in the bundle's folder
    zip -0 NAME.pennyweight manifest.json.sig                       # where the bundle is one file

The manifest holds every file's SHA-256, so its signature covers the whole bundle. Who is trusted stands in an
allowed-signers file: a line `NAME ssh-ed25519 AAAA…` per key (see ssh-keygen's manual, ALLOWED SIGNERS).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .errors import SignatureError

NAMESPACE = "pennyweight"
TIMEOUT = 30


def verify_signature(content: bytes, signature: bytes, trust: str | os.PathLike[str], where: str) -> str:
    """Give the name of the signer of ``content``.

    Args:
        content: the manifest's bytes.
        signature: the signature file's bytes.
        trust: the allowed-signers file.
        where: the bundle, for errors.

    Raises:
        SignatureError: nobody in ``trust`` signed these bytes for this use, or it can't be checked here.
    """
    signers = str(Path(trust).absolute())
    if not Path(trust).is_file():
        raise SignatureError(f"{signers}: no such allowed-signers file; write a line `NAME KEYTYPE PUBLICKEY` into it")
    with tempfile.NamedTemporaryFile() as file:
        file.write(signature)
        file.flush()
        found = _ssh_keygen(["find-principals", "-f", signers, "-s", file.name], b"")
        names = [name for line in found.stdout.splitlines() for name in line.split(",") if not name.startswith("!")]
        for name in names:
            command = ["verify", "-f", signers, "-I", name, "-n", NAMESPACE, "-s", file.name]
            checked = _ssh_keygen(command, content)
            if checked.returncode == 0:
                return name
    if not names:
        raise SignatureError(f"{where}: not signed by a key in {signers} ({_last(found)}); ask its maker who signs it")
    raise SignatureError(
        f"{where}: {names[0]}'s signature isn't one of this manifest for {NAMESPACE} ({_last(checked)}); "
        "copy the bundle again, or have it signed with -n pennyweight"
    )


def _ssh_keygen(arguments: list[str], content: bytes) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            ["ssh-keygen", "-Y", *arguments], input=content, capture_output=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SignatureError(
            f"ssh-keygen can't be run ({error}), so no signature can be checked; install openssh-client"
        ) from error
    texts = [stream.decode(errors="replace").strip() for stream in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr or done.stdout).splitlines()[-1][:150] if done.stderr or done.stdout else "no reason given"
