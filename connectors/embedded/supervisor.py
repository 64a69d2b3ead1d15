"""Keeps processes running: starts them in order, restarts what ends, stops them in reverse.

The list of who runs is on disk before anything else happens, so that after a kill -9 of the supervisor the next one
finds and ends what is left (on Linux the kernel ends it at once).
"""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil
from filelock import FileLock, Timeout

from connectors.embedded.home import Home
from connectors.embedded.process import Identity, ProcessSpec, back_off_seconds, lives
from schemas.errors import Misconfigured, PipelineError, Unavailable

log = logging.getLogger(__name__)

SELF = "up"
_POLL_SECONDS = 0.1
_HOUSEKEEPING_SECONDS = 0.25
_STEADY_SECONDS = 60.0
_START_ATTEMPTS = 3
_LOG_BYTES = 10_000_000
_FINAL_SECONDS = 5.0


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a process: starting, ready, ended, held, stopped."""

    name: str
    what: str
    detail: str = ""


Report = Callable[[Event], None]


class Supervisor:
    """Use it through `supervising`."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home = home
        self._report = report
        self._keepers: dict[str, _Keeper] = {}
        self._order: list[str] = []
        self._stop = asyncio.Event()

    async def start(self, specs: Sequence[ProcessSpec]) -> None:
        """Start processes, side by side where `after` allows it; returns when all are ready.

        Raises: Unavailable, quoting the log, when one does not become ready; Misconfigured from its `prepare`.
        """
        new = []
        for spec in in_order(specs, known=self._keepers.keys()):
            keeper = _Keeper(spec, self)
            self._keepers[spec.name] = keeper
            self._order.append(spec.name)
            new.append(keeper)
        for keeper in new:
            keeper.begin([self._keepers[name].ready for name in keeper.spec.after])
        waiting = [asyncio.ensure_future(keeper.outcome) for keeper in new]
        try:
            await asyncio.gather(*waiting)
        finally:
            for keeper in new:
                keeper.outcome.cancel()

    async def until_stopped(self) -> None:
        """Wait for the signal that ends everything."""
        await self._stop.wait()

    async def stop(self) -> None:
        """Stop everything, last started first; each is given its time, then forced."""
        waves: list[list[_Keeper]] = []
        for name in reversed(self._order):
            keeper = self._keepers[name]
            place = 1 + max(
                (place for place, wave in enumerate(waves) for other in wave if name in other.spec.after), default=-1
            )
            if place == len(waves):
                waves.append([])
            waves[place].append(keeper)
        for wave in waves:
            await asyncio.gather(*(keeper.end() for keeper in wave))
        self._keepers.clear()
        self._order.clear()

    def pids(self) -> dict[str, int]:
        """Process ids by name, of those that run now."""
        return {name: keeper.pid for name, keeper in self._keepers.items() if keeper.pid is not None}

    def note(self, event: Event) -> None:
        """Report an event and keep the list on disk true."""
        log.info("process changed", extra={"process": event.name, "change": event.what, "detail": event.detail})
        self._report(event)

    def write_pids(self) -> None:
        running = [identity for name, pid in self.pids().items() if (identity := Identity.of(name, pid))]
        own = Identity.of(SELF, os.getpid())
        self._home.write_pids([*([own] if own else []), *running])

    async def housekeep(self) -> None:
        """Obey the `held` folder and keep logs short, for ever."""
        next_rotation = 0.0
        while True:
            held = {path.name for path in self._home.held.iterdir()} if self._home.held.is_dir() else set()
            for name, keeper in self._keepers.items():
                keeper.hold(name in held)
            if time.monotonic() >= next_rotation:
                next_rotation = time.monotonic() + 10
                for name in self._keepers:
                    rotate(self._home.log_of(name))
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    @property
    def home(self) -> Home:
        return self._home


class _Keeper:
    """Keeps one process running."""

    def __init__(self, spec: ProcessSpec, supervisor: Supervisor) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._supervisor = supervisor
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._held = False
        self._held_changed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def begin(self, after: Sequence[asyncio.Event]) -> None:
        self._task = asyncio.create_task(self._keep(after), name=f"keep {self.spec.name}")

    def hold(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            self._held_changed.set()

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self, after: Sequence[asyncio.Event]) -> None:
        failures = 0
        try:
            for event in after:
                await event.wait()
            while True:
                await self._until_released()
                try:
                    steady = await self._run_once()
                except PipelineError as error:
                    if not self.outcome.done():
                        self.outcome.set_exception(error)
                        return
                    steady = False
                    log.warning("process cannot start", extra={"process": self.spec.name, "error": str(error)})
                if self._held:
                    failures = 0
                    continue
                failures = 1 if steady else failures + 1
                if not self.outcome.done() and failures >= _START_ATTEMPTS:
                    self.outcome.set_exception(self._why_not())
                    return
                await self._pause(back_off_seconds(failures))
        finally:
            await self._terminate()

    async def _until_released(self) -> None:
        while self._held:
            self._supervisor.note(Event(self.spec.name, "held"))
            self._held_changed.clear()
            await self._held_changed.wait()

    async def _pause(self, seconds: float) -> None:
        self._held_changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._held_changed.wait(), seconds)

    async def _run_once(self) -> bool:
        """One life of the process. Returns whether it was steady: ready, and up for a while."""
        spec, home = self.spec, self._supervisor.home
        if spec.prepare is not None:
            await asyncio.to_thread(spec.prepare)
        began = time.monotonic()
        path = home.log_of(spec.name)
        with path.open("ab") as output:
            self._log_from = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                *dying_with_parent(spec),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=spec.cwd or home.root,
                env=environment(spec),
                start_new_session=True,
            )
        self._supervisor.write_pids()
        self._supervisor.note(Event(spec.name, "starting"))
        ended = asyncio.create_task(self._process.wait())
        released = asyncio.create_task(self._until_held())
        try:
            if await self._becomes_ready(ended):
                self._supervisor.note(Event(spec.name, "ready", f"{time.monotonic() - began:.1f} s"))
                self.ready.set()
                if not self.outcome.done():
                    self.outcome.set_result(None)
                await asyncio.wait((ended, released), return_when=asyncio.FIRST_COMPLETED)
            else:
                began = time.monotonic()
        finally:
            ended.cancel()
            released.cancel()
            self.ready.clear()
        if not ended.done() or ended.cancelled():
            await self._terminate()
        self._supervisor.write_pids()
        self._supervisor.note(Event(spec.name, "ended", ending(self._process.returncode)))
        return time.monotonic() - began >= _STEADY_SECONDS

    async def _until_held(self) -> None:
        while not self._held:
            self._held_changed.clear()
            await self._held_changed.wait()

    async def _becomes_ready(self, ended: "asyncio.Task[int]") -> bool:
        deadline = time.monotonic() + self.spec.ready_seconds
        while time.monotonic() < deadline and not ended.done() and not self._held:
            if await self.spec.ready():
                return not ended.done()
            await asyncio.wait((ended,), timeout=_POLL_SECONDS)
        return False

    def _why_not(self) -> Unavailable:
        path = self._supervisor.home.log_of(self.spec.name)
        with path.open("rb") as file:
            file.seek(self._log_from)
            quoted = last_error(file.read(1_000_000).decode(errors="replace"))
        code = self._process.returncode if self._process is not None else None
        return Unavailable(
            f"{self.spec.name} did not start ({ending(code)}): {quoted or 'it wrote nothing'}; "
            f"its data was not touched; the whole log is {path}"
        )

    async def _terminate(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        steps = (
            (self.spec.stop_signal, self.spec.stop_seconds),
            (self.spec.force_signal, _FINAL_SECONDS),
            (signal.SIGKILL, _FINAL_SECONDS),
        )
        for number, seconds in steps:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                await asyncio.wait_for(asyncio.shield(process.wait()), seconds)
            except TimeoutError:
                continue
            self._supervisor.note(Event(self.spec.name, "stopped"))
            return


def in_order(specs: Sequence[ProcessSpec], known: Iterable[str] = ()) -> list[ProcessSpec]:
    """The specs, each behind those it comes after. Raises: Misconfigured, for a circle, a stranger or a namesake."""
    placed = set(known)
    if len({spec.name for spec in specs} | placed) != len(specs) + len(placed):
        raise Misconfigured("two processes have the same name")
    ordered: list[ProcessSpec] = []
    rest = list(specs)
    while rest:
        free = [spec for spec in rest if placed.issuperset(spec.after)]
        if not free:
            raise Misconfigured(f"these processes wait for each other: {', '.join(spec.name for spec in rest)}")
        ordered += free
        placed |= {spec.name for spec in free}
        rest = [spec for spec in rest if spec not in free]
    return ordered


def environment(spec: ProcessSpec) -> dict[str, str]:
    """All that a process inherits is where programs are, where home is and which language; the rest is its spec."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | dict(spec.env)


def dying_with_parent(spec: ProcessSpec) -> tuple[str, ...]:
    """The command line, so wrapped that the kernel ends the process when the supervisor dies. Same pid."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return spec.argv
    return (setpriv, "--pdeathsig", spec.force_signal.name.removeprefix("SIG"), "--", *spec.argv)


def ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "not ready in time"
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


_TELLING = re.compile(r"\b(FATAL|PANIC|ERROR)\b|Error\b|Exception\b|Caused by")


def last_error(text: str) -> str:
    """The line of a log that most likely says why: the last that looks like an error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or [""])[-1][:400]


def rotate(path: Path, max_bytes: int = _LOG_BYTES) -> None:
    """Keep one older generation. Copies and truncates, because the process goes on writing (it appends)."""
    if path.exists() and path.stat().st_size > max_bytes:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)


@contextlib.contextmanager
def taken(home: Home) -> Iterator[None]:
    """Own the home. Raises: Misconfigured, when a running `up` owns it."""
    lock = FileLock(home.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        owner = next((identity.pid for identity in home.read_pids() if identity.name == SELF), None)
        raise Misconfigured(
            f"the home {home.root} is in use by a running `up` (process {owner}); use it, stop it with `down`, "
            "or name another --home"
        ) from error
    try:
        yield
    finally:
        lock.release()


def end_leftovers(home: Home, *, seconds: float = 20.0) -> tuple[str, ...]:
    """End what a killed supervisor left running, and return the names."""
    left = [(i.name, process) for i in home.read_pids() if i.pid != os.getpid() and (process := i.process())]
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        for _, process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if all_gone([process for _, process in left], seconds=patience):
            break
    home.pids.unlink(missing_ok=True)
    return tuple(name for name, _ in left)


def all_gone(processes: Sequence[psutil.Process], *, seconds: float) -> bool:
    """Wait until none of the processes runs. A zombie that nobody has collected yet is gone."""
    deadline = time.monotonic() + seconds
    while any(lives(process) for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.asynccontextmanager
async def supervising(home: Home, report: Report) -> AsyncIterator[Supervisor]:
    """Own the home and run processes in it; on leaving, however that happens, all are stopped.

    SIGTERM, SIGINT and SIGHUP cancel the body; the context then ends quietly.
    Raises: Misconfigured, when the home cannot be written or is in use.
    """
    home.prepare()
    with taken(home):
        await asyncio.to_thread(end_leftovers, home)
        supervisor = Supervisor(home, report)
        supervisor.write_pids()
        loop = asyncio.get_running_loop()
        body = asyncio.current_task()
        assert body is not None
        asked = asyncio.Event()

        def ask() -> None:
            if not asked.is_set():
                asked.set()
                body.cancel()

        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, ask)
        housekeeping = asyncio.create_task(supervisor.housekeep())
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


def down(home: Home, *, seconds: float = 90.0) -> tuple[str, ...]:
    """Stop whatever runs in the home, supervisor first so that it stops the rest in order. Returns what was ended.

    Raises: Unavailable, when something outlives even the kill.
    """
    identities = home.read_pids()
    running = tuple(identity.name for identity in identities if identity.process())
    for identity in identities:
        process = identity.process()
        if identity.name == SELF and process is not None:
            process.terminate()
            if not all_gone([process], seconds=seconds):
                process.kill()
                all_gone([process], seconds=_FINAL_SECONDS)
    with taken(home) if home.root.is_dir() else contextlib.nullcontext():
        end_leftovers(home)
        home.endpoints.unlink(missing_ok=True)
    alive = [identity.name for identity in identities if identity.process()]
    if alive:
        raise Unavailable(f"these processes could not be ended: {', '.join(alive)}")
    return running
