"""Keeps processes running: starts them in order, restarts what ends, stops them in reverse.

The list of who runs is on disk as soon as anything runs, so that after a kill -9 of the supervisor the next one finds
and ends what is left (on Linux the kernel has ended it by then).
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import psutil
from filelock import FileLock, Timeout

from connectors.embedded.home import Home
from connectors.embedded.keeper import Event, Keeper
from connectors.embedded.logs import rotate
from connectors.embedded.process import Identity, ProcessSpec, in_order, lives, stopping_order
from schemas.errors import Misconfigured, Unavailable

__all__ = ["Event", "Report", "Supervisor", "down", "supervising"]

log = logging.getLogger(__name__)

Report = Callable[[Event], None]

SELF = "up"
_HOUSEKEEPING_SECONDS = 0.25
_ROTATION_SECONDS = 10.0
_LEFTOVER_SECONDS = 10.0
_DOWN_SECONDS = 120.0
_KILLED_SECONDS = 5.0


class Supervisor:
    """Runs processes in one home. Made by `supervising`."""

    def __init__(self, home: Home, report: Report, failed: Callable[[BaseException], None]) -> None:
        self._home = home
        self._report = report
        self._failed = failed
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._write_pids()

    async def start(self, specs: Sequence[ProcessSpec]) -> None:
        """Start processes, side by side where `after` allows it; returns when all are ready. May be called again.

        Raises: Unavailable, quoting its log, when one does not become ready; what its `prepare` raises.
        """
        new = []
        for spec in in_order(specs, known=self._keepers):
            keeper = self._keepers[spec.name] = Keeper(spec, self._home, self._changed)
            after = [self._keepers[name].ready for name in spec.after]
            self._tasks[spec.name] = self._watched(keeper.keep(after), f"keep {spec.name}")
            new.append(keeper)
        try:
            await asyncio.gather(*(keeper.outcome for keeper in new))
        finally:
            for keeper in new:
                keeper.outcome.cancel()

    def pids(self) -> dict[str, int]:
        """Process ids by name, of those that run now."""
        return {name: keeper.pid for name, keeper in self._keepers.items() if keeper.pid is not None}

    async def until_stopped(self) -> None:
        """Wait for the signal that ends everything: it cancels this wait."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop everything, last started first; each is given its time, then forced."""
        for group in stopping_order([keeper.spec for keeper in self._keepers.values()]):
            tasks = [self._tasks[spec.name] for spec in group]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def housekeeping(self) -> "asyncio.Task[None]":
        """Obey the `held` folder and keep logs short, until cancelled."""
        return self._watched(self._housekeep(), "housekeeping")

    async def _housekeep(self) -> None:
        rotate_at = 0.0
        while True:
            held = {path.name for path in self._home.held.iterdir()} if self._home.held.is_dir() else set()
            for name, keeper in self._keepers.items():
                keeper.hold(name in held)
            if time.monotonic() >= rotate_at:
                rotate_at = time.monotonic() + _ROTATION_SECONDS
                for name in (SELF, *self._keepers):
                    rotate(self._home.log_of(name))
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    def _watched(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """A task whose crash is a bug that ends the supervisor, and is not kept quiet."""

        def done(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._failed(error)

        task = asyncio.create_task(work, name=name)
        task.add_done_callback(done)
        return task

    def _changed(self, event: Event) -> None:
        self._write_pids()
        log.info("process changed", extra={"program": event.name, "change": event.what, "detail": event.detail})
        self._report(event)

    def _write_pids(self) -> None:
        everyone = {SELF: os.getpid()} | self.pids()
        self._home.write_pids(i for name, pid in everyone.items() if (i := Identity.of(name, pid)) is not None)


@contextlib.asynccontextmanager
async def supervising(home: Home, report: Report) -> AsyncIterator[Supervisor]:
    """Own the home and run processes in it; on leaving, however that happens, all are stopped.

    SIGTERM, SIGINT and SIGHUP cancel the body; the context then ends quietly.
    Raises: Misconfigured, when the home cannot be written or is in use.
    """
    home.prepare()
    with taken(home):
        await asyncio.to_thread(end_leftovers, home)
        for path in home.held.iterdir():
            path.unlink()
        loop = asyncio.get_running_loop()
        body = asyncio.current_task()
        assert body is not None, "runs in a task"
        asked = asyncio.Event()
        bugs: list[BaseException] = []

        def ask() -> None:
            if not asked.is_set():
                asked.set()
                body.cancel()

        def failed(bug: BaseException) -> None:
            bugs.append(bug)
            ask()

        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, ask)
        supervisor = Supervisor(home, report, failed)
        housekeeping = supervisor.housekeeping()
        try:
            yield supervisor
        except asyncio.CancelledError:
            if not asked.is_set():
                raise
            body.uncancel()
        finally:
            asked.set()
            await supervisor.stop()
            housekeeping.cancel()
            for number in signals:
                loop.remove_signal_handler(number)
            home.pids.unlink(missing_ok=True)
            home.endpoints.unlink(missing_ok=True)
        if bugs:
            raise bugs[0]


def down(home: Home) -> tuple[str, ...]:
    """Stop whatever runs in the home, supervisor first so that it stops the rest in order. Returns what was ended.

    Raises: Unavailable, when something outlives even the kill; Misconfigured, when another `up` takes the home.
    """
    if not home.root.is_dir():
        return ()
    identities = home.read_pids()
    running = tuple(identity.name for identity in identities if identity.process())
    supervisors = [process for i in identities if i.name == SELF and (process := i.process()) is not None]
    for process in supervisors:
        process.terminate()
    if not all_gone(supervisors, seconds=_DOWN_SECONDS):
        for process in supervisors:
            process.kill()
        all_gone(supervisors, seconds=_KILLED_SECONDS)
    with taken(home):
        end_leftovers(home)
        home.endpoints.unlink(missing_ok=True)
    if alive := [identity.name for identity in identities if identity.process()]:
        raise Unavailable(f"these processes could not be ended: {', '.join(alive)}; what is stored is kept")
    return running


@contextlib.contextmanager
def taken(home: Home) -> Iterator[None]:
    """Own the home. Raises: Misconfigured, when a running `up` owns it."""
    lock = FileLock(home.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        owners = [str(identity.pid) for identity in home.read_pids() if identity.name == SELF]
        raise Misconfigured(
            f"the home {home.root} is in use by a running `up` (process {', '.join(owners) or 'unknown'}); "
            "use it, stop it with `down`, or name another --home"
        ) from error
    try:
        yield
    finally:
        lock.release()


def end_leftovers(home: Home) -> tuple[str, ...]:
    """End what a killed supervisor left running, and return the names. Order: own the home."""
    left = [(i.name, process) for i in home.read_pids() if i.pid != os.getpid() and (process := i.process())]
    steps = (
        (signal.SIGTERM, _LEFTOVER_SECONDS),
        (signal.SIGQUIT, _KILLED_SECONDS),
        (signal.SIGKILL, _KILLED_SECONDS),
    )
    for number, seconds in steps:
        for _, process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if all_gone([process for _, process in left], seconds=seconds):
            break
    home.pids.unlink(missing_ok=True)
    return tuple(name for name, _ in left)


def all_gone(processes: Sequence[psutil.Process], *, seconds: float) -> bool:
    """Wait until none of the processes runs, at most so long; whether that came true. They need not be children."""
    deadline = time.monotonic() + seconds
    while any(lives(process) for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
