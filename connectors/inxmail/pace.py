"""How fast Inxmail may be asked: one request budget for a client, shared by reading its logs and by delivery.

`Budget` is arithmetic over an explicit time; `Pace` is the gate in front of every request.
"""

import asyncio
import heapq
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import count
from typing import Final

from schemas.errors import Unavailable

_WINDOW_SECONDS: Final = 60.0
_MARGIN_SECONDS: Final = 1.0
"""The far side tells its window's end in whole seconds: being early costs a refusal, being late a second."""
_NEW_WINDOW_SECONDS: Final = 2.0
"""An end told this much later than the one known belongs to a new window."""


class Urgency(IntEnum):
    """Who goes first. The event logs do: what people said must be heard before anything more is sent."""

    LOGS = 0
    DELIVERY = 1


class Budget:
    """Requests left in the present window, by our own count and by the far side's rate headers.

    limit: requests of ours in a minute; the far side's smaller one wins. logs_per_minute: kept back for the logs.
    All times are seconds of one monotonic clock.
    """

    def __init__(self, limit: int, logs_per_minute: float, now: float) -> None:
        self._own = self._limit = limit
        self._logs_per_minute = min(logs_per_minute, limit / 2)
        self._ends = now + _WINDOW_SECONDS
        self._left = limit
        self._told = False
        self._blocked_until = now
        self._next_delivery = now

    def wait_seconds(self, now: float, urgency: Urgency) -> float:
        """Seconds until a request of that urgency may go; 0: now."""
        self._roll(now)
        if now < self._blocked_until:
            return self._blocked_until - now
        left = self._left if urgency is Urgency.LOGS else self._left - self._reserve(now)
        if left <= 0:
            return self._ends - now
        return 0.0 if urgency is Urgency.LOGS else max(0.0, self._next_delivery - now)

    def spend(self, now: float, urgency: Urgency) -> None:
        """A request goes. Past half of the window's budget, deliveries are spread over what is left of it."""
        self._left -= 1
        if urgency is Urgency.DELIVERY and self._left < self._limit / 2:
            left = max(1, self._left - self._reserve(now))
            self._next_delivery = max(now, self._next_delivery) + max(0.0, self._ends - now) / left

    def heard(self, now: float, limit: int, remaining: int, reset_seconds: float) -> None:
        """The rate headers of an answer."""
        self._roll(now)
        ends = now + reset_seconds
        self._limit = min(self._own, limit)
        if not self._told or ends > self._ends + _NEW_WINDOW_SECONDS:
            self._ends, self._told = ends + _MARGIN_SECONDS, True
            self._left = min(self._limit, remaining)
            self._next_delivery = now
        self._left = min(self._left, remaining)

    def refused(self, now: float, wait_seconds: float | None, draw: float) -> None:
        """The far side said 429. `draw` is uniform on [0, 1): the jitter."""
        wait = wait_seconds if wait_seconds is not None else max(1.0, self._ends - now)
        self._blocked_until = max(self._blocked_until, now + wait + draw)

    def _reserve(self, now: float) -> int:
        return math.ceil(self._logs_per_minute * max(0.0, self._ends - now) / _WINDOW_SECONDS)

    def _roll(self, now: float) -> None:
        if now >= self._ends:
            self._ends, self._told = now + _WINDOW_SECONDS, False
            self._left, self._next_delivery = self._limit, now


class Pace:
    """Lets requests through: at most `max_in_flight` at once, logs first, none above the budget.

    When there is room for two or more, one place is kept for the logs, so that slow deliveries cannot hide an opt-out.
    """

    def __init__(
        self,
        requests_per_minute: int,
        max_in_flight: int,
        logs_per_minute: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._budget = Budget(requests_per_minute, logs_per_minute, clock())
        self._places = {Urgency.LOGS: max_in_flight, Urgency.DELIVERY: max(1, max_in_flight - 1)}
        self._in_flight = 0
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []
        self._sequence = count()
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncIterator[None]:
        """Wait for a turn and hold a place until the request has ended."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._sequence), turn))
        self._let_through()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._end()
            raise
        try:
            yield
        finally:
            self._end()

    def heard(self, limit: int, remaining: int, reset_seconds: float) -> None:
        """The rate headers of an answer."""
        self._budget.heard(self._clock(), limit, remaining, reset_seconds)

    def refused(self, failure: Unavailable) -> None:
        """The far side said that it were too many."""
        self._budget.refused(self._clock(), failure.retry_after_seconds, self._draw())

    def _end(self) -> None:
        self._in_flight -= 1
        self._let_through()

    def _let_through(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            urgency, _, turn = self._waiting[0]
            if turn.cancelled():
                heapq.heappop(self._waiting)
                continue
            if self._in_flight >= self._places[urgency]:
                return
            now = self._clock()
            wait = self._budget.wait_seconds(now, urgency)
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._let_through)
                return
            heapq.heappop(self._waiting)
            self._budget.spend(now, urgency)
            self._in_flight += 1
            turn.set_result(None)
