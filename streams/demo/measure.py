"""Latencies: what was begun when, when it was seen to have arrived, and what that comes to. Pure."""

from collections.abc import Sequence

import msgspec


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds. None, when nothing was measured."""

    p50: float | None
    p99: float | None


def latency(seconds: Sequence[float]) -> Latency:
    """The median and the 99th percentile of these times (nearest rank, so that each was really measured)."""
    ordered = sorted(seconds)
    return Latency(_rank(ordered, 50), _rank(ordered, 99))


def _rank(ordered: Sequence[float], percent: int) -> float | None:
    if not ordered:
        return None
    place = -(-len(ordered) * percent // 100)  # rounded up
    return round(ordered[max(place, 1) - 1] * 1000, 1)


class Race:
    """Things that were begun and have to arrive. Times are seconds on one clock."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def begin(self, name: str, at: float) -> None:
        """It set out at that time."""
        self._begun[name] = at

    def arrive(self, name: str, at: float) -> None:
        """It was seen to have arrived; the first time counts. A time before it set out counts as none."""
        if name in self._begun and name not in self._took:
            self._took[name] = max(0.0, at - self._begun[name])

    @property
    def under_way(self) -> set[str]:
        """What has not arrived yet."""
        return self._begun.keys() - self._took.keys()

    @property
    def took(self) -> list[float]:
        """Seconds of everything that arrived."""
        return list(self._took.values())

    @property
    def begun(self) -> int:
        """How many set out."""
        return len(self._begun)
