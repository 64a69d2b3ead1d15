"""Which mailboxes are to be looked at next. Pure.

The tables say durably what is unfinished; this only says in what order, and keeps a mailbox from being planned while
a call for it is under way. It is filled from the tables at start and again by every sweep.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from schemas.mutations import Lane

_RANK = {lane: rank for rank, lane in enumerate(Lane)}


def is_at_least(lane: Lane, other: Lane) -> bool:
    """Whether `lane` is the other one or goes before it."""
    return _RANK[lane] <= _RANK[other]


_Queues = dict[Lane, dict[str, None]]


def _queues() -> _Queues:
    return {lane: {} for lane in Lane}


class Agenda:
    """Mailboxes by lane, in each in the order of their arrival, each once. What stands in two lanes is in the better.

    Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._pending = _queues()
        self._in_hand: dict[str, tuple[int, Lane]] = {}
        self._hands: Counter[Lane] = Counter()
        self._waiting: dict[int, _Queues] = {}
        self._later: list[tuple[float, int, Lane, Sequence[str]]] = []
        self._sequence = count()

    def add(self, mailboxes: Iterable[str], lane: Lane = Lane.NORMAL) -> None:
        """Look at these. One that is in hand comes up when it is put down."""
        better = [self._pending[each] for each in Lane if _RANK[each] < _RANK[lane]]
        worse = [self._pending[each] for each in Lane if _RANK[each] > _RANK[lane]]
        queue = self._pending[lane]
        for mailbox in mailboxes:
            if not any(mailbox in each for each in better):
                queue[mailbox] = None
                for each in worse:
                    each.pop(mailbox, None)

    def add_at(self, time: float, mailboxes: Sequence[str], lane: Lane) -> None:
        """Look at these when that time has come."""
        if mailboxes:
            heapq.heappush(self._later, (time, next(self._sequence), lane, mailboxes))

    def awake(self, now: float) -> None:
        """Those whose time has come are to be looked at."""
        while self._later and self._later[0][0] <= now:
            _, _, lane, mailboxes = heapq.heappop(self._later)
            self.add(mailboxes, lane)

    @property
    def next_time(self) -> float | None:
        """When the next ones are to be looked at."""
        return self._later[0][0] if self._later else None

    def take(self, most: int) -> tuple[Lane, list[str]]:
        """The next mailboxes of the best lane that has any that are not in hand; they are off the agenda then."""
        for lane, queue in self._pending.items():
            taken: list[str] = []
            for mailbox in queue:
                if mailbox not in self._in_hand:
                    taken.append(mailbox)
                    if len(taken) == most:
                        break
            for mailbox in taken:
                del queue[mailbox]
            if taken:
                return lane, taken
        return Lane.BULK, []

    def hold(self, mailbox: str, lane: Lane = Lane.NORMAL) -> None:
        """A call for it begins."""
        calls, before = self._in_hand.get(mailbox, (0, lane))
        best = min(before, lane, key=_RANK.__getitem__)
        if calls:
            self._hands[before] -= 1
        self._hands[best] += 1
        self._in_hand[mailbox] = calls + 1, best

    def put_down(self, mailbox: str) -> None:
        """A call for it ended. When it was the last one, the mailbox is looked at again."""
        if (lane := self._loosen(mailbox)) is not None:
            self.add((mailbox,), lane)

    def let_go(self, mailbox: str) -> None:
        """The call is written down where it keeps the mailbox by itself: no need to look again before it ends."""
        self._loosen(mailbox)

    def _loosen(self, mailbox: str) -> Lane | None:
        """One call less; its lane when that was the last one."""
        calls, lane = self._in_hand.pop(mailbox, (1, None))
        if lane is None:
            return Lane.NORMAL
        if calls > 1:
            self._in_hand[mailbox] = calls - 1, lane
            return None
        self._hands[lane] -= 1
        return lane

    def wait_for_list(self, list_id: int, mailboxes: Iterable[str], lane: Lane = Lane.NORMAL) -> None:
        """Nothing can be done for these before there is room in an import for that list."""
        self._waiting.setdefault(list_id, _queues())[lane].update(dict.fromkeys(mailboxes))

    def release(self, has_room: Callable[[int], bool], most: int) -> None:
        """Look at so many of those that wait for a list that has room now."""
        for list_id in [each for each in self._waiting if has_room(each)]:
            queues, left = self._waiting[list_id], most
            for lane, queue in queues.items():
                for mailbox in list(queue)[:left] if left < len(queue) else list(queue):
                    del queue[mailbox]
                    self.add((mailbox,), lane)
                    left -= 1
            if not any(queues.values()):
                del self._waiting[list_id]

    @property
    def has_pending(self) -> bool:
        """Whether `take` would give anything."""
        return any(mailbox not in self._in_hand for queue in self._pending.values() for mailbox in queue)

    def count(self, lane: Lane) -> int:
        """How many stand in that lane or a better one, at most: one that is looked at twice counts twice."""
        counted = sum(len(mailboxes) for _, _, each, mailboxes in self._later if is_at_least(each, lane))
        for each in Lane:
            if is_at_least(each, lane):
                waiting = sum(len(queues[each]) for queues in self._waiting.values())
                counted += len(self._pending[each]) + self._hands[each] + waiting
        return counted

    def __len__(self) -> int:
        return self.count(Lane.BULK)
