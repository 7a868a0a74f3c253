"""Installed bundles: ``DIR/current`` is a link to one of ``DIR/releases/NNNN-DIGEST``, and it alone decides what runs.

DIGEST begins the SHA-256 of manifest.json; numbers grow. Releases numbered below the current one ran before it; those
above were rolled back from, or a killed install left them: the next install removes them, and hidden names too.
A release gets its name only when it is whole, on the disk and self-tested, and loses it before it is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Callable

from .bundle import EVALUATION_NAME, SIGNATURE_NAME, Bundle, open_bundle
from .errors import BundleError, CheckFailedError, OutputError, PennyweightError, UsageError
from .manifest import MANIFEST_NAME
from .service import Service

RELEASES = "releases"
CURRENT = "current"
MARKER = ".unconfirmed"
KEPT = 2
SELF_TEST_TIMEOUT = 120.0
_RELEASE = re.compile(r"(\d{4,})-[0-9a-f]{16}\Z")
JsonObject = dict[str, Any]
SelfTest = Callable[[Path, "Service | None"], JsonObject]
FolderTest = Callable[[Path], JsonObject]


def self_test(bundle: Path, service: Service | None = None) -> JsonObject:
    """Replay the golden set in a child process on what `load` takes; give what it took.

    With a service and called by root, the child has the rights of the service's user.
    Raises CheckFailedError when an answer is unlike the original's, or there is none.
    """
    from .isolation import run_isolated

    user = service.user if service and os.geteuid() == 0 else None
    environment = service.environment if service else None
    request = {"bundle": str(bundle.absolute())}
    try:
        result = run_isolated(f"{__name__}:self_test_task", request, SELF_TEST_TIMEOUT, environment, user)
    except PennyweightError as error:
        raise CheckFailedError(f"the self-test failed: {error}") from error
    if not result["passed"]:
        raise CheckFailedError(
            f"the self-test failed: {result['artifact']} on {result['engine']} answers unlike the original "
            f"(largest difference {result['largest']:.3g}, allowed {result['tolerance']:.3g})"
        )
    return result


def self_test_task(arguments: JsonObject) -> JsonObject:
    """Be the self-test's child process."""
    from .golden import replay_golden
    from .loading import load

    bundle = open_bundle(arguments["bundle"])
    with load(bundle) as model:
        result = replay_golden(model, bundle.golden())
        return {**model.describe(), **result._asdict(), "passed": result.passed}


def install(
    bundle: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    trust: str | os.PathLike[str] | None = None,
    with_evaluation: bool = False,
    service: Service | None = None,
    dry_run: bool = False,
    self_test: SelfTest = self_test,
) -> JsonObject:
    """Copy a bundle into ``directory`` and make it current there, whole or not at all.

    Args:
        bundle: a folder or ``.pennyweight`` file.
        directory: where bundles are installed; made when it isn't there.
        trust: an allowed-signers file; a bundle that none of them signed is refused.
        with_evaluation: take the evaluation set along.
        service: restarted after the switch; unless it then runs and the self-test passes with its user's rights, the
            bundle before is switched back and the service restarted again.
        dry_run: check and self-test the bundle, and write nothing.
        self_test: raises CheckFailedError for a bundle's folder that mustn't run.

    Returns:
        JSON with "changed": whether anything was (or without ``dry_run`` would be) changed.

    Raises:
        CheckFailedError: the bundle failed its self-test, or the service did with it; what ran before runs.
        BundleError and its kinds: the bundle is damaged, or not signed as ``trust`` demands.
        OutputError: ``directory`` can't be written, or holds something else.
        UsageError: ``directory`` has no name, or is a bundle itself.
    """
    place = _installation(directory)
    if (place.path / MANIFEST_NAME).exists():
        raise UsageError(f"{directory}: is a bundle itself; give the folder that holds `current`, or a new one")
    source = open_bundle(bundle, trust=trust)

    def report(changed: bool, release: str | None, before: str | None, test: JsonObject | None) -> JsonObject:
        names = {"name": source.manifest.name, "release": release, "before": before, "signed_by": source.signer}
        return {"directory": str(directory), "changed": changed, "dry_run": dry_run, **names, "self_test": test}

    if dry_run:
        before = place.current()
        if before and _holds(place.release(before), _contents(source, with_evaluation)):
            return report(False, before, before, None)
        source.check()
        return report(True, None, before, self_test(source.path, None))
    with place.locked():
        before, test = place.current(), None
        fallback = place.fallback() if service else None
        if before and _holds(place.release(before), _contents(source, with_evaluation)):
            if fallback is None:
                return report(False, before, before, None)
            release = before
        else:
            fallback = (before or "") if service else None
            release, test = place.add(source, with_evaluation, trust, lambda folder: self_test(folder, service))
            place.switch(release, fallback)
        if service and fallback is not None:
            test = _confirm(place, service, release, fallback, lambda folder: self_test(folder, service))
        place.prune()
        return report(True, release, before, test)


def rollback(
    directory: str | os.PathLike[str], *, service: Service | None = None, self_test: SelfTest = self_test
) -> JsonObject:
    """Make the newest earlier release current that is whole and passes its self-test; restart ``service``.

    Raises:
        BundleError: there is no earlier release.
        CheckFailedError: none of them passes, or the service doesn't run with it.
        OutputError: ``directory`` can't be written.
    """
    place = _installation(directory)
    if not place.path.is_dir():
        raise BundleError(f"{directory}: nothing is installed here; `pennyweight install BUNDLE --to DIR` does")
    with place.locked():
        before, refused = place.current(), []
        for release in place.previous():
            try:
                bundle = open_bundle(place.release(release))
                bundle.check()
                test = self_test(bundle.path, service)
            except PennyweightError as error:
                refused.append(f"{release}: {error}")
                continue
            place.switch(release)
            if service:
                try:
                    service.restart()
                except CheckFailedError as error:
                    raise CheckFailedError(f"{directory}: went back to {release}, and yet {error}") from error
            names = {"name": bundle.manifest.name, "release": release, "before": before}
            return {"directory": str(directory), "changed": True, **names, "self_test": test}
    if refused:
        raise CheckFailedError(f"{directory}: no earlier release can run ({'; '.join(refused)})")
    raise BundleError(f"{directory}: there is no earlier release to go back to")


def status(directory: str | os.PathLike[str]) -> JsonObject:
    """Say what is current in ``directory``, since when, whether every hash is right, and what came before.

    Raises BundleError where nothing is installed.
    """
    place = _installation(directory)
    release = place.current()
    if release is None:
        raise BundleError(f"{directory}: nothing is installed here; `pennyweight install BUNDLE --to DIR` does")
    return {
        "directory": str(directory),
        **_describe(place.release(release), (place.path / CURRENT).lstat().st_mtime),
        "confirmed": place.fallback() is None,
        "previous": [_describe(place.release(name), None) for name in place.previous()],
    }


def _installation(directory: str | os.PathLike[str]) -> Installation:
    if not os.fspath(directory):
        raise UsageError("the folder to install in has no name; an unset variable may have been given for it")
    return Installation(Path(directory))


def _describe(folder: Path, since: float | None) -> JsonObject:
    described: JsonObject = {"release": folder.name, "name": None, "digest": None, "since": None, "problem": None}
    try:
        since = folder.stat().st_mtime if since is None else since
        described["since"] = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(since))
        bundle = open_bundle(folder)
        described.update(name=bundle.manifest.name, digest=hashlib.sha256(bundle.manifest_bytes).hexdigest())
        bundle.check()
    except (PennyweightError, OSError) as error:
        described["problem"] = str(error)
    return described


class Installation:
    """The folder that bundles are installed in. Whoever changes it holds ``locked``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def release(self, name: str) -> Path:
        """Give a release's folder."""
        return self.path / RELEASES / name

    def current(self) -> str | None:
        """Give the current release's name, or None; raise OutputError when ``current`` isn't a link of ours."""
        link = self.path / CURRENT
        try:
            folder, name = os.path.split(link.readlink())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise OutputError(f"{link}: stands in the way, as no link of ours; choose another folder") from error
        if folder != RELEASES or not _RELEASE.match(name):
            raise OutputError(f"{link}: leads out of {RELEASES}/, so it isn't ours; choose another folder")
        return name

    def previous(self) -> list[str]:
        """Give the names of the releases before the current one, newest first."""
        current = self.current()
        limit = _number(current) if current else float("inf")
        return sorted((name for name in self._releases() if _number(name) < limit), key=_number, reverse=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other installs to end and keep them out; what the system refuses meanwhile becomes OutputError."""
        try:
            self.current()
            (self.path / RELEASES).mkdir(parents=True, exist_ok=True)
            with (self.path / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise OutputError(
                f"{error.filename or self.path}: can't be written ({error.strerror}); "
                "look at free space and permissions, or choose another folder"
            ) from error

    def add(
        self, source: Bundle, with_evaluation: bool, trust: str | os.PathLike[str] | None, test: FolderTest
    ) -> tuple[str, JsonObject]:
        """Copy a bundle, check and ``test`` the copy; give its name as a release, and what the test gave."""
        self._remove_unnamed()
        number = max(map(_number, [*self._releases(), self.current() or "0-"])) + 1
        name = f"{number:04}-{hashlib.sha256(source.manifest_bytes).hexdigest()[:16]}"
        part = self.release(f".{name}")
        try:
            part.mkdir()
            for file_name, content in _contents(source, with_evaluation):
                _write(part / file_name, content)
            _sync(part)
            open_bundle(part, trust=trust).check()
            result = test(part)
            self._discard_abandoned()
            part.rename(self.release(name))
            _sync(part.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return name, result

    def switch(self, name: str, fallback: str | None = None) -> None:
        """Make a release current.

        ``fallback`` is what to go back to should a service not run with it: "" for nothing, None without a service.
        """
        marker, beside = self.path / MARKER, self.path / ".part"
        if fallback is None:
            marker.unlink(missing_ok=True)
        else:
            _write(beside, f"{name} {fallback}".encode())
            beside.replace(marker)
        beside.unlink(missing_ok=True)
        beside.symlink_to(f"{RELEASES}/{name}")
        beside.replace(self.path / CURRENT)
        _sync(self.path)

    def withdraw(self) -> None:
        """Have nothing current."""
        (self.path / CURRENT).unlink()
        self.confirm()

    def confirm(self) -> None:
        """Note that the service runs with the current release."""
        (self.path / MARKER).unlink(missing_ok=True)
        _sync(self.path)

    def fallback(self) -> str | None:
        """Give the current release's fallback while nobody has confirmed that the service runs with it."""
        try:
            name, _, fallback = (self.path / MARKER).read_text().partition(" ")
        except OSError:
            return None
        return fallback if name == self.current() else None

    def prune(self) -> None:
        """Remove all but the current release and those kept to go back to."""
        for name in self.previous()[KEPT:]:
            self.discard(name)

    def _remove_unnamed(self) -> None:
        for name in _names(self.path / RELEASES):
            if name.startswith(".") and _RELEASE.match(name[1:].replace(".old", "")):
                shutil.rmtree(self.release(name))

    def _discard_abandoned(self) -> None:
        current = self.current()
        for name in self._releases():
            if not current or _number(name) > _number(current):
                self.discard(name)

    def discard(self, name: str) -> None:
        """Remove a release; it loses its name first, so that no half-removed one is ever gone back to."""
        hidden = self.release(f".{name}.old")
        self.release(name).rename(hidden)
        shutil.rmtree(hidden)

    def _releases(self) -> list[str]:
        try:
            return [name for name in _names(self.path / RELEASES) if _RELEASE.match(name)]
        except OSError:
            return []


def _confirm(place: Installation, service: Service, release: str, fallback: str, test: FolderTest) -> JsonObject:
    try:
        service.restart()
        result = test(place.path / CURRENT)
    except (PennyweightError, KeyboardInterrupt) as error:
        outcome = _undo(place, service, fallback)
        place.discard(release)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise CheckFailedError(f"{place.path}: {error}; {outcome}") from error
    place.confirm()
    return result


def _undo(place: Installation, service: Service, fallback: str) -> str:
    if not fallback:
        place.withdraw()
        return "it was the first bundle here, so nothing is installed now"
    place.switch(fallback)
    try:
        service.restart()
    except CheckFailedError as error:
        return f"rolled back to {fallback}, and yet {error}"
    return f"rolled back to {fallback}, with which {service.unit} runs"


def _contents(source: Bundle, with_evaluation: bool) -> Iterator[tuple[str, bytes]]:
    yield MANIFEST_NAME, source.manifest_bytes
    signature = source.signature()
    if signature is not None:
        yield SIGNATURE_NAME, signature
    for name in source.manifest.files:
        if name != EVALUATION_NAME or with_evaluation:
            yield name, source.read(name)


def _holds(folder: Path, contents: Iterable[tuple[str, bytes]]) -> bool:
    names = set()
    try:
        for name, content in contents:
            names.add(name)
            if (folder / name).read_bytes() != content:
                return False
        return names == _names(folder)
    except OSError:
        return False


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def _number(release: str) -> int:
    return int(release.partition("-")[0])


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
