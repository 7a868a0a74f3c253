"""A bundle on disk, as a folder or as one uncompressed zip: opened, checked, and read only through its hashes."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Callable, Protocol

from .errors import BundleError, IntegrityError, SignatureError
from .manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, parse_manifest

if TYPE_CHECKING:
    from io import BufferedReader

    from .sample_file import SampleFile
    from .samples import Samples

SUFFIX = ".pennyweight"
GOLDEN_NAME = "golden.npz"
EVALUATION_NAME = "evaluation.npz"
SIGNATURE_NAME = f"{MANIFEST_NAME}.sig"
MAX_SIGNATURE_BYTES = 2**16
HASHED_BYTES = 2**20


class _Store(Protocol):
    def names(self) -> list[str]: ...

    def read(self, name: str, limit: int) -> bytes: ...

    def reader(self, name: str, limit: int) -> Callable[[], bytes]: ...

    def open(self, name: str) -> IO[bytes]: ...


class Bundle:
    """An opened bundle: its manifest, and its files by name.

    Nothing is believed before it was hashed: ``read`` compares every byte with the manifest. ``manifest_bytes`` is
    what the manifest was parsed from; ``signer`` is who signed it, None where no signature was asked for.
    """

    def __init__(
        self, path: Path, manifest: Manifest, store: _Store, manifest_bytes: bytes, signer: str | None
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.manifest_bytes = manifest_bytes
        self.signer = signer
        self._store = store

    def read(self, name: str) -> bytes:
        """Give a file's bytes.

        Raises:
            BundleError: the bundle has no such file.
            IntegrityError: its size or SHA-256 isn't the manifest's.
        """
        return self.reader(name)()

    def reader(self, name: str) -> Callable[[], bytes]:
        """Open a file; give the function that reads it, once, and gives its bytes. Errors as of ``read``, by either."""
        record = self.manifest.files.get(name)
        if record is None:
            raise _unlisted(self.path, name)
        read = self._store.reader(name, record.size)

        def checked() -> bytes:
            content = read()
            if len(content) != record.size or hashlib.sha256(content).hexdigest() != record.sha256:
                raise IntegrityError(
                    f"{self.path}: {name} isn't what was exported (its SHA-256 differs); copy the bundle again"
                )
            return content

        return checked

    def open(self, name: str) -> IO[bytes]:
        """Give a file, opened at its beginning, after all of it was hashed in pieces; errors as of ``read``.

        For files that may be larger than the memory. Whoever changes the file while it is read isn't noticed.
        """
        record = self.manifest.files.get(name)
        if record is None:
            raise _unlisted(self.path, name)
        file, digest, size = self._store.open(name), hashlib.sha256(), 0
        while block := file.read(HASHED_BYTES):
            digest.update(block)
            size += len(block)
        if size != record.size or digest.hexdigest() != record.sha256:
            file.close()
            raise IntegrityError(
                f"{self.path}: {name} isn't what was exported (its SHA-256 differs); copy the bundle again"
            )
        file.seek(0)
        return file

    def golden(self) -> Samples:
        """Give the golden inputs with the original model's outputs."""
        return self._samples(GOLDEN_NAME)

    def evaluation(self) -> Samples:
        """Give the labelled evaluation inputs with the original model's outputs; raise BundleError without them."""
        self._require_evaluation()
        return self._samples(EVALUATION_NAME)

    def evaluation_file(self) -> SampleFile:
        """Give the evaluation set to be read in pieces, however large it is; errors as of ``evaluation``."""
        from .sample_file import SampleFile

        self._require_evaluation()
        return SampleFile(self.open(EVALUATION_NAME), self.manifest, f"{self.path}: {EVALUATION_NAME}")

    def _require_evaluation(self) -> None:
        if EVALUATION_NAME not in self.manifest.files:
            raise BundleError(f"{self.path}: this bundle carries no evaluation set; export it with --evaluation N")
        if self.evaluation_left_behind:
            raise BundleError(
                f"{self.path}: the evaluation set stayed behind when this bundle was installed; "
                "`pennyweight install --with-evaluation` takes it along"
            )

    @property
    def evaluation_left_behind(self) -> bool:
        """Whether the manifest lists an evaluation set that isn't here; `pennyweight install` leaves it out."""
        return EVALUATION_NAME in self.manifest.files and EVALUATION_NAME not in self._store.names()

    def check(self) -> list[str]:
        """Hash every file that the manifest lists; give the names of files that it doesn't list.

        The evaluation set may be absent, as `pennyweight install` leaves it out: see ``evaluation_left_behind``.

        Raises:
            BundleError, IntegrityError: a file is missing or isn't what was exported.
        """
        names = set(self._store.names())
        for name in self.manifest.files:
            if name != EVALUATION_NAME or name in names:
                self.open(name).close()
        return sorted(names - set(self.manifest.files) - {MANIFEST_NAME, SIGNATURE_NAME})

    def signature(self) -> bytes | None:
        """Give the manifest's signature, or None for an unsigned bundle."""
        return _signature(self._store)

    def require_signature(self, trust: str | os.PathLike[str]) -> None:
        """Raise SignatureError unless somebody in the allowed-signers file ``trust`` signed the manifest."""
        self.signer = _signer(self.manifest_bytes, self._store, trust, self.path)

    def _samples(self, name: str) -> Samples:
        from .samples import parse_samples

        return parse_samples(self.read(name), self.manifest, f"{self.path}: {name}")


def _unlisted(path: Path, name: str) -> BundleError:
    return BundleError(f"{path}: no file {name!r} in this bundle; `pennyweight info {path}` lists them")


def open_bundle(path: str | os.PathLike[str], *, trust: str | os.PathLike[str] | None = None) -> Bundle:
    """Open a bundle: a folder or a ``.pennyweight`` file.

    Args:
        path: the bundle. Of a link to a folder, the folder that it leads to now is read, wherever it leads later.
        trust: an allowed-signers file of ssh-keygen; the manifest is parsed only when one of them signed its bytes.

    Raises:
        BundleError: it doesn't exist, isn't a bundle, or its manifest can't be read.
        IntegrityError: the manifest was changed.
        SignatureError: nobody in ``trust`` has signed it.
    """
    place = Path(path)
    try:
        mode = place.stat().st_mode
    except PermissionError as error:
        raise BundleError(f"{place}: can't be read ({error.strerror}); check its permissions") from error
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{place}: no such bundle; give the folder or .pennyweight file that `export` wrote"
        ) from error
    store = _Folder(place) if stat.S_ISDIR(mode) else _open_zip(place)
    raw = store.read(MANIFEST_NAME, MAX_MANIFEST_BYTES + 1)
    signer = None if trust is None else _signer(raw, store, trust, place)
    return Bundle(place, parse_manifest(raw, f"{place}: {MANIFEST_NAME}"), store, raw, signer)


def _signature(store: _Store) -> bytes | None:
    return store.read(SIGNATURE_NAME, MAX_SIGNATURE_BYTES) if SIGNATURE_NAME in store.names() else None


def _signer(raw: bytes, store: _Store, trust: str | os.PathLike[str], place: Path) -> str:
    from .signatures import verify_signature

    signature = _signature(store)
    if signature is None:
        raise SignatureError(
            f"{place}: not signed; sign it with `ssh-keygen -Y sign -n pennyweight -f KEY {MANIFEST_NAME}`"
        )
    return verify_signature(raw, signature, trust, str(place))


def _open_zip(path: Path) -> _Store:
    from ._archive import Archive

    return Archive(path)


class _Folder:
    """A bundle as a folder."""

    def __init__(self, path: Path) -> None:
        # Resolved once: an installation's link may be switched while its files are read.
        self._path = path.resolve()

    def names(self) -> list[str]:
        try:
            return [entry.name for entry in self._path.iterdir()]
        except OSError as error:
            raise BundleError(f"{self._path}: can't be read ({error.strerror}); check its permissions") from error

    def read(self, name: str, limit: int) -> bytes:
        return self.reader(name, limit)()

    def reader(self, name: str, limit: int) -> Callable[[], bytes]:
        file = self.open(name).detach()

        def read() -> bytes:
            with file:
                try:
                    # One call as a rule: each more would wait for whoever imports an engine meanwhile.
                    content = file.read(limit + 1)
                    while len(content) < limit and (more := file.read(limit + 1 - len(content))):
                        content += more
                except OSError as error:
                    raise self._unreadable(name, error) from error
            return content

        return read

    def open(self, name: str) -> BufferedReader:
        place = self._path / name
        try:
            # A FIFO or device under a file's name would block or never end.
            if not stat.S_ISREG(place.stat().st_mode):
                raise BundleError(f"{place}: not a regular file; copy the bundle again")
            return place.open("rb")
        except FileNotFoundError as error:
            raise BundleError(f"{self._path}: {name} is missing; copy the bundle again") from error
        except OSError as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: OSError) -> BundleError:
        return BundleError(f"{self._path / name}: can't be read ({error.strerror}); check its permissions")
