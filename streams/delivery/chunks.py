"""How many rows an import has: as many as the far side takes, and does within a time in which others may wait. Pure."""

from typing import Final

TARGET_SECONDS: Final = 10.0
"""How long an import should take at most: whoever is behind it, on the same list, waits for so long."""
MEASURED_ROWS: Final = 1000
"""Imports of so many rows tell how fast Inxmail imports; of smaller ones, most is waiting."""
_GROWTH: Final = 0.05
"""Where something was too large once; else it doubles."""
_NEAR: Final = 0.01
"""So near to what was too large it is left at that."""
_PATIENCE: Final = 30
"""After so many full imports that were taken, a little more than what was too large is tried again."""
_NEWEST: Final = 0.4
_FIRST_SECONDS: Final = 1.5
"""What a small import is taken to last before one was measured."""
_FIRST_RATE: Final = 1000.0


class ChunkSize:
    """The size of the next import file, learned from the last ones. most: rows, whatever Inxmail would take."""

    def __init__(self, most: int, target_seconds: float = TARGET_SECONDS) -> None:
        self._most = most
        self._target_seconds = target_seconds
        self._size = float(most)
        self._accepted = 0
        """The most rows that were taken since something was too large."""
        self._refused: float | None = None
        self._taken = 0
        self._rate: float | None = None
        self._overhead: float | None = None

    @property
    def rows(self) -> int:
        """Rows of the next file, at least 1."""
        in_time = self._most if self._rate is None else self._rate * self._target_seconds
        return max(1, int(min(self._size, self._most, in_time)))

    def too_large(self, rows: int) -> None:
        """The far side did not take a file of so many rows: half of it is tried, or what was taken before."""
        self._refused = min(float(rows), self._refused or rows)
        known = self._accepted if self._accepted < rows else 0
        self._size = max(1.0, rows // 2, known)
        self._accepted = known

    def failed(self, rows: int) -> None:
        """An import of so many rows came to nothing: with fewer, what is wrong with one keeps fewer others back."""
        self._size = max(1.0, rows // 2)

    def accepted(self, rows: int) -> None:
        """The far side took a file of so many rows. Full ones let it grow, slowly."""
        self._accepted = max(self._accepted, rows)
        if rows < int(self._size):
            return
        larger = 2 * self._size
        if self._refused is not None:
            self._taken += 1
            if self._taken % _PATIENCE == 0:
                self._refused *= 1 + _GROWTH
            gap = (self._refused - self._size) / 2
            larger = self._size + (min(gap, self._size * _GROWTH) if gap > self._size * _NEAR else 0.0)
        self._size = min(float(self._most), larger)

    @property
    def seconds_for_a_row(self) -> float:
        """Measured over large imports; 0 before there was one."""
        return 0.0 if self._rate is None else 1 / self._rate

    def took(self, rows: int, seconds: float) -> None:
        """An import of so many rows, all done after so many seconds."""
        if rows >= MEASURED_ROWS:
            self._rate = _mean(self._rate, rows / max(seconds, 0.001))
        else:
            self._overhead = _mean(self._overhead, seconds)

    def seconds_for(self, rows: int) -> float:
        """How long an import of so many rows will take, by what others took."""
        overhead = _FIRST_SECONDS if self._overhead is None else self._overhead
        return max(overhead, rows / (self._rate or _FIRST_RATE))


def _mean(known: float | None, newest: float) -> float:
    return newest if known is None else known + _NEWEST * (newest - known)
