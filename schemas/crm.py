"""What the pipeline tells the CRM: records of the `crm.*` topics. Pure."""

from datetime import datetime
from enum import StrEnum

import msgspec


class SubscriptionState(StrEnum):
    """Region S: the only one that decides about mailing."""

    PROPOSED = "proposed"
    PENDING = "pending"
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    WITHDRAWN = "withdrawn"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    REMOVED_REMOTE = "removed_remote"
    ERASED = "erased"


class SyncState(StrEnum):
    """Region Y: how far the pipeline has come with this row."""

    IN_SYNC = "in_sync"
    DIRTY = "dirty"
    QUARANTINED = "quarantined"
    HELD = "held"


class RecipientStatus(msgspec.Struct, frozen=True):
    """One `distribution_recipient_status` row; the record key is the recipient's GGUID.

    `version` and `epoch` order the records of one row. Instants are those of the facts, never of processing.
    """

    recipient: str
    epoch: int
    version: int
    client: str
    email_used: str | None
    mailbox_ref: str | None
    inxmail_recipient_id: int | None
    subscription_state: SubscriptionState
    state_reason: str
    state_since: datetime | None
    state_event_id: str | None
    subscribed_at: datetime | None
    unsubscribed_at: datetime | None
    is_leading: bool
    is_unproven: bool
    is_frozen: bool
    sync_state: SyncState
    last_synced_at: datetime | None
    last_error_code: str | None
    last_error_text: str | None
    desired_hash: bytes | None


class SuppressionRecord(msgspec.Struct, frozen=True):
    """One `suppression` row that follows from an event at Inxmail; the record key is its GGUID."""

    gguid: str
    epoch: int
    version: int
    scope: str
    baf_client_id: str | None
    distribution_gguid: str | None
    email_hmac: bytes
    reason: str
    since: datetime
    event_id: str
