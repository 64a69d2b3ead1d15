"""Ids in ascending order: what keyset paging walks on."""

from collections.abc import Iterator
from typing import Any

from sortedcontainers import SortedList


class Keyset:
    """Add, remove and walk from any id in O(log n)."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: Any = SortedList()

    def add(self, id_: int) -> None:
        self._ids.add(id_)

    def remove(self, id_: int) -> None:
        """Raises: ValueError, when the id is not there: the caller's book-keeping is wrong."""
        self._ids.remove(id_)

    def after(self, id_: int) -> Iterator[int]:
        ids: Iterator[int] = self._ids.irange(minimum=id_, inclusive=(False, True))
        return ids

    def descending(self) -> Iterator[int]:
        ids: Iterator[int] = reversed(self._ids)
        return ids

    def copy(self) -> list[int]:
        return list(self._ids)

    @property
    def last(self) -> int:
        """The highest id, 0 when there is none."""
        return self._ids[-1] if self._ids else 0

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id_: int) -> bool:
        return id_ in self._ids
