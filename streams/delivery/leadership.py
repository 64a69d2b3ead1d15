"""Who may act for a client: one process, by a lease. The others stand by.

The lease's life is judged by the database's clock where it is given, and by our own monotonic clock, counted from
before we asked, where it is used: so a process that was frozen knows it is late.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import psutil

from connectors.store.ledger import LeaseTable
from schemas.errors import Fenced, PipelineError

log = logging.getLogger(__name__)

_STANDBY_SECONDS: Final = 0.5
_MARGIN_SECONDS: Final = 1.0
"""A request must have ended this long before the lease does."""


class Holder(msgspec.Struct, frozen=True):
    """One process, so named that another on the same machine can tell whether it still lives."""

    machine: str
    pid: int
    started_at: float

    @staticmethod
    def present() -> "Holder":
        """This process."""
        process = psutil.Process()
        return Holder(_machine(), process.pid, process.create_time())

    def text(self) -> str:
        """As the lease names it."""
        return f"{self.machine}/{self.pid}/{self.started_at}"

    @staticmethod
    def named(text: str) -> "Holder | None":
        """The holder that a lease names; None when it is none of ours."""
        machine, _, rest = text.partition("/")
        pid, _, started_at = rest.partition("/")
        try:
            return Holder(machine, int(pid), float(started_at))
        except ValueError:
            return None

    def is_dead(self) -> bool:
        """Whether the process has surely ended: it ran on this machine and is not there any more.

        A process that is merely frozen is alive.
        """
        if self.machine != _machine():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.create_time() != self.started_at or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def _machine() -> str:
    """This machine since it booted, and this container in it: process ids mean something only there."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{socket.gethostname()}:{boot.read_text().strip()}:{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return f"{socket.gethostname()}:{psutil.boot_time():.0f}"


class Leadership:
    """The lease of one client. Order: `acquire`, then `keep` beside everything that needs it."""

    def __init__(
        self,
        table: LeaseTable,
        *,
        ttl_seconds: float,
        renew_seconds: float,
        holder: Holder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._ttl_seconds = ttl_seconds
        self._renew_seconds = renew_seconds
        self._holder = holder or Holder.present()
        self._clock = clock
        self._ends_at = clock()
        self.epoch: int | None = None

    async def acquire(self) -> int:
        """Wait until this process leads; the epoch. Raises: PipelineError, when the database fails."""
        while True:
            before = await self._table.holder()
            former = Holder.named(before) if before is not None else None
            dead = [former.text()] if former is not None and former.is_dead() else []
            asked_at = self._clock()
            epoch = await self._table.acquire(self._holder.text(), self._ttl_seconds, dead)
            if epoch is not None:
                self.epoch = epoch
                self._ends_at = asked_at + self._ttl_seconds
                log.info("leading", extra={"epoch": epoch})
                return epoch
            await asyncio.sleep(_STANDBY_SECONDS)

    async def keep(self) -> None:
        """Renew, for ever. Raises: Fenced, when another leads or the lease ran out without an answer."""
        epoch = self.epoch
        assert epoch is not None, "acquire first"
        while True:
            await asyncio.sleep(self._renew_seconds)
            asked_at = self._clock()
            try:
                async with asyncio.timeout(max(0.1, self._ends_at - asked_at)):
                    renewed = await self._table.renew(epoch, self._ttl_seconds)
            except (PipelineError, TimeoutError) as failure:
                if self._clock() >= self._ends_at:
                    raise Fenced("the lease ran out, and the database did not renew it; nothing was lost") from failure
                log.warning("lease not renewed yet", extra={"error": type(failure).__name__})
                continue
            if not renewed:
                raise Fenced("another worker leads; this one stops, and the new leader takes over what it left")
            self._ends_at = asked_at + self._ttl_seconds

    async def release(self) -> None:
        """Let another lead at once. Order: after everything has stopped."""
        if self.epoch is not None and self._clock() < self._ends_at:
            await self._table.release(self.epoch)
        self.epoch = None

    def seconds_allowed(self, at_most: float) -> float:
        """How long a request that starts now may take. Raises: Fenced, when the lease does not last for one."""
        left = self._ends_at - self._clock() - _MARGIN_SECONDS
        if left <= 0:
            raise Fenced("the lease ends before a request could; nothing was sent")
        return min(at_most, left)
