"""Whether Inxmail may be asked at the moment. Closed after failures, longer each time; nothing is dropped meanwhile."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from schemas.errors import Disposition, MalformedInput, Misconfigured, PipelineError, Refused, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 60.0
"""How long a client is paused that refuses our credentials, before it is tried again."""


def backoff_seconds(failures: int, *, draw: float, asked_for: float | None = None) -> float:
    """Seconds to wait after that many failures in a row (from 1): full jitter, and never less than was asked for.

    `draw` is uniform on [0, 1).
    """
    longest = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return max(asked_for or 0.0, longest * draw)


class Gate:
    """In front of everything that asks Inxmail, beside the pace: one for a client."""

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
        self.paused_because: str | None = None
        """Why the client is paused: it refuses us as a whole."""
        self.last_failure: str | None = None

    async def passage(self) -> None:
        """Return when Inxmail may be asked."""
        while (wait := self._opens_at - self._clock()) > 0:  # noqa: ASYNC110  it may be closed for longer meanwhile
            await asyncio.sleep(wait)

    def succeeded(self) -> None:
        """Inxmail did what it was asked."""
        self._failures = 0
        self.last_failure = None
        if self.paused_because is not None:
            log.info("client resumed")
            self.paused_because = None

    def failed(self, failure: PipelineError) -> None:
        """Close for a while. Raises: the failure itself, when nothing of ours may go on (Fenced)."""
        if failure.disposition is Disposition.HALT and not isinstance(failure, Misconfigured):
            raise failure
        self._failures += 1
        self.last_failure = str(failure)
        if isinstance(failure, Misconfigured):
            seconds = self._pause_seconds
            if self.paused_because is None:
                log.error("client paused", extra={"reason": str(failure), "retry_seconds": seconds})
            self.paused_because = str(failure)
        else:
            asked_for = failure.retry_after_seconds if isinstance(failure, Unavailable) else None
            seconds = backoff_seconds(self._failures, draw=self._draw(), asked_for=asked_for)
            log.warning(
                "Inxmail postponed",
                extra={"error": type(failure).__name__, "reason": str(failure), "delay_seconds": round(seconds, 2)},
            )
        self._opens_at = max(self._opens_at, self._clock() + seconds)

    async def insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which may be repeated without harm, however long Inxmail takes to do it.

        Raises: Refused and MalformedInput, which no repetition changes; Fenced.
        """
        while True:
            await self.passage()
            try:
                result = await work()
            except (Refused, MalformedInput):
                raise
            except PipelineError as failure:
                self.failed(failure)
            else:
                self.succeeded()
                return result
