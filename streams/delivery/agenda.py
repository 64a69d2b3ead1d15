"""Which mailboxes are to be looked at next. Pure.

The tables say durably what is unfinished; this only says in what order, and keeps a mailbox from being planned while
a call for it is under way. It is filled from the tables at start and again by every sweep.
"""

from collections.abc import Iterable


class Agenda:
    """Mailboxes in the order of their arrival, each once."""

    def __init__(self) -> None:
        self._pending: dict[str, None] = {}
        self._in_hand: dict[str, int] = {}
        self._waiting: dict[int, set[str]] = {}

    def add(self, mailboxes: Iterable[str]) -> None:
        """Look at these. One that is in hand comes up when it is put down."""
        self._pending.update(dict.fromkeys(mailboxes))

    def take(self, most: int) -> list[str]:
        """The next mailboxes that are not in hand; they are off the agenda then."""
        taken: list[str] = []
        for mailbox in self._pending:
            if mailbox not in self._in_hand:
                taken.append(mailbox)
                if len(taken) == most:
                    break
        for mailbox in taken:
            del self._pending[mailbox]
        return taken

    def hold(self, mailbox: str) -> None:
        """A call for it begins."""
        self._in_hand[mailbox] = self._in_hand.get(mailbox, 0) + 1

    def put_down(self, mailbox: str) -> None:
        """A call for it ended. When it was the last one, the mailbox is looked at again."""
        left = self._in_hand.pop(mailbox, 1) - 1
        if left > 0:
            self._in_hand[mailbox] = left
        else:
            self._pending[mailbox] = None

    def let_go(self, mailbox: str) -> None:
        """The call is written down where it keeps the mailbox by itself: no need to look again before it ends."""
        left = self._in_hand.pop(mailbox, 1) - 1
        if left > 0:
            self._in_hand[mailbox] = left

    def wait_for_list(self, list_id: int, mailboxes: Iterable[str]) -> None:
        """Nothing can be done for these before the import under way for that list has ended."""
        self._waiting.setdefault(list_id, set()).update(mailboxes)

    def list_is_free(self, list_id: int) -> None:
        """The import has ended."""
        self.add(sorted(self._waiting.pop(list_id, ())))

    def every_list_is_free(self) -> None:
        """What kept subscriptions back altogether is over."""
        for list_id in list(self._waiting):
            self.list_is_free(list_id)

    @property
    def has_pending(self) -> bool:
        """Whether `take` would give anything."""
        return any(mailbox not in self._in_hand for mailbox in self._pending)

    def __len__(self) -> int:
        return len(self._pending) + sum(len(waiting) for waiting in self._waiting.values())
