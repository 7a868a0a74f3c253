"""What tests of every folder share: the real command, the rule for its errors, and the version-1 bundle."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from pennyweight import open_bundle
from pennyweight.engines import engines_for, is_installed
from pennyweight.manifest import FileRecord, dump_manifest
from pennyweight.samples import pack_samples

FIXTURE = Path(__file__).parent / "fixtures" / "v1" / "tiny"


def installed_pairs() -> list[tuple[str, str]]:
    """Give every artifact of the version-1 bundle with every engine installed here."""
    specs = open_bundle(FIXTURE).manifest.artifacts
    return [(spec.name, engine) for spec in specs for engine in engines_for(spec.format) if is_installed(engine)]


def command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command in a subprocess."""
    environment = {key: value for key, value in os.environ.items() if key != "PENNYWEIGHT_TRACEBACK"}
    return subprocess.run(
        [sys.executable, "-m", "pennyweight", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env=environment,
        check=False,
    )


def one_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Hold a failure to the house's rule, exit code and one line that isn't a traceback, and give that line."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("pennyweight: ")]
    assert result.returncode == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def renamed(bundle: Path, name: str) -> Path:
    """Give a copy of a bundle that differs from it in its name, and so in its manifest."""
    copy = bundle.with_name(name)
    shutil.copytree(bundle, copy)
    (copy / "manifest.json").write_bytes(dump_manifest(open_bundle(bundle).manifest._replace(name=name)))
    return copy


def broken(bundle: Path) -> Path:
    """Give a copy whose every hash is right and whose golden answers are another model's."""
    copy = renamed(bundle, "broken")
    opened = open_bundle(copy)
    golden = opened.golden()
    outputs = {name: np.roll(array, 1, axis=-1) for name, array in golden.outputs.items()}
    content = pack_samples(golden._replace(outputs=outputs))
    (copy / "golden.npz").write_bytes(content)
    files = {**opened.manifest.files, "golden.npz": FileRecord(hashlib.sha256(content).hexdigest(), len(content))}
    (copy / "manifest.json").write_bytes(dump_manifest(opened.manifest._replace(files=files)))
    return copy
