"""Device verbs with ``--on``: each is the device's own verb, and with it the same on other machines."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pennyweight.errors import OutputError, UsageError
from pennyweight.output import emit, notice, write_atomically

FORMAT = "pennyweight-devices"
VERSION = 1
DEVICE_OPTIONS = ("keep", "offline", "device_engine", "device_python", "timeout", "results", "ssh_config")
TIMEOUT = "1h"
JsonObject = dict[str, Any]


class DeviceVerb:
    """A verb of the device package, which ``--on`` takes elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._here = importlib.import_module(f"pennyweight.commands.{name}")
        self.HELP: str = self._here.HELP

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's arguments and those for devices."""
        add_device_arguments(parser, self._here)

    def run(self, args: argparse.Namespace) -> int:
        """Give the verb's exit code; with --on the worst over the devices."""
        code: int = run_on_devices(self._name, args) if is_for_devices(args) else self._here.run(args)
        return code


# The entry points' names. A verb is imported when it is used: the doctor has to work without numpy.
def __getattr__(name: str) -> DeviceVerb:
    if name not in ("parity", "verify", "doctor", "install"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return DeviceVerb(name)


def add_device_arguments(parser: argparse.ArgumentParser, verb: Any) -> None:
    """Add the arguments of a device's verb, and --on with what belongs to it."""
    from .job import Arguments

    arguments = Arguments(parser)
    verb.add_arguments(arguments)
    parser.set_defaults(device_arguments=arguments)
    group = parser.add_argument_group("on other machines, over SSH")
    group.add_argument(
        "--on", action="append", metavar="HOST", help="do it there: [user@]name as for ssh, its aliases too; repeatable"
    )
    group.add_argument("--keep", action="store_true", help="leave environment and bundle there for the next time")
    group.add_argument(
        "--offline", action="store_true", help="carry numpy and engine along instead of using its package index"
    )
    group.add_argument(
        "--device-engine",
        action="append",
        default=[],
        metavar="NAME",
        help="engine that it gets, or all; repeatable (default --engine, else what suits it)",
    )
    group.add_argument("--device-python", metavar="NAME", help="its Python (default python3, else a later one)")
    group.add_argument(
        "--timeout", metavar="TIME", help=f"what one device may take at most, such as 90s (default {TIMEOUT})"
    )
    group.add_argument("--results", metavar="DIR", help="write each device's result there, as HOST-VERB.json")
    group.add_argument("--ssh-config", metavar="FILE", help="for ssh -F, instead of your own configuration")


def is_for_devices(args: argparse.Namespace) -> bool:
    """Whether the work is for other machines; raise UsageError for an option that says nothing without --on."""
    idle = [name for name in DEVICE_OPTIONS if getattr(args, name)]
    if idle and not args.on:
        raise UsageError(f"--{idle[0].replace('_', '-')} says how to work on other machines; name one with --on")
    return bool(args.on)


def run_on_devices(verb: str, args: argparse.Namespace) -> int:
    """Do a verb on every host of --on; print one table; give the worst exit code: 1, then 2, then 3, then 0."""
    from pennyweight.engines import engine_kind

    from .connection import check_host, ssh_program
    from .fleet import work_on
    from .job import make_job
    from .session import Settings
    from .table import devices_text, plain

    hosts = [check_host(host) for host in args.on]
    if len(set(hosts)) < len(hosts):
        raise UsageError("--on names a host twice")
    ssh_program()
    if args.ssh_config and not Path(args.ssh_config).is_file():
        raise UsageError(f"--ssh-config {args.ssh_config}: no such file")
    engine = getattr(args, "engine", None)
    engines = args.device_engine or ([engine] if engine else [])
    for name in engines if engines != ["all"] else ():
        engine_kind(name)
    job = make_job(verb, args)
    settings = Settings(
        args.ssh_config, args.device_python, engines, args.offline, args.keep, _seconds(args.timeout or TIMEOUT)
    )
    results = work_on(hosts, job, settings, lambda text: notice(args, plain(text)))
    if args.results:
        _write_results(Path(args.results), verb, results)
        notice(args, f"wrote {args.results}")
    document: JsonObject = {"format": FORMAT, "version": VERSION, "verb": verb}
    document["devices"] = [{**one._asdict(), "emulation": one.emulation} for one in results]
    emit(args, document, devices_text(verb, results))
    codes = {one.exit_code for one in results}
    return 1 if 1 in codes else 2 if 2 in codes else max(codes)


def _write_results(folder: Path, verb: str, results: Sequence[Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't be made ({error.strerror}); choose another --results") from error
    taken: set[str] = set()
    for one in results:
        if one.result is None:
            continue
        name = base = f"{re.sub(r'[^@.-]|_', _plain, one.host)}-{verb}"
        number = 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        content = json.dumps(one.result, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / f"{name}.json", (content + "\n").encode())


def _plain(match: re.Match[str]) -> str:
    return match[0] if match[0].isalnum() else "_"


def _seconds(text: str) -> float:
    from pennyweight.commands.bench import duration

    try:
        return duration(text)
    except UsageError as error:
        raise UsageError(str(error).replace("--for", "--timeout")) from error
