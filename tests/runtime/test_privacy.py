"""onnxruntime collects usage data unless it is told not to before its import; the runtime tells it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pennyweight.engines import engine_version, is_installed
from support import FIXTURE

pytestmark = pytest.mark.skipif(not is_installed("onnxruntime"), reason="onnxruntime isn't installed")

ANSWER = """
import json, os, sys, time
import numpy as np
from pennyweight import load, open_bundle
bundle = open_bundle(sys.argv[1])
model = load(bundle, engine="onnxruntime")
for image in next(iter(bundle.golden().inputs.values())):
    model.classify(image)
time.sleep(2)
links = []
for name in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink(f"/proc/self/fd/{name}"))
    except OSError:
        pass
print(json.dumps(links))
"""


# onnxruntime's telemetry is also off where one of these says that a server builds or tests.
SERVERS = [
    "APPVEYOR",
    "BITBUCKET_BUILD_NUMBER",
    "BUILDKITE",
    "CI",
    "CIRCLECI",
    "CODEBUILD_BUILD_ID",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "JENKINS_URL",
    "TEAMCITY_VERSION",
    "TF_BUILD",
    "TRAVIS",
]


def traces(folder: Path, **settings: str) -> tuple[list[str], list[str]]:
    """Answer in a process whose every folder is an empty one; give the files it made and the sockets it holds."""
    for name in ("cache", "config", "data", "state", "tmp"):
        (folder / name).mkdir(parents=True)
    homes = {f"XDG_{name.upper()}_HOME": str(folder / name) for name in ("cache", "config", "data", "state")}
    environment = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", *SERVERS)}
    environment.update(homes, HOME=str(folder), TMPDIR=str(folder / "tmp"), **settings)
    words = [sys.executable, "-c", ANSWER, str(FIXTURE)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder, check=True)
    links: Any = json.loads(done.stdout)
    made = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return made, [link for link in links if link.startswith("socket:")]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_written_and_no_socket_is_open(tmp_path: Path) -> None:
    assert traces(tmp_path) == ([], [])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_user_who_wants_it_gets_it(tmp_path: Path) -> None:
    """And so the check above would see it."""
    major, minor = (int(part) for part in engine_version("onnxruntime").split(".")[:2])
    if (major, minor) < (1, 30):
        pytest.skip("onnxruntime has no telemetry before 1.30")
    made, _ = traces(tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert any("onnxruntime" in name for name in made)
