"""The wheels as they are built: what is in them, and the device's in an environment with numpy and one engine alone."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from support import FIXTURE

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "runtime" / "pennyweight").rglob("*.py"))


def run(*arguments: object) -> str:
    done = subprocess.run([str(word) for word in arguments], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("wheels")
    for source in (ROOT / "runtime", ROOT):
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", place, source)
    return {path.name.partition("-")[0]: path for path in place.glob("*.whl")}


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_device_wheel_holds_the_runtime_and_nothing_else(wheels: dict[str, Path]) -> None:
    wanted = {str(path.relative_to(ROOT / "runtime")) for path in MODULES}
    assert names(wheels["pennyweight"]) == wanted | {"pennyweight/py.typed"}
    assert wheels["pennyweight"].name.endswith("-py3-none-any.whl")
    # The twelve verbs with their docstrings; docs/measuring.md says what takes the room.
    assert wheels["pennyweight"].stat().st_size <= 132 * 1024


def test_the_workstation_wheel_holds_its_four_packages(wheels: dict[str, Path]) -> None:
    held = names(wheels["pennyweight_workstation"])
    packages = {"pennyweight_data", "pennyweight_train", "pennyweight_export", "pennyweight_benchmarks"}
    assert {name.partition("/")[0] for name in held} == packages
    for package in packages:
        folder = ROOT / package.removeprefix("pennyweight_") / package
        tracked = {str(path.relative_to(folder.parent)) for path in folder.rglob("*.py")}
        assert tracked <= held


@pytest.fixture(scope="module")
def bare(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the Python of an environment with the device wheel and numpy, as a device has them."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheels["pennyweight"])
    return python


def test_with_numpy_alone_every_module_imports(bare: Path) -> None:
    adapters = ("litert", "tflite_runtime", "onnxruntime")
    modules = [".".join(path.relative_to(ROOT / "runtime").with_suffix("").parts) for path in MODULES]
    wanted = [name for name in modules if name.rpartition(".")[2] not in (*adapters, "__main__")]
    run(bare, "-c", f"import importlib\nfor name in {wanted!r}: importlib.import_module(name)")
    listed = run(bare, "-m", "pip", "list", "--format=freeze").lower()
    assert "tensorflow" not in listed
    assert "ai-edge-litert" not in listed


def test_with_one_engine_it_answers(bare: Path) -> None:
    none = subprocess.run([bare, "-m", "pennyweight", "verify", FIXTURE], capture_output=True, text=True, check=False)
    assert none.returncode == 1
    assert "not installed" in none.stdout
    # Its own declared dependencies aren't needed for inference, as a Pi with little space will find.
    run(bare, "-m", "pip", "install", "-q", "--no-deps", "-c", ROOT / "constraints.txt", "ai-edge-litert")
    assert "float32.tflite" in run(bare, "-m", "pennyweight", "verify", FIXTURE)
    code = (
        "from pennyweight import load, open_bundle\n"
        f"bundle = open_bundle({str(FIXTURE)!r})\n"
        "images = next(iter(bundle.golden().inputs.values()))\n"
        "print(load(bundle).classify(images[0]), load(bundle).describe()['engine'])\n"
    )
    assert "ai-edge-litert" in run(bare, "-c", code)
