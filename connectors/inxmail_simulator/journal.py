"""Who was modified since when, without looking at everybody."""

from array import array
from bisect import bisect_left
from collections.abc import Callable


class Journal:
    """Ids in the order of their modification; an id noted again is found once."""

    def __init__(self) -> None:
        self._times = array("d")
        self._ids = array("q")

    def note(self, id_: int, at: float) -> None:
        """Times never decrease inside the journal, even when the clock is set back; readers check the true time."""
        self._times.append(max(at, self._times[-1]) if self._times else at)
        self._ids.append(id_)

    def since(self, at: float) -> set[int]:
        """A superset of the ids modified at or after that time, deleted ones included."""
        return set(self._ids[bisect_left(self._times, at) :])

    def compact(self, alive: Callable[[int], bool], below: int) -> None:
        """Keep only the newest note of each living id, once there are at least `below` notes."""
        if len(self._ids) < below:
            return
        newest: dict[int, float] = {}
        for id_, at in zip(self._ids, self._times, strict=True):
            if alive(id_):
                newest.pop(id_, None)
                newest[id_] = at
        self._ids, self._times = array("q", newest), array("d", newest.values())

    def __len__(self) -> int:
        return len(self._ids)
