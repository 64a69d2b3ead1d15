"""How fast Inxmail may be asked: one request budget for a client, shared by everything that asks.

`Budget` is arithmetic over an explicit time; `Pace` is the gate in front of every request.

Two things decide who goes. What is *kept*: every class has a share of each window that the others leave alone until it
is used up; as the window goes on, what is kept and not asked for shrinks with it, so that none is wasted. And *whose
turn* it is among those that wait and may go: the one that had the least, measured by its weight; one that comes after a
silence goes first.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Final, NamedTuple

from schemas.errors import Unavailable

_WINDOW_SECONDS: Final = 60.0
_MARGIN_SECONDS: Final = 1.0
"""The far side tells its window's end in whole seconds: being early costs a refusal, being late a second."""
_ENOUGH_FOR_A_LAST: Final = 20
"""From this many requests in a window on, one is kept for opt-outs, and one for the logs, until its end."""
_MOST_FOR_LOGS: Final = 0.4
_NEWEST: Final = 0.2
"""The weight of the newest request in the measured mean of their times."""


class Urgency(IntEnum):
    """Who goes first."""

    PRIORITY = 0
    """A person's wish to leave, or that nothing more be sent."""
    LOGS = 1
    """What people said must be heard before anything more is sent."""
    NORMAL = 2
    BULK = 3
    STATISTICS = 4
    """Whatever can wait."""


SHARES: Final[Mapping[Urgency, float]] = {
    Urgency.PRIORITY: 0.15,
    Urgency.LOGS: 0.1,
    Urgency.NORMAL: 0.2,
    Urgency.BULK: 0.1,
    Urgency.STATISTICS: 0.02,
}
"""The part of a window that is kept for each class."""
_WEIGHTS: Final[Mapping[Urgency, int]] = {
    Urgency.PRIORITY: 256,
    Urgency.LOGS: 64,
    Urgency.NORMAL: 16,
    Urgency.BULK: 4,
    Urgency.STATISTICS: 1,
}
"""How many requests each class makes in the time in which another makes its own number, while both wait."""


class Budget:
    """Requests left in the present window, by our own count and by the far side's rate headers.

    limit: requests of ours in a minute; the far side's smaller one wins. shares: what is kept for each class.
    All times are seconds of one monotonic clock.
    """

    def __init__(self, limit: int, now: float, shares: Mapping[Urgency, float] = SHARES) -> None:
        self._own = self._limit = limit
        self._shares = shares
        self._told = False
        self._blocked_until = now
        self._open(now, now + _WINDOW_SECONDS, limit)

    def _open(self, now: float, ends: float, left: int) -> None:
        self._began, self._ends = now, ends
        self._granted = self._left = left
        self._kept = {urgency: self._most_kept(urgency, 1.0) for urgency in Urgency}

    def wait_seconds(self, now: float, urgency: Urgency) -> float:
        """Seconds until a request of that class may go; 0: now."""
        self._roll(now)
        if now < self._blocked_until:
            return self._blocked_until - now
        if self._left < 1:
            return self._ends - now
        if self._left - self._kept_from(urgency, now) >= 1:
            return 0.0
        early, late = now, self._spread_until
        if late <= early or self._left - self._kept_from(urgency, late) < 1:
            return self._ends - now
        for _ in range(30):  # what is kept from it only shrinks: when does it suffice?
            middle = (early + late) / 2
            early, late = (early, middle) if self._left - self._kept_from(urgency, middle) >= 1 else (middle, late)
        return late - now

    def spend(self, now: float, urgency: Urgency) -> None:
        """A request goes."""
        self._roll(now)
        self._left -= 1
        self._kept[urgency] = max(0.0, self._kept_for(urgency, now) - 1)

    def left(self, now: float, urgency: Urgency) -> int:
        """Requests of that class that may go in this window without touching what is kept for the others."""
        self._roll(now)
        return max(0, int(self._left - self._kept_from(urgency, now)))

    @property
    def limit(self) -> int:
        """Requests of a whole window."""
        return self._limit

    def seconds_left(self, now: float) -> float:
        """Until the next window, as far as is known."""
        return max(0.0, max(self._ends, self._blocked_until) - now)

    def heard(
        self, now: float, limit: int, remaining: int, reset_seconds: float, *, sent_at: float, others: int = 0
    ) -> None:
        """The rate headers of the answer to a request that was sent at `sent_at`.

        They describe some moment between the two. `others`: requests under way that they may not count yet.
        """
        self._roll(now)
        earliest, latest = sent_at + reset_seconds - _MARGIN_SECONDS, now + reset_seconds + _MARGIN_SECONDS
        if self._told and latest < self._spread_until:
            return  # a late answer about the window before
        self._limit = min(self._own, limit)
        if self._told and earliest > self._ends:
            self._open(now, latest, min(self._limit, remaining) - others)
        elif not self._told:
            self._open(now, latest, min(self._left, self._limit, remaining))
            self._told = True
        else:
            self._ends = min(self._ends, latest)
            if remaining < self._left:  # somebody else asks with our credentials
                self._left = remaining - others

    def refused(self, now: float, wait_seconds: float | None, draw: float) -> None:
        """The far side said 429. `draw` is uniform on [0, 1): the jitter."""
        wait = wait_seconds if wait_seconds is not None else max(1.0, self._ends - now)
        self._blocked_until = max(self._blocked_until, now + wait + draw)
        self._told = False

    @property
    def _spread_until(self) -> float:
        return self._ends - _MARGIN_SECONDS

    def _most_kept(self, urgency: Urgency, rest: float) -> float:
        last = urgency <= Urgency.LOGS and self._granted >= _ENOUGH_FOR_A_LAST
        return max(float(last), self._shares[urgency] * self._granted * rest)

    def _kept_for(self, urgency: Urgency, now: float) -> float:
        length = self._spread_until - self._began
        rest = min(1.0, max(0.0, self._spread_until - now) / length) if length > 0 else 0.0
        return min(self._kept[urgency], self._most_kept(urgency, rest))

    def _kept_from(self, urgency: Urgency, now: float) -> float:
        return sum(self._kept_for(other, now) for other in Urgency if other is not urgency)

    def _roll(self, now: float) -> None:
        if now >= self._ends:
            self._told = False
            self._open(now, now + _WINDOW_SECONDS, self._limit)


class Figures(NamedTuple):
    """How the budget stands.

    left: requests that NORMAL may make. sent: requests of each class since start; too_many: answers 429 among them.
    """

    left: int
    limit: int
    seconds_left: float
    in_flight: int
    waiting: Mapping[Urgency, int]
    sent: Mapping[Urgency, int]
    too_many: int


class Turn:
    """A request's turn, from when it goes to when it has ended."""

    def __init__(self, pace: "Pace", sent_at: float) -> None:
        self._pace = pace
        self._sent_at = sent_at

    def heard(self, limit: int, remaining: int, reset_seconds: float) -> None:
        """The rate headers of its answer."""
        self._pace.heard(limit, remaining, reset_seconds, sent_at=self._sent_at)


class Pace:
    """Lets requests through: at most `max_in_flight` at once, none above the budget.

    Where there is room for two or more, one place is kept for those who leave and for the logs, so that slow deliveries
    cannot hide an opt-out; and none of these two takes it from the other. A place more is kept from BULK.
    logs_per_minute: how often the logs ask.
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
        logs = min(_MOST_FOR_LOGS, max(SHARES[Urgency.LOGS], logs_per_minute / requests_per_minute))
        self._budget = Budget(requests_per_minute, clock(), {**SHARES, Urgency.LOGS: logs})
        most = max_in_flight
        self._together = dict.fromkeys(Urgency, max(1, most - 1)) | {Urgency.PRIORITY: most, Urgency.LOGS: most}
        self._each = {
            Urgency.PRIORITY: max(1, most - 1),
            Urgency.LOGS: most,
            Urgency.NORMAL: max(1, most - 1),
            Urgency.BULK: max(1, most - 2),
            Urgency.STATISTICS: 1,
        }
        self._in_flight = dict.fromkeys(Urgency, 0)
        self._sent = dict.fromkeys(Urgency, 0)
        self._too_many = 0
        self._waiting: dict[Urgency, deque[asyncio.Future[None]]] = {urgency: deque() for urgency in Urgency}
        self._had = dict.fromkeys(Urgency, 0.0)
        """Requests of each class by its weight; a class that was silent begins where the others are."""
        self._reached = 0.0
        self._seconds: dict[Urgency, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncIterator[Turn]:
        """Wait for a turn and hold a place until the request has ended."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._waiting[urgency]:
            self._had[urgency] = max(self._had[urgency], self._reached)
        self._waiting[urgency].append(turn)
        self._let_through()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._end(urgency)
            raise
        began = self._clock()
        try:
            yield Turn(self, began)
        finally:
            self._measure(urgency, self._clock() - began)
            self._end(urgency)

    def seconds_of(self, urgency: Urgency, otherwise: float) -> float:
        """How long a request of that class takes, measured over the last ones; `otherwise` before there was one."""
        return self._seconds.get(urgency, otherwise)

    def left(self, urgency: Urgency) -> int:
        """Requests that a class may make now without touching what is kept for the others."""
        return self._budget.left(self._clock(), urgency)

    def figures(self) -> Figures:
        """How the budget stands now."""
        now = self._clock()
        return Figures(
            left=self._budget.left(now, Urgency.NORMAL),
            limit=self._budget.limit,
            seconds_left=self._budget.seconds_left(now),
            in_flight=sum(self._in_flight.values()),
            waiting={urgency: sum(not turn.cancelled() for turn in self._waiting[urgency]) for urgency in Urgency},
            sent=dict(self._sent),
            too_many=self._too_many,
        )

    def heard(self, limit: int, remaining: int, reset_seconds: float, *, sent_at: float) -> None:
        """The rate headers of the answer to a request that was sent at `sent_at`."""
        others = max(0, sum(self._in_flight.values()) - 1)
        self._budget.heard(self._clock(), limit, remaining, reset_seconds, sent_at=sent_at, others=others)
        self._let_through()

    def refused(self, failure: Unavailable) -> None:
        """The far side said that it were too many."""
        self._too_many += 1
        self._budget.refused(self._clock(), failure.retry_after_seconds, self._draw())

    def _measure(self, urgency: Urgency, seconds: float) -> None:
        known = self._seconds.get(urgency, seconds)
        self._seconds[urgency] = known + _NEWEST * (seconds - known)

    def _end(self, urgency: Urgency) -> None:
        self._in_flight[urgency] -= 1
        self._let_through()

    def _waiting_with_a_place(self) -> list[Urgency]:
        """Those whose turn it may be, the next first."""
        in_flight = sum(self._in_flight.values())
        found = []
        for urgency, turns in self._waiting.items():
            while turns and turns[0].cancelled():
                turns.popleft()
            if turns and in_flight < self._together[urgency] and self._in_flight[urgency] < self._each[urgency]:
                found.append(urgency)
        return sorted(found, key=lambda urgency: (self._had[urgency], urgency))

    def _let_through(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while waiting := self._waiting_with_a_place():
            now = self._clock()
            waits = {urgency: self._budget.wait_seconds(now, urgency) for urgency in waiting}
            urgency = next((each for each in waiting if waits[each] <= 0), None)
            if urgency is None:
                self._timer = asyncio.get_running_loop().call_later(min(waits.values()), self._let_through)
                return
            self._budget.spend(now, urgency)
            self._reached = max(self._reached, self._had[urgency])
            self._had[urgency] += 1 / _WEIGHTS[urgency]
            self._in_flight[urgency] += 1
            self._sent[urgency] += 1
            self._waiting[urgency].popleft().set_result(None)
