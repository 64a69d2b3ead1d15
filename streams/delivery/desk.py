"""What every part of the client worker shares: one client's API, tables, outbox, agenda and gate."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from connectors.inxmail.client import InxmailClient
from connectors.inxmail.settings import InxmailSettings
from connectors.store.ledger import Ledger
from schemas.ids import KeyRing, MailboxRef, normalise_email
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
    """Whether the lane has reached the end it had at start, and the logs were drained by this leader."""
    fresh: dict[str, float] = field(default_factory=dict)
    """Mailbox → the instant, by the loop's clock, until which a new wish to subscribe it rests."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, mailboxes: Iterable[str]) -> None:
        """Plan these mailboxes."""
        self.agenda.add(mailboxes)
        self.awake.set()

    def put_down(self, mailbox: str) -> None:
        """A call for it ended: plan what is left."""
        self.agenda.put_down(mailbox)
        self.awake.set()

    def mailbox_of(self, address: str | None) -> tuple[MailboxRef, str] | None:
        """(mailbox ref, normalised address); None when it can be no address."""
        email = normalise_email(address or "")
        return None if email is None else (self.keys.mailbox_ref(self.client, email), email)
