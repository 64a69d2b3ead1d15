"""Append-only logs with a write buffer: an event happens now and is readable later."""

import heapq
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise
from typing import Generic, Protocol, TypeVar

import msgspec


class Numbered(Protocol):
    """What a log holds: its id is 0 until the log gives it one."""

    id: int


E = TypeVar("E", bound=Numbered)


class Event(msgspec.Struct, gc=False):
    """One line of a log. `occurred_at` is the true time; the id follows visibility (or creation, by option)."""

    type: str
    list_id: int
    recipient_id: int | None
    email: str | None
    occurred_at: float
    permission: str | None = None
    id: int = 0


def _id(event: Numbered) -> int:
    return event.id


class _Run(msgspec.Struct, Generic[E]):
    """Events written together, in the order in which they become readable; `position` is the first still hidden."""

    visible_at: Sequence[float]
    events: Sequence[E]
    position: int = 0


class EventLog(Generic[E]):
    """Events in ascending id.

    Two events may become readable in another order than they happened: whoever continues from the newest timestamp
    loses one, whoever continues from the last id does not.
    """

    def __init__(self, ids: Iterator[int] | None = None) -> None:
        """`ids`: where the ids come from, when several logs share them."""
        self._events: list[E] = []
        self._buffer: list[tuple[float, int, _Run[E]]] = []
        self._sequence = count(1)
        self._ids = ids or count(1)
        self._buffered = 0

    def write(self, events: Sequence[E], visible_at: Sequence[float], *, id_at_creation: bool = False) -> None:
        """Put events into the buffer, each with the time from which it is readable.

        `id_at_creation`: an event may then appear behind a reader who has passed its id. An event given twice is
        readable twice under one id.
        """
        if not events:
            return
        if id_at_creation:
            self._number(events)
        if any(earlier > later for earlier, later in pairwise(visible_at)):
            order = sorted(range(len(events)), key=visible_at.__getitem__)
            events, visible_at = [events[i] for i in order], [visible_at[i] for i in order]
        self._buffered += len(events)
        heapq.heappush(self._buffer, (visible_at[0], next(self._sequence), _Run(visible_at, events)))

    def settle(self, now: float) -> None:
        """Make readable what is due."""
        while self._buffer and self._buffer[0][0] <= now:
            _, sequence, run = heapq.heappop(self._buffer)
            until = min(now, self._buffer[0][0]) if self._buffer else now
            end = bisect_right(run.visible_at, until, lo=run.position)
            self._publish(run.events[run.position : end])
            run.position = end
            if end < len(run.events):
                heapq.heappush(self._buffer, (run.visible_at[end], sequence, run))

    def release(self, chosen: Callable[[E], bool]) -> int:
        """Make readable at once what lies in the buffer and is chosen; how many that were."""
        due: list[E] = []
        buffer, self._buffer = self._buffer, []
        for _, sequence, run in sorted(buffer, key=lambda entry: entry[:2]):
            kept_events, kept_times = [], []
            for event, at in zip(run.events[run.position :], run.visible_at[run.position :], strict=True):
                if chosen(event):
                    due.append(event)
                else:
                    kept_events.append(event)
                    kept_times.append(at)
            if kept_events:
                heapq.heappush(self._buffer, (kept_times[0], sequence, _Run(kept_times, kept_events)))
        self._publish(due)
        return len(due)

    def after(self, id_: int) -> Iterator[E]:
        for index in range(bisect_right(self._events, id_, key=_id), len(self._events)):
            yield self._events[index]

    @property
    def last_id(self) -> int:
        """The highest readable id, 0 when the log is empty."""
        return self._events[-1].id if self._events else 0

    @property
    def buffered(self) -> int:
        return self._buffered

    def __len__(self) -> int:
        return len(self._events)

    def _publish(self, due: Sequence[E]) -> None:
        self._buffered -= len(due)
        self._number(due)
        for index, event in enumerate(due):
            if self._events and event.id < self._events[-1].id:  # it comes behind what is already readable
                self._insert(due[index:])
                return
            self._events.append(event)

    def _insert(self, due: Sequence[E]) -> None:
        if len(due) < 100:
            for event in due:
                insort(self._events, event, key=_id)
        else:  # sorting two ordered runs costs less than moving the tail once for each event
            self._events.extend(due)
            self._events.sort(key=_id)

    def _number(self, events: Sequence[E]) -> None:
        for event in events:
            if not event.id:
                event.id = next(self._ids)
