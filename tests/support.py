"""What tests of every folder share: the real command, the rule for its errors, and the version-1 bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pennyweight import open_bundle
from pennyweight.engines import engines_for, is_installed

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
