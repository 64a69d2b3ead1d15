"""Rows for imports, planned and not sent yet: gathered, because a large import costs what a small one does. Pure.

A row leaves this when its import begins, or when its mailbox is planned anew.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from schemas.delivery import NO_LIST, OpenRow
from schemas.mutations import Lane
from streams.delivery.agenda import is_at_least
from streams.delivery.columns import FEW, holding, widest
from streams.delivery.plan import Import

LONGEST_SECONDS: Final = 1.0
"""How long a row waits for others, while more of them are on their way and its list has no import under way."""
LONGEST_IN_BACKLOG_SECONDS: Final = 5.0
"""The same while so much is on its way that each of those rows waits for longer in any case."""
_BULK_AFTER_SECONDS: Final = 10.0
"""How much older bulk rows must be than others to go before them."""

_Key = tuple[Lane, int, bool, tuple[str, ...]]


@dataclass
class _Group:
    since: float
    rows: dict[str, OpenRow] = field(default_factory=dict)


class Gathering:
    """Rows by lane, list, manner and columns. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._groups: dict[_Key, _Group] = {}
        self._keys: dict[str, tuple[_Key, ...]] = {}

    def put(self, planned: Import, lane: Lane, now: float) -> None:
        """Keep these rows until `take`."""
        key = (lane, planned.list_id or NO_LIST, planned.resubscribe, planned.columns)
        group = self._groups.setdefault(key, _Group(now))
        for row in planned.rows:
            group.rows[row.mailbox] = row
            self._keys[row.mailbox] = (*self._keys.get(row.mailbox, ()), key)

    def drop(self, mailboxes: Iterable[str]) -> None:
        """These are planned anew: what was planned for them before is not sent."""
        for mailbox in mailboxes:
            for key in self._keys.pop(mailbox, ()):
                if (group := self._groups.get(key)) is not None:
                    group.rows.pop(mailbox, None)
                    if not group.rows:
                        del self._groups[key]

    def rows_for(self, list_id: int) -> int:
        """How many rows of this list (NO_LIST: of none) are kept."""
        return sum(len(group.rows) for key, group in self._groups.items() if key[1] == list_id)

    def take(
        self,
        most: int,
        now: float,
        *,
        busy: Container[int],
        has_more: bool,
        more_bulk: bool,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> tuple[Lane, Import] | None:
        """The next import that may begin: its list is not busy, and it is full, or nothing is to be waited for.

        has_more: rows that belong to it may be on their way. more_bulk: the same for the bulk lane alone.
        """
        ready = [
            (group.since + (_BULK_AFTER_SECONDS if key[0] is Lane.BULK else 0.0), key)
            for key, group in self._groups.items()
            if key[1] not in busy
            and (
                len(group.rows) >= most
                or now - group.since >= longest_seconds
                or not (has_more or (more_bulk and key[0] is Lane.BULK))
            )
        ]
        if not ready:
            return None
        _, key = min(ready, key=lambda found: found[0])
        return key[0], self._import(key, most, now)

    def _import(self, key: _Key, most: int, now: float) -> Import:
        lane, list_id, resubscribe, columns = key
        sets = {each[3]: len(group.rows) for each, group in self._groups.items() if each[:3] == key[:3]}
        from_sets = [columns]
        if len(sets) > FEW:
            columns = widest(sets, most, alone=int(list_id != NO_LIST))
            from_sets = holding(columns, sets)
        rows: list[OpenRow] = []
        for each in from_sets:
            taken = self._taken((lane, list_id, resubscribe, each), most - len(rows))
            rows += taken if each == columns else [_narrowed(row, columns) for row in taken]
        return Import(list_id or None, resubscribe, columns, tuple(rows))

    def _taken(self, key: _Key, most: int) -> list[OpenRow]:
        group = self._groups[key]
        rows = list(group.rows.values())[:most]
        for row in rows:
            del group.rows[row.mailbox]
            left = tuple(each for each in self._keys[row.mailbox] if each != key)
            if left:
                self._keys[row.mailbox] = left
            else:
                del self._keys[row.mailbox]
        if not group.rows:
            del self._groups[key]
        return rows

    def next_time(self, busy: Container[int], longest_seconds: float = LONGEST_SECONDS) -> float | None:
        """When rows have waited long enough for others, of a list that is not busy."""
        waiting = [group.since + longest_seconds for key, group in self._groups.items() if key[1] not in busy]
        return min(waiting, default=None)

    def count(self, lane: Lane) -> int:
        """How many rows of that lane or a better one are kept."""
        return sum(len(group.rows) for key, group in self._groups.items() if is_at_least(key[0], lane))


def _narrowed(row: OpenRow, columns: tuple[str, ...]) -> OpenRow:
    """The row with these columns alone: what is left is planned when the import has ended."""
    return msgspec.structs.replace(row, values={key: row.values[key] for key in columns}, answer=None)
