"""A process to be kept running, and how it is found again after a crash. No policy here: see `supervisor`."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

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
    """How long to wait before start number `failures` + 1 in a row: 1 s, doubling, at most 30 s."""
    return min(30.0, float(2 ** min(max(failures - 1, 0), 10)))
