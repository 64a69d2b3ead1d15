"""The simulator's time: it runs like the wall clock until someone sets, advances or freezes it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache


class Clock:
    """Seconds since the epoch, movable by the control API.

    Everything that waits inside the simulator (imports, write buffers, request windows) waits on this clock.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._offset_seconds = 0.0
        self._frozen_at: float | None = None

    def now(self) -> float:
        return self._source() + self._offset_seconds if self._frozen_at is None else self._frozen_at

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def set(self, at: float) -> None:
        if self._frozen_at is not None:
            self._frozen_at = at
        else:
            self._offset_seconds = at - self._source()

    def advance(self, seconds: float) -> None:
        self.set(self.now() + seconds)

    def freeze(self) -> None:
        self._frozen_at = self.now()

    def resume(self) -> None:
        at = self.now()
        self._frozen_at = None
        self.set(at)


@lru_cache(maxsize=8192)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def timestamp(at: float) -> str:
    """`2017-09-25T08:38:33Z`: UTC, whole seconds, as the API writes every date."""
    return _second(int(at))


def instant(text: str) -> float:
    """Read an API timestamp, with `Z` or an offset.

    Raises: ValueError, when it is no date or names no zone.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a timestamp needs a zone")
    return at.timestamp()
