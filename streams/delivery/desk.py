"""What every part of the client worker shares: one client's API, tables, outbox, agenda and gate."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from connectors.inxmail.client import InxmailClient
from connectors.inxmail.settings import InxmailSettings
from connectors.store.ledger import Ledger
from schemas.ids import KeyRing, MailboxRef, normalise_email
from schemas.mutations import Lane
from streams.delivery.agenda import Agenda
from streams.delivery.directory import Directory
from streams.delivery.gate import Gate
from streams.delivery.outbox import Outbox

log = logging.getLogger(__name__)


@dataclass
class Positions:
    """The last entry read of each log."""

    subscriptions: int = 0
    unsubscriptions: int = 0


@dataclass
class Desk:
    """One client under one epoch."""

    client: str
    settings: InxmailSettings
    skew: timedelta
    keys: KeyRing
    api: InxmailClient
    ledger: Ledger
    outbox: Outbox
    gate: Gate
    directory: Directory
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    agenda: Agenda = field(default_factory=Agenda)
    positions: Positions = field(default_factory=Positions)
    may_subscribe: bool = False
    """Whether the lanes that matter have reached their end at start, and the logs were drained by this leader."""
    has_backlog: Callable[[], bool] = lambda: False
    """Whether mutations are on their way that no lane has read yet."""
    fresh: dict[str, float] = field(default_factory=dict)
    """Mailbox → the instant, by the loop's clock, until which a new wish to subscribe it rests."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    overlooked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the tables are to be looked through for what is unfinished."""
    counts: list[Callable[[Lane], int]] = field(default_factory=list)
    """What else keeps mailboxes in memory, by lane."""
    _eased: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, mailboxes: Iterable[str], lane: Lane = Lane.NORMAL) -> None:
        """Plan these mailboxes."""
        self.agenda.add(mailboxes, lane)
        self.awake.set()

    def look_at(self, time: float, mailboxes: Sequence[str], lane: Lane) -> None:
        """Plan these mailboxes when that time (of the loop's clock) has come."""
        self.agenda.add_at(time, mailboxes, lane)
        self.awake.set()

    def put_down(self, mailbox: str) -> None:
        """A call for it ended: plan what is left."""
        self.agenda.put_down(mailbox)
        self.awake.set()

    def unfinished(self, lane: Lane = Lane.BULK) -> int:
        """How many mailboxes of that lane or a better one are kept in memory until something is done for them."""
        return self.agenda.count(lane) + sum(counted(lane) for counted in self.counts)

    def ease(self) -> None:
        """Something is done: there may be room for more."""
        self._eased.set()

    async def room(self, lane: Lane) -> None:
        """Return at once while there is room for more of that lane; else when half of what is in memory is done."""
        if self.unfinished(lane) <= self.settings.most_unfinished:
            return
        log.info("lane waits for what is unfinished", extra={"lane": lane, "unfinished": self.unfinished(lane)})
        while self.unfinished(lane) > self.settings.most_unfinished // 2:
            self._eased.clear()
            await self._eased.wait()

    def mailbox_of(self, address: str | None) -> tuple[MailboxRef, str] | None:
        """(mailbox ref, normalised address); None when it can be no address."""
        email = normalise_email(address or "")
        return None if email is None else (self.keys.mailbox_ref(self.client, email), email)
