"""A process to be kept running, and how it is found again after a crash. No policy here: see `supervisor`."""

import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from schemas.errors import Misconfigured

Ready = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run and when it counts as running.

    `env` is the whole environment but for PATH, HOME and LANG. `ready` is asked until it says yes; it answers False
    for "not yet" and raises nothing. `after` names processes that must be ready before this one starts. `prepare`
    runs (in a thread) before every start and may raise a PipelineError. `force_signal` ends the process when it does
    not stop in time, and when the supervisor itself is killed.
    """

    name: str
    argv: tuple[str, ...]
    ready: Ready
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    ready_seconds: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 20.0
    force_signal: signal.Signals = signal.SIGKILL
    after: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None


class Identity(msgspec.Struct, frozen=True):
    """One run of a process. A pid alone is reused; together with its start time (seconds) it is not."""

    name: str
    pid: int
    started_at: float

    @classmethod
    def of(cls, name: str, pid: int) -> "Identity | None":
        """None when no such process lives."""
        try:
            return cls(name, pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def process(self) -> psutil.Process | None:
        """The living process that this names, if it still lives."""
        try:
            process = psutil.Process(self.pid)
            return process if lives(process) and same_start(process.create_time(), self.started_at) else None
        except psutil.NoSuchProcess:
            return None


def lives(process: psutil.Process) -> bool:
    """Whether it still runs. What has ended and waits to be collected does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def same_start(one: float, other: float) -> bool:
    """Whether two start times, in seconds, are those of one process. The kernel counts in 1/100 s."""
    return abs(one - other) < 0.05


def back_off_seconds(failures: int) -> float:
    """How long to wait before the next start after that many failures in a row: 1 s, doubling, at most 30 s."""
    return min(30.0, float(2 ** min(max(failures - 1, 0), 10)))


def in_order(specs: Sequence[ProcessSpec], known: Iterable[str] = ()) -> list[ProcessSpec]:
    """The specs, each behind those it comes after. `known` are names that run already.

    Raises: Misconfigured, for a circle, an unknown name in `after`, or a name given twice.
    """
    placed = set(known)
    if len({spec.name for spec in specs} | placed) != len(specs) + len(placed):
        raise Misconfigured("two processes have the same name")
    ordered: list[ProcessSpec] = []
    rest = list(specs)
    while rest:
        free = [spec for spec in rest if placed.issuperset(spec.after)]
        if not free:
            raise Misconfigured(f"these processes wait for ever: {', '.join(spec.name for spec in rest)}")
        ordered += free
        placed |= {spec.name for spec in free}
        rest = [spec for spec in rest if spec.name not in placed]
    return ordered


def stopping_order(specs: Sequence[ProcessSpec]) -> list[list[ProcessSpec]]:
    """Groups to be stopped one after the other: nobody is stopped before those that came after it."""
    groups: list[list[ProcessSpec]] = []
    place: dict[str, int] = {}
    for spec in reversed(specs):
        place[spec.name] = max((place[other.name] + 1 for other in specs if spec.name in other.after), default=0)
        groups += [[] for _ in range(place[spec.name] + 1 - len(groups))]
        groups[place[spec.name]].append(spec)
    return groups


def environment(spec: ProcessSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    """All that a process inherits is where programs are, where home is and which language; the rest is its spec."""
    return {name: inherited[name] for name in ("PATH", "HOME", "LANG") if name in inherited} | dict(spec.env)


def dying_with_parent(spec: ProcessSpec) -> tuple[str, ...]:
    """The command line, so wrapped that the kernel ends the process when its parent dies. The pid stays the same.

    Where util-linux is not installed the process outlives a killed parent, until somebody reads the list of pids.
    """
    setpriv = shutil.which("setpriv", path=os.environ.get("PATH", os.defpath))
    if setpriv is None:
        return spec.argv
    return (setpriv, "--pdeathsig", spec.force_signal.name.removeprefix("SIG"), "--", *spec.argv)


def ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "still running"
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
