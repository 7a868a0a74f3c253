"""A new lock: what Debian's archive signs and the index has at this moment."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .debian import open_archive
from .errors import TargetError
from .lock import Lock, Packages, Wheels
from .packages import Progress
from .targets import PACKAGE_SETS, TARGETS, PackageSet, Target
from .wheels import choose, pinned

CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"


def renewed_lock(progress: Progress) -> Lock:
    """Resolve every target anew; the engines' versions are those of the checkout's constraints.txt."""
    if not CONSTRAINTS.exists():
        raise TargetError("the lock is renewed in a checkout: its constraints.txt says which versions the engines have")

    def of_debian(wanted: PackageSet) -> Packages:
        progress(f"{wanted.name}: resolving in {wanted.suite} for {wanted.architecture}")
        with open_archive(wanted.suite, wanted.architecture) as archive, tempfile.TemporaryDirectory() as folder:
            return archive.download(archive.resolve(wanted.packages), Path(folder))

    with ThreadPoolExecutor(2) as pool:
        debian = dict(zip((one.name for one in PACKAGE_SETS), pool.map(of_debian, PACKAGE_SETS), strict=True))
        wheels = dict(zip(TARGETS, pool.map(_locked_wheels, TARGETS.values()), strict=True))
    return Lock(debian, wheels)


def _locked_wheels(target: Target) -> Wheels:
    # An engine needs nothing but numpy to answer; the test tools bring what they need, in pure Python.
    return {
        group: choose(target, names, dependencies=True)
        if group == "tests"
        else choose(target, pinned(target, names, CONSTRAINTS))
        for group, names in target.wheels.items()
    }
