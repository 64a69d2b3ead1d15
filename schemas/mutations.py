"""What one mailbox should be, and what the client holds of it: the two records that delivery lives between. Pure."""

from datetime import datetime
from enum import StrEnum

import msgspec

Value = None | bool | int | float | str
"""A mapped value as the CRM has it; the client worker canonicalises it by the attribute's type."""


class Lane(StrEnum):
    """The queue of a client in which a mutation travels; what stands in an earlier one goes first.

    All hold whole desired states: a newer version in one lane makes an older one in another obsolete.
    """

    PRIORITY = "priority"
    """Somebody leaves, or is to be mailed no more: versions that take something away."""
    NORMAL = "normal"
    BULK = "bulk"
    """Rows of a snapshot, mass changes. Never a version that wants less than an earlier one."""


class Version(msgspec.Struct, frozen=True, order=True, gc=False):
    """Orders the messages of one mailbox, and does nothing else. `epoch` rises when state is rebuilt."""

    epoch: int
    counter: int


class Want(StrEnum):
    """What should hold for a mailbox on one list."""

    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    KEEP = "keep"
    """Leave it as it is at Inxmail: nothing of ours is to be done there."""


class Held(StrEnum):
    """What the client holds for a mailbox on one list, as far as is known."""

    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    NONE = "none"
    UNKNOWN = "unknown"
    """A call that may subscribe is open, or its answer was lost: to be read before anything is subscribed."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """A proof or an objection: which (GGUID or event id), when, and for proofs its level from 0 to 3."""

    ref: str
    at: datetime
    level: int = 0


class ListWish(msgspec.Struct, frozen=True, gc=False):
    """What is wanted on one list, by which rule, on which evidence, and for which claims (recipient GGUIDs)."""

    list_id: int
    binding: str
    want: Want
    rule: str
    claims: tuple[str, ...] = ()
    proof: Evidence | None = None
    objection: Evidence | None = None


class Cause(msgspec.Struct, frozen=True, gc=False):
    """The record that led here, and when its source committed it."""

    topic: str
    partition: int
    offset: int
    committed_at: datetime


class Mutation(msgspec.Struct, frozen=True, gc=False):
    """The whole desired state of one mailbox in one client. Never an increment.

    `email` is the normalised spelling. `values` maps the attribute id, as decimal text, to the CRM's value; an
    attribute that is not meant to change does not appear. `leader` and `claims` are recipient GGUIDs.
    """

    client: str
    mailbox: str
    version: Version
    email: str
    leader: str | None
    claims: tuple[str, ...]
    values: dict[str, Value]
    lists: tuple[ListWish, ...]
    desired_hash: bytes
    cause: Cause


class Outcome(StrEnum):
    """How far a mutation has come."""

    APPLIED = "applied"
    QUARANTINED = "quarantined"
    """Refused for good: a person or a newer version must act. Fields at fault stand in `rejected_values`."""
    PAUSED = "paused"
    """The client as a whole refuses (credentials, rights); nothing is dropped."""


class HeldList(msgspec.Struct, frozen=True, gc=False):
    """One list's state at the client. `cause`: op id, `event:<id>`, `read`, or an import's row error code.

    `claims`: the recipient GGUIDs for whom we subscribed it; empty when it was not our doing.
    """

    list_id: int
    state: Held
    cause: str | None = None
    since: datetime | None = None
    claims: tuple[str, ...] = ()


class DeliveryResult(msgspec.Struct, frozen=True):
    """What the client holds for one mailbox, answering one version of its mutation; or why not.

    `version` is None for a mailbox that the client holds and nothing was ever wanted of. `rejected_values` maps an
    attribute id to an error code; `error` is a code, never a text of the far side.
    """

    client: str
    mailbox: str
    email: str
    version: Version | None
    desired_hash: bytes | None
    outcome: Outcome
    recipient_id: int | None
    leader: str | None
    claims: tuple[str, ...]
    lists: tuple[HeldList, ...]
    values: dict[str, str | None]
    rejected_values: dict[str, str]
    error: str | None
    at: datetime
