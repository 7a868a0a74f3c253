"""What the tests of docs/raspberry-pi.md share: its blocks, and a home folder whose sudo and apt are stand-ins.

They check that the packages named are among those that the target has. And where pip on 32-bit ARM looks into Python's
own file for its kind of floating point, it is given the emulated one's, not the script that starts it in the emulator.
Everything else, the downloads too, is as a user has it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from pennyweight_benchmarks.pi import Built
from pennyweight_benchmarks.pi.lock import read_lock
from pennyweight_benchmarks.pi.run import target_environment
from pi_support import ROOT

PAGE = (ROOT / "docs" / "raspberry-pi.md").read_text()
BLOCKS = re.findall(r"<!-- tested on ([^>]+) -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
SHELL = {name: block for names, block in BLOCKS for name in names.split()}
FRAMES = re.findall(r"<!-- tested frames -->\n```python\n(.*?)```", PAGE, re.DOTALL)
APT = """#!/bin/sh
[ "$1 $2" = "install -y" ] || exit 9
shift 2
for name; do [ -n "$(grep -x "$name" "$PACKAGES")" ] || { echo "no $name" >&2; exit 9; }; done
"""
SEEN = """import builtins, sys
real, program = builtins.open, f"{sys.base_prefix}/libexec/emulated/python3.{sys.version_info[1]}"
builtins.open = lambda file, *more, **named: real(program if file == sys.executable else file, *more, **named)
"""


def make_home(place: Path, wheel: Path, bundle: Path) -> Path:
    """Make a home folder with what the page has copied there, and the stand-ins for sudo and apt."""
    (place / "bin").mkdir(parents=True)
    shutil.copy(wheel, place)
    shutil.copytree(bundle, place / "digits.pennyweight")
    for name, text in (("sudo", '#!/bin/sh\nexec "$@"\n'), ("apt", APT)):
        (place / "bin" / name).write_text(text)
        (place / "bin" / name).chmod(0o755)
    (place / "seen").mkdir()
    (place / "seen" / "sitecustomize.py").write_text(SEEN)
    return place


def shell(built: Built, text: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run lines as somebody at a target's prompt would."""
    packages = home / "packages"
    packages.write_text("\n".join(read_lock().debian[built.target.name]))
    environment = target_environment(built.root / "usr" / "bin" / "python3", {"HOME": str(home)})
    # Compiling what was installed is most of pip's time here, and changes nothing.
    environment.update(PATH=f"{home / 'bin'}:{environment['PATH']}", PACKAGES=str(packages), PIP_NO_COMPILE="1")
    environment["PYTHONPATH"] = str(home / "seen")
    words = ["bash", "-euc", text]
    return subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, check=False)
