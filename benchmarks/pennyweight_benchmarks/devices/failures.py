"""Why a device gave no result: one kind, one reason, one thing to do; read from what ssh, pip and Python say."""

from __future__ import annotations

import re

# The agent's starting line ends with this exit code where no Python is new enough.
NO_PYTHON = 93
SSH_FAILED = 255
REMEDIES = {
    "unreachable": "check that it is on and that `ssh {host}` works",
    "unknown host key": "run `ssh {host}` once and compare the fingerprint with the device's own",
    "changed host key": "if the device was set up anew, `ssh-keygen -R` its name, then `ssh {host}` once; else beware",
    "key refused": "`ssh-copy-id {host}` gives it your public key; the agent must hold the key (`ssh-add`)",
    "ssh failed": "try `ssh {host}`",
    "no Python": "install Python 3.9 or later on it (`sudo apt install python3`), or name one with --device-python",
    "connection lost": "it may have rebooted (power supply?) or the network broke; run again",
    "slow": "give it longer with --timeout, or see on it what takes so long",
    "full": "free some space on it, `df -h` shows where",
    "out of memory": "stop other programs on it, or take a smaller engine with --device-engine",
    "no wheel": "`pennyweight doctor --on {host} --device-engine NAME` tries another engine",
    "no package index": "see its network and pip configuration, or carry the wheels along with --offline",
    "busy": "wait for the other session's end",
    "refused": "see its permissions",
    "fault": "please report it",
}
UNREACHABLE = (
    "Connection refused|timed out|No route to host|Network is unreachable|Could not resolve|Name or service|"
    "stdio forwarding failed|Connection closed by UNKNOWN|kex_exchange_identification|Connection reset"
)
LOST = "closed by remote host|Connection reset|Broken pipe|not responding|Connection closed|client_loop"
MEMORY = re.compile(
    r"MemoryError|out of memory|Cannot allocate memory|bad_alloc|allocation still failed|failed to map segment|"
    "can't start new thread",
    re.I,
)
SPACE = re.compile(r"No space left on device|Disk quota exceeded")
INDEX = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Max retries|Connection (?:refused|broken)|"
    r"Failed to establish|Read timed out|ProxyError|SSLError|ReadTimeoutError|HTTP error"
)
UNFIT = re.compile(r"(\S+\.whl) is not a supported wheel")
MISSING = re.compile(r"No matching distribution found for (\S+)")


class DeviceError(Exception):
    """A device gives no result. ``kind`` is a key of REMEDIES; ``remedy`` says what to do instead of its text."""

    def __init__(self, kind: str, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = " ".join(reason.split())
        self._remedy = remedy

    def remedy(self, host: str) -> str:
        """Say what to do about it."""
        return self._remedy or REMEDIES.get(self.kind, REMEDIES["fault"]).format(host=host)


def connection_failure(code: int | None, said: str, step: str, started: bool) -> DeviceError:
    """Tell why ssh ended: from its exit code, its words, and whether the device's Python had answered before."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]

    def found(pattern: str) -> str:
        return next((line for line in reversed(lines) if re.search(pattern, line)), "")

    last = lines[-1][:300] if lines else ""
    if started:
        broken = found(LOST)
        if broken:
            return DeviceError("connection lost", f"while {step}: {broken}")
        if MEMORY.search(said):
            return DeviceError("out of memory", f"while {step}: {last}")
        if code in (SSH_FAILED, -9, 137):
            return DeviceError("connection lost", f"while {step}: its Python was killed{f' ({last})' if last else ''}")
        return DeviceError("fault", f"while {step}: its Python ended with code {code}{f' ({last})' if last else ''}")
    if code == NO_PYTHON and not MEMORY.search(said):
        versions = [line.removeprefix("found ") for line in lines if line.startswith("found ")]
        return DeviceError("no Python", f"only {', '.join(versions)}" if versions else "none found there")
    if found("IDENTIFICATION HAS CHANGED"):
        return DeviceError("changed host key", "its host key isn't the one in your known hosts")
    if found("Host key verification failed"):
        return DeviceError("unknown host key", found("No .* host key is known") or "its host key isn't known here")
    if found("Permission denied|Too many authentication failures"):
        return DeviceError("key refused", found("Permission denied|Too many authentication failures"))
    if MEMORY.search(said):
        return DeviceError("out of memory", f"while {step}: {last}")
    if code == SSH_FAILED and found(UNREACHABLE):
        return DeviceError("unreachable", found(UNREACHABLE))
    if code == SSH_FAILED and found(LOST):
        return DeviceError("connection lost", f"while {step}: {found(LOST)}")
    return DeviceError("ssh failed", f"code {code}{f': {last}' if last else ', and not a word'}")


def program_failure(step: str, code: int, noise: str) -> DeviceError:
    """Tell why a program on the device failed, from its exit code and what it said on standard error."""
    lines = [line.strip() for line in noise.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "pennyweight:"))] or lines
    last = errors[-1][:300] if errors else f"exit code {code}"
    if code == -9:
        return DeviceError("out of memory", f"while {step}: killed (SIGKILL), as the kernel does when memory runs out")
    if found := SPACE.search(noise):
        return DeviceError("full", f"while {step}: {_sentence(noise, found)}")
    if found := MEMORY.search(noise):
        return DeviceError("out of memory", f"while {step}: {_sentence(noise, found)}")
    if unfit := UNFIT.search(noise):
        return DeviceError("no wheel", f"{unfit[1]}: pip there says that it isn't for its platform")
    missing = MISSING.search(noise)
    if missing and INDEX.search(noise):
        return DeviceError("no package index", f"while {step}: pip can't reach its package index")
    if missing:
        return DeviceError("no wheel", f"{missing[1]}: pip finds no wheel for it there")
    return DeviceError("fault", f"while {step}: {last}")


def _sentence(text: str, found: re.Match[str]) -> str:
    """Give the line around a match, or of a long one what is near."""
    start = max(text.rfind("\n", 0, found.start()) + 1, found.start() - 120)
    end = text.find("\n", found.end())
    return text[start : min(len(text) if end < 0 else end, found.end() + 120)].strip()
