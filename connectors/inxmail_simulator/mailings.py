"""Mailings, their sendings, and how people reacted: what an account knows beyond its recipients."""

from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from itertools import count

import msgspec

from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.event_log import EventLog


class MailingType(StrEnum):
    REGULAR_MAILING = "REGULAR_MAILING"
    ACTION_MAILING = "ACTION_MAILING"
    TIME_TRIGGER_MAILING = "TIME_TRIGGER_MAILING"
    SUBSCRIPTION_TRIGGER_MAILING = "SUBSCRIPTION_TRIGGER_MAILING"
    SPLIT_TEST_MAILING = "SPLIT_TEST_MAILING"


class ProtocolState(StrEnum):
    """What became of one mail of a sending."""

    NOT_SENT = "NOT_SENT"
    SENT = "SENT"
    RECIPIENT_NOT_FOUND = "RECIPIENT_NOT_FOUND"
    ERROR = "ERROR"
    ADDRESS_REJECTED = "ADDRESS_REJECTED"
    HARDBOUNCE = "HARDBOUNCE"
    SOFTBOUNCE = "SOFTBOUNCE"
    UNKNOWNBOUNCE = "UNKNOWNBOUNCE"
    SPAMBOUNCE = "SPAMBOUNCE"
    MUST_ATTRIBUTE = "MUST_ATTRIBUTE"
    NO_MAIL = "NO_MAIL"


class BounceCategory(StrEnum):
    HARD = "HARD"
    SOFT = "SOFT"
    UNKNOWN = "UNKNOWN"


BOUNCED = {
    BounceCategory.HARD: ProtocolState.HARDBOUNCE,
    BounceCategory.SOFT: ProtocolState.SOFTBOUNCE,
    BounceCategory.UNKNOWN: ProtocolState.UNKNOWNBOUNCE,
}
ARRIVED = frozenset({ProtocolState.SENT, *BOUNCED.values()})
"""States of a mail that left the house: its recipient may react, if only by a bounce."""


class LinkType(StrEnum):
    CONTENT = "CONTENT"
    UNSUBSCRIBE = "UNSUBSCRIBE"


class Link(msgspec.Struct, frozen=True):
    url: str
    type: LinkType


class ProtocolEntry(msgspec.Struct, gc=False):
    """One mail of a sending. Its state moves from SENT to a bounce when the mail comes back."""

    recipient_id: int
    state: ProtocolState
    occurred_at: float
    id: int = 0


class Mailing(msgspec.Struct):
    """A mailing with what its statistics count. Whoever reacts twice is one reacting recipient."""

    id: int
    type: MailingType
    list_id: int
    name: str
    subject: str
    created_at: float
    modified_at: float
    approved: bool
    sendings: "list[Sending]" = msgspec.field(default_factory=list)
    opening: set[int] = msgspec.field(default_factory=set)
    clicking: set[int] = msgspec.field(default_factory=set)
    unsubscribe_clicks: int = 0
    bounces: int = 0

    @property
    def state(self) -> str:
        if self.sendings:
            return "SENT"
        return "APPROVED" if self.approved else "DRAFT"

    @property
    def sent_at(self) -> float | None:
        return self.sendings[-1].started_at if self.sendings else None


class Sending(msgspec.Struct):
    """A mailing on its way to the members its list had at that moment; `entries` ascend by recipient."""

    id: int
    mailing: Mailing
    state: str
    started_at: float
    finished_at: float
    entries: list[ProtocolEntry]
    protocol: EventLog[ProtocolEntry]
    delivered: int
    """Mails that left and have not come back."""

    def entry_of(self, recipient_id: int) -> ProtocolEntry | None:
        index = bisect_left(self.entries, recipient_id, key=lambda entry: entry.recipient_id)
        found = self.entries[index] if index < len(self.entries) else None
        return found if found and found.recipient_id == recipient_id else None


class Reaction(msgspec.Struct, gc=False):
    """An opening, a click or a bounce. `tracked`: the permission at that moment let it be tied to the person."""

    sending: Sending
    recipient_id: int
    occurred_at: float
    tracked: bool
    link: Link | None = None
    category: BounceCategory | None = None
    id: int = 0


class Mailings:
    """All mailings of an account, their sendings and the logs of reactions to them."""

    def __init__(self) -> None:
        self.mailings: dict[int, Mailing] = {}
        self.sendings: dict[int, Sending] = {}
        self.sending_log: EventLog[Sending] = EventLog()
        self.bounces: EventLog[Reaction] = EventLog()
        self.clicks: EventLog[Reaction] = EventLog()
        self.web_beacon_hits: EventLog[Reaction] = EventLog()
        self._protocol_ids = count(1)

    def add(
        self, list_id: int, name: str, subject: str, now: float, *, type_: MailingType, approved: bool = True
    ) -> Mailing:
        id_ = len(self.mailings) + 1
        self.mailings[id_] = added = Mailing(id_, type_, list_id, name, subject, now, now, approved)
        return added

    def add_sending(self, mailing: Mailing, entries: Sequence[ProtocolEntry], now: float) -> Sending:
        """A sending that is over; its id is given at once, since the one who asked for it is told."""
        id_ = len(self.sendings) + 1
        protocol: EventLog[ProtocolEntry] = EventLog(self._protocol_ids)
        delivered = sum(1 for entry in entries if entry.state is ProtocolState.SENT)
        self.sendings[id_] = added = Sending(id_, mailing, "FINISHED", now, now, list(entries), protocol, delivered)
        mailing.sendings.append(added)
        mailing.modified_at = now
        return added


def response_statistics(mailing: Mailing) -> dict[str, object]:
    return {
        "openingRecipients": len(mailing.opening),
        "clickingRecipients": len(mailing.clicking),
        "unsubscribeClicks": mailing.unsubscribe_clicks,
    }


def sending_statistics(mailing: Mailing) -> dict[str, object]:
    return {
        "startDate": timestamp(mailing.sendings[0].started_at) if mailing.sendings else None,
        "recipientsCount": sum(len(sending.entries) for sending in mailing.sendings),
        "deliveredMailsCount": sum(sending.delivered for sending in mailing.sendings),
        "bounceCount": mailing.bounces,
    }
