"""Keeps one process running: start, wait until ready, wait for its end, start again after a pause."""

import asyncio
import contextlib
import errno
import logging
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from signal import SIGKILL

import msgspec

from connectors.embedded.home import Home
from connectors.embedded.logs import last_error, since
from connectors.embedded.process import ProcessSpec, back_off_seconds, dying_with_parent, ending, environment
from schemas.errors import Misconfigured, PipelineError, Unavailable

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_STEADY_SECONDS = 10.0
_START_ATTEMPTS = 3
_FORCED_SECONDS = 5.0


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a process. `what`: starting, ready, ended, held or stopped."""

    name: str
    what: str
    detail: str = ""


class _Life(Enum):
    """How one run of a process went."""

    STEADY = auto()  # ready, and up for a while after
    SHORT = auto()  # ended by itself before that
    UNREADY = auto()  # never became ready, and was ended by us
    HELD = auto()  # ended by us because somebody asked


class Keeper:
    """Keeps one process. `outcome` ends with the first readiness, or with the error that it never came to be."""

    def __init__(self, spec: ProcessSpec, home: Home, changed: Callable[[Event], None]) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._home = home
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._log_offset = 0
        self._held = False
        self._held_changed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def hold(self, held: bool) -> None:
        """Whether it must not run for now."""
        if held != self._held:
            self._held = held
            self._held_changed.set()

    async def keep(self, after: Sequence[asyncio.Event]) -> None:
        """Run it again and again, until cancelled; the process is stopped then. Returns only if it never started."""
        failures = 0
        try:
            for event in after:
                await event.wait()
            while True:
                await self._until_released()
                life, error = await self._live()
                if life is _Life.HELD:
                    failures = 0
                    continue
                failures = 1 if life is _Life.STEADY else failures + 1
                if not self.outcome.done() and (error or life is _Life.UNREADY or failures >= _START_ATTEMPTS):
                    self.outcome.set_exception(error or self._why_not(life))
                    return
                await self._pause(back_off_seconds(failures))
        finally:
            await self._terminate()

    async def _live(self) -> tuple[_Life, PipelineError | None]:
        try:
            return await self._run(), None
        except PipelineError as error:
            failure = error
        except OSError as error:
            failure = self._translated(error)
        log.warning("process cannot start", extra={"program": self.spec.name, "error": str(failure)})
        return _Life.SHORT, failure

    async def _run(self) -> _Life:
        spec = self.spec
        if spec.prepare is not None:
            await asyncio.to_thread(spec.prepare)
        with self._home.log_of(spec.name).open("ab") as output:
            self._log_offset = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                *dying_with_parent(spec),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=spec.cwd or self._home.root,
                env=environment(spec, os.environ),
                start_new_session=True,
            )
        self._changed(Event(spec.name, "starting"))
        started_at = time.monotonic()
        ready_at: float | None = None
        ended = asyncio.create_task(self._process.wait())
        held = asyncio.create_task(self._until_held())
        try:
            if await self._becomes_ready(ended):
                ready_at = time.monotonic()
                self._changed(Event(spec.name, "ready", f"{ready_at - started_at:.1f} s"))
                self.ready.set()
                if not self.outcome.done():
                    self.outcome.set_result(None)
                await asyncio.wait((ended, held), return_when=asyncio.FIRST_COMPLETED)
            by_itself = ended.done()
        finally:
            ended.cancel()
            held.cancel()
            self.ready.clear()
        await self._terminate()
        if self._held:
            return _Life.HELD
        self._changed(Event(spec.name, "ended", ending(self._process.returncode)))
        if not by_itself:
            return _Life.UNREADY
        steady = ready_at is not None and time.monotonic() - ready_at >= _STEADY_SECONDS
        return _Life.STEADY if steady else _Life.SHORT

    async def _becomes_ready(self, ended: "asyncio.Task[int]") -> bool:
        deadline = time.monotonic() + self.spec.ready_seconds
        while (left := deadline - time.monotonic()) > 0 and not ended.done() and not self._held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    if await self.spec.ready():
                        return not ended.done()
            await asyncio.wait((ended,), timeout=_POLL_SECONDS)
        return False

    async def _until_released(self) -> None:
        if self._held:
            self._changed(Event(self.spec.name, "held"))
        while self._held:
            self._held_changed.clear()
            await self._held_changed.wait()

    async def _until_held(self) -> None:
        while not self._held:
            self._held_changed.clear()
            await self._held_changed.wait()

    async def _pause(self, seconds: float) -> None:
        self._held_changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._held_changed.wait(), seconds)

    async def _terminate(self) -> None:
        process, spec = self._process, self.spec
        if process is None or process.returncode is not None:
            return
        steps = (
            (spec.stop_signal, spec.stop_seconds),
            (spec.force_signal, _FORCED_SECONDS),
            (SIGKILL, _FORCED_SECONDS),
        )
        for number, seconds in steps:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                await asyncio.wait_for(process.wait(), seconds)
            except TimeoutError:
                log.warning("process does not stop", extra={"program": spec.name, "signal": number.name})
                continue
            self._changed(Event(spec.name, "stopped"))
            return

    def _why_not(self, life: _Life) -> Unavailable:
        path = self._home.log_of(self.spec.name)
        quoted = last_error(since(path, self._log_offset)) or "it wrote nothing"
        code = self._process.returncode if self._process is not None else None
        how = f"not ready after {self.spec.ready_seconds:.0f} s" if life is _Life.UNREADY else ending(code)
        return Unavailable(
            f"{self.spec.name} did not start ({how}): {quoted}; what it stored is kept; its log is {path}"
        )

    def _translated(self, error: OSError) -> PipelineError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Unavailable(
                f"{self.spec.name} cannot start: the disk that holds {self._home.root} is full; "
                "what is stored is kept; free some space and start again"
            )
        return Misconfigured(f"{self.spec.name} cannot be run: {error.strerror} ({error.filename})")
