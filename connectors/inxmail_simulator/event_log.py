"""Append-only logs with a write buffer: an event happens now and is readable later."""

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterator
from itertools import count

import msgspec


class Event(msgspec.Struct, gc=False):
    """One line of a log. `occurred_at` is the true time; the id follows visibility (or creation, by option)."""

    type: str
    list_id: int
    recipient_id: int | None
    email: str | None
    occurred_at: float
    permission: str | None = None
    id: int = 0


def _id(event: Event) -> int:
    return event.id


class EventLog:
    """Events in ascending id.

    Two events may become readable in another order than they happened: whoever continues from the newest timestamp
    loses one, whoever continues from the last id does not.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._buffer: list[tuple[float, int, Event]] = []
        self._sequence = count(1)
        self._next_id = 1

    def write(self, event: Event, *, visible_at: float, id_at_creation: bool = False) -> None:
        """Put an event into the buffer. `id_at_creation`: it may then appear behind a reader who has passed its id."""
        if id_at_creation:
            event.id = self._take_id()
        heapq.heappush(self._buffer, (visible_at, next(self._sequence), event))

    def settle(self, now: float) -> None:
        """Make readable what is due."""
        while self._buffer and self._buffer[0][0] <= now:
            _, _, event = heapq.heappop(self._buffer)
            if event.id:
                insort(self._events, event, key=_id)
            else:
                event.id = self._take_id()
                self._events.append(event)

    def after(self, id_: int) -> Iterator[Event]:
        for index in range(bisect_right(self._events, id_, key=_id), len(self._events)):
            yield self._events[index]

    @property
    def last_id(self) -> int:
        """The highest readable id, 0 when the log is empty."""
        return self._events[-1].id if self._events else 0

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def __len__(self) -> int:
        return len(self._events)

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1
