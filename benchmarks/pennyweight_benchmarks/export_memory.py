"""Proof that `export` needs no more memory for a large file than for a small one; ``make bench-proof`` prints it.

python -m pennyweight_benchmarks.export_memory [--bytes 3e9] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pennyweight.tables import text_table

# What issue and README promise over TensorFlow's own memory.
ALLOWED_MB = 500
CLASSES, SIZE = 10, 28
PIECE = 4096
TEST_SHARE = 0.12
TINY_BYTES = 10_000_000


# A process between: the kernel counts the memory of whoever starts a process to that process's peak, and this is small.
_WATCH = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stdout, usage.ru_maxrss, usage.ru_utime + usage.ru_stime]))
"""


class Peak(NamedTuple):
    """A process's peak of resident memory, of the largest among it and its children, in MB of 10**6 bytes."""

    what: str
    megabytes: float
    seconds: float


def write_pictures(path: Path, size: float, seed: int = 0) -> None:
    """Write a stored ``.npz`` of about ``size`` bytes: noise whose brightness tells one of ten classes."""
    rows = int(size) // (SIZE * SIZE)
    test = int(rows * TEST_SHARE)
    random = np.random.default_rng(seed)
    layout: Any = np.lib.format
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part, count in (("train", rows - test), ("test", test)):
            shape = (count, SIZE, SIZE)
            with archive.open(f"x_{part}.npy", "w", force_zip64=True) as member:
                layout.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for start in range(0, count, PIECE):
                    classes = np.arange(start, min(start + PIECE, count)) % CLASSES
                    noise = random.integers(0, 25, (len(classes), SIZE, SIZE), np.uint8)
                    member.write((noise + (classes * 25).astype(np.uint8)[:, None, None]).tobytes())
            with archive.open(f"y_{part}.npy", "w", force_zip64=True) as member:
                layout.write_array(member, (np.arange(count) % CLASSES).astype(np.uint8))


def save_model(path: Path) -> None:
    """Save a Keras model that tells the classes by the mean: the nearest centre as one dense layer."""
    from pennyweight_export._tensorflow import keras

    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((SIZE, SIZE), dtype="uint8"), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(CLASSES)]
    )
    centres = (np.arange(CLASSES) * 25 + 12) / 255
    sharpness = 400
    weights = np.repeat(2 * centres[None] / (SIZE * SIZE), SIZE * SIZE, axis=0)
    model.layers[-1].set_weights([sharpness * weights, -sharpness * centres**2])
    model.save(path)


def measure(what: str, arguments: Sequence[str | Path]) -> Peak:
    """Run Python with these arguments and give its peak; raise RuntimeError where it fails."""
    watched = subprocess.run(
        [sys.executable, "-c", _WATCH, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    code, said, peak, seconds = json.loads(watched.stdout)
    if code:
        raise RuntimeError(f"{what}: exit code {code}: {said[-2000:]}")
    return Peak(what, peak * 1024 / 1e6, seconds)


def measure_export(folder: Path, size: float) -> list[Peak]:
    """Give the peaks of TensorFlow's import, of an export with a tiny file, and of exports with a large one."""
    code = "import sys; from pathlib import Path; from pennyweight_benchmarks.export_memory import save_model"
    model, tiny, large = folder / "model.keras", folder / "tiny.npz", folder / "large.npz"
    subprocess.run([sys.executable, "-c", f"{code}; save_model(Path(sys.argv[1]))", model], check=True)
    write_pictures(tiny, TINY_BYTES)
    write_pictures(large, size)
    export: list[str | Path] = ["-m", "pennyweight", "export", model, "--force", "-o", folder / "bundle", "--data"]
    return [
        measure("import tensorflow", ["-c", "import tensorflow"]),
        measure(f"export, data of {_megabytes(tiny)}", [*export, tiny]),
        measure(f"export, data of {_megabytes(large)}", [*export, large]),
        measure(f"export, data of {_megabytes(large)}, --evaluation all", [*export, large, "--evaluation", "all"]),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the peaks; exit code 1 when the large file's exceeds TensorFlow's by more than is allowed."""
    parser = argparse.ArgumentParser(prog="python -m pennyweight_benchmarks.export_memory", description=__doc__)
    parser.add_argument("--bytes", type=float, default=3e9, help="size of the large file (default 3e9)")
    parser.add_argument("--folder", type=Path, help="where the file lives while it is needed (default: temporary)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        peaks = measure_export(Path(folder), args.bytes)
    own = peaks[0].megabytes
    rows = [[p.what, f"{p.megabytes:,.0f}", f"{p.megabytes - own:,.0f}", f"{p.seconds:.0f}"] for p in peaks]
    print(text_table(["process", "peak MB", "beyond TensorFlow", "CPU s"], rows))
    print(f"allowed beyond TensorFlow: {ALLOWED_MB} MB")
    return 0 if all(peak.megabytes - own <= ALLOWED_MB for peak in peaks) else 1


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
