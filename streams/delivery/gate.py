"""Whether Inxmail may be asked at the moment. Closed after failures, longer each time; nothing is dropped meanwhile.

A circuit breaker, one for a client: a few failures in a row only slow it down; after `FAILURES` it *opens*, and from
then on one request at a time is let through, after longer and longer pauses, until one is answered. What waits, waits
in Kafka and in the tables.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, TypeVar

from schemas.errors import Disposition, MalformedInput, Misconfigured, PipelineError, Refused, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

FAILURES: Final = 5
"""So many in a row, and it is taken for down."""
_FIRST_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 60.0
"""How long a client is paused that refuses our credentials, before it is tried again."""
_PROBE_SECONDS: Final = 30.0
"""How long the one request that tries again may take to tell, before another may try."""


class Circuit(StrEnum):
    """How Inxmail is asked."""

    CLOSED = "closed"
    """Freely: it answers."""
    OPEN = "open"
    """Not at all, for a while: it does not answer."""
    HALF_OPEN = "half_open"
    """By one request, to see whether it answers again."""
    PAUSED = "paused"
    """By one request from time to time: it refuses us as a whole."""


def backoff_seconds(failures: int, *, draw: float, asked_for: float | None = None) -> float:
    """Seconds to wait after that many failures in a row (from 1): full jitter, and never less than was asked for.

    `draw` is uniform on [0, 1).
    """
    longest = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return max(asked_for or 0.0, longest * draw)


class Gate:
    """In front of everything that asks Inxmail, beside the pace: one for a client.

    Whoever has passed says how it went, by `succeeded` or `failed`. An answer that refuses something is a success.
    """

    def __init__(
        self,
        *,
        pause_seconds: float = PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._draw = draw
        self._failures = 0
        self._opens_at = clock()
        self._open_since: float | None = None
        self._probe_since: float | None = None
        self._changed = asyncio.Event()
        self.paused_because: str | None = None
        """Why the client is paused: it refuses us as a whole."""
        self.last_failure: str | None = None
        self.failures: Counter[str] = Counter()
        """Failures since start, by the name of their class."""

    @property
    def circuit(self) -> Circuit:
        """How Inxmail is asked now."""
        if self.paused_because is not None:
            return Circuit.PAUSED
        if self._open_since is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self._clock() < self._opens_at else Circuit.HALF_OPEN

    async def passage(self) -> None:
        """Return when Inxmail may be asked. While it is down, that is when it is this one's turn to try."""
        while (wait := self._wait_seconds()) > 0:
            await self._change(wait)
        if self.circuit is not Circuit.CLOSED:
            self._probe_since = self._clock()

    async def sight(self) -> None:
        """Return when somebody may ask Inxmail, without taking the turn to try."""
        while (wait := self._opens_at - self._clock()) > 0:
            await self._change(wait)

    async def _change(self, seconds: float) -> None:
        """Wait until something changes, at most that long."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _wait_seconds(self) -> float:
        now = self._clock()
        if now < self._opens_at or self._probe_since is None:
            return self._opens_at - now
        return self._probe_since + _PROBE_SECONDS - now

    def succeeded(self) -> None:
        """Inxmail did what it was asked, or said why not."""
        if self._open_since is not None:
            facts = {"seconds": round(self._clock() - self._open_since, 1), "attempts": self._failures}
            log.info("client resumed" if self.paused_because is not None else "Inxmail answers again", extra=facts)
            self._opens_at = self._clock()
            self._open_since = self._probe_since = None
        self._failures = 0
        self.last_failure = self.paused_because = None
        self._changed.set()

    def failed(self, failure: PipelineError) -> None:
        """Close for a while. Raises: the failure itself, when nothing of ours may go on (Fenced)."""
        if failure.disposition is Disposition.HALT and not isinstance(failure, Misconfigured):
            raise failure
        now = self._clock()
        self.failures[type(failure).__name__] += 1
        self.last_failure = str(failure)
        if self._open_since is None or self._probe_since is not None:
            self._failures += 1  # else it was sent before: it tells nothing new
        self._probe_since = None
        if isinstance(failure, Misconfigured):
            seconds = self._pause_seconds
            if self.paused_because is None:
                log.error("client paused", extra={"reason": str(failure), "retry_seconds": seconds})
            self.paused_because = str(failure)
            self._open_since = now if self._open_since is None else self._open_since
        else:
            asked_for = failure.retry_after_seconds if isinstance(failure, Unavailable) else None
            seconds = backoff_seconds(self._failures, draw=self._draw(), asked_for=asked_for)
            if self._open_since is None and self._failures >= FAILURES:
                self._open_since = now
                log.warning(
                    "Inxmail does not answer; it is tried from time to time, and nothing is dropped",
                    extra={"error": type(failure).__name__, "reason": str(failure), "failures": self._failures},
                )
        self._opens_at = max(self._opens_at, now + seconds)
        self._changed.set()

    async def insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which may be repeated without harm, however long Inxmail takes to do it.

        Raises: Refused and MalformedInput, which no repetition changes; Fenced.
        """
        while True:
            await self.passage()
            try:
                result = await work()
            except (Refused, MalformedInput):
                self.succeeded()
                raise
            except PipelineError as failure:
                self.failed(failure)
            else:
                self.succeeded()
                return result
