"""What Inxmail told us: one record type for each stream. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec


class ListEvent(msgspec.Struct, frozen=True):
    """An entry of a subscription or unsubscription log. Its record key is `event_id` as decimal text.

    `op_id` names the call of ours that this entry echoes; None: it is the person's (or a user's at Inxmail).
    `mailbox` is None when the entry names no address that can be one. `occurred_at` is the far side's date.
    """

    client: str
    event_id: int
    type: str
    list_id: int | None
    recipient_id: int | None
    email: str | None
    mailbox: str | None
    occurred_at: datetime
    seen_at: datetime
    op_id: str | None = None


class SubscriptionEvent(ListEvent, frozen=True):
    """An entry of the subscription log."""


class UnsubscriptionEvent(ListEvent, frozen=True):
    """An entry of the unsubscription log."""


class Cursor(msgspec.Struct, frozen=True):
    """How far a stream was read and its records stored at the broker. `link` is the far side's own, verbatim."""

    client: str
    stream: str
    link: str
    last_event_id: int | None
    at: datetime


class Effect(msgspec.Struct, frozen=True):
    """A call that changes something: written as `open` before it, and again with its outcome.

    `log_position` is the last event id of the unsubscription log known when the call was opened.
    """

    client: str
    op_id: str
    kind: str
    mailbox: str | None
    list_id: int | None
    outcome: str
    log_position: int | None
    rows: int
    remote_id: int | None
    at: datetime


class Meaning(StrEnum):
    """What a log entry says about one mailbox on one list."""

    SUBSCRIBED = "subscribed"
    PENDING = "pending"
    UNSUBSCRIBED = "unsubscribed"
    LEAVING = "leaving"
    """Tried to leave and it is not settled: freeze, never subscribe."""
    REJECTED = "rejected"
    BLOCKED = "blocked"
    NOTHING = "nothing"
    UNKNOWN = "unknown"
    """A type we do not know: parked, and never guessed."""


SUBSCRIPTION_MEANING: Final = {
    "PENDING_SUBSCRIPTION": Meaning.PENDING,
    "PENDING_SUBSCRIPTION_DONE": Meaning.SUBSCRIBED,
    "VERIFIED_SUBSCRIPTION": Meaning.SUBSCRIBED,
    "MANUAL_SUBSCRIPTION": Meaning.SUBSCRIBED,
    "DUPLICATE_SUBSCRIPTION": Meaning.NOTHING,
    "SUBSCRIPTION_TIMED_OUT": Meaning.REJECTED,
    "SUBSCRIPTION_VERIFICATION_BOUNCED": Meaning.REJECTED,
    "SUBSCRIPTION_ID_NOT_VALID": Meaning.NOTHING,
    "SUBSCRIPTION_EMAIL_MISSMATCH": Meaning.NOTHING,
    "SUBSCRIPTION_INTERNAL_ERROR": Meaning.NOTHING,
    "BLACKLISTED": Meaning.BLOCKED,
    "INVALID_ADDRESS_ERROR": Meaning.REJECTED,
    "INVALID_ADRESS_ERROR": Meaning.REJECTED,
}

UNSUBSCRIPTION_MEANING: Final = {
    "VERIFIED_UNSUBSCRIPTION": Meaning.UNSUBSCRIBED,
    "PENDING_UNSUBSCRIPTION_DONE": Meaning.UNSUBSCRIBED,
    "MANUAL_UNSUBSCRIPTION": Meaning.UNSUBSCRIBED,
    "LIST_UNSUBSCRIBE_HEADER_UNSUBSCRIPTION": Meaning.UNSUBSCRIBED,
    "VERIFIED_NOT_IN_LIST_UNSUBSCRIPTION": Meaning.UNSUBSCRIBED,
    "PENDING_NOT_IN_LIST_UNSUBSCRIPTION_DONE": Meaning.UNSUBSCRIBED,
    "LIST_UNSUBSCRIBE_HEADER_NOT_IN_LIST_UNSUBSCRIPTION": Meaning.UNSUBSCRIBED,
    "NOT_IN_LIST_UNSUBSCRIPTION": Meaning.UNSUBSCRIBED,
    "NOT_IN_SYSTEM_UNSUBSCRIPTION": Meaning.UNSUBSCRIBED,
    "DUPLICATE_UNSUBSCRIPTION": Meaning.NOTHING,
    "PENDING_UNSUBSCRIPTION": Meaning.LEAVING,
    "UNSUBSCRIPTION_TIMED_OUT": Meaning.LEAVING,
    "UNSUBSCRIPTION_VERIFICATION_BOUNCED": Meaning.LEAVING,
    "UNSUBSCRIPTION_ID_NOT_VALID": Meaning.LEAVING,
    "UNSUBSCRIPTION_EMAIL_MISSMATCH": Meaning.LEAVING,
    "UNSUBSCRIPTION_INTERNAL_ERROR": Meaning.LEAVING,
}


def meaning_of(event: ListEvent) -> Meaning:
    """What the entry says, by its type and the log it stands in."""
    table = SUBSCRIPTION_MEANING if isinstance(event, SubscriptionEvent) else UNSUBSCRIPTION_MEANING
    return table.get(event.type, Meaning.UNKNOWN)
