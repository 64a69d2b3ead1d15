"""What the client worker knows of a mailbox, and what it has under way: the records between its tables and its planner.

Pure. These never leave the client worker; what others read of it are `DeliveryResult` and `Effect`.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.facts import ListEvent
from schemas.mutations import HeldList, Mutation, Outcome, Version

NO_LIST = 0
"""Stands for "no list" among list ids: an import that only writes attributes."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Something the far side refused for good: not tried again while what it was refused for is unchanged.

    `against`: for an attribute the canonical value, for a list or the whole mailbox the mutation's version.
    """

    code: str
    against: str | None


MAILBOX = "mailbox"
VALUES = "values"
"""The name of all values together: an import refused one of them, and does not say which."""


def attribute_scope(attribute_id: str) -> str:
    """The name of an attribute among refusals."""
    return f"attribute:{attribute_id}"


def list_scope(list_id: int) -> str:
    """The name of a list among refusals."""
    return f"list:{list_id}"


def version_text(version: Version) -> str:
    """A version as a refusal names it."""
    return f"{version.epoch}.{version.counter}"


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What a delivery result says of the mutation it answers."""

    version: Version | None = None
    desired_hash: bytes | None = None
    outcome: Outcome = Outcome.APPLIED
    error: str | None = None
    leader: str | None = None
    claims: tuple[str, ...] = ()
    rejected_values: dict[str, str] = {}


class HeldMailbox(msgspec.Struct, frozen=True, gc=False):
    """A mailbox as the client is known to hold it, with the newest mutation for it.

    `email`: normalised. `remote_email`: as the client spells it, None when it is not known to be a recipient.
    `values`: attribute id → canonical value. `missing_at`: when a recipient that we knew was found to be gone.
    `open_lists`: the lists (or NO_LIST) of the open imports that contain it. `dirt`: what `settle` answers.
    """

    mailbox: str
    email: str
    desired: Mutation | None
    dirt: int
    remote_email: str | None = None
    recipient_id: int | None = None
    missing_at: datetime | None = None
    lists: dict[int, HeldList] = {}
    values: dict[str, str | None] = {}
    refusals: dict[str, Refusal] = {}
    settled: Settled = Settled()
    open_lists: frozenset[int] = frozenset()
    events: tuple[ListEvent, ...] = ()
    """Entries of the unsubscription log that are the person's."""

    @property
    def address(self) -> str:
        """The address for a call: the client's own spelling when it has one."""
        return self.remote_email or self.email


class CallState(StrEnum):
    """How a call of ours ended, or that it has not."""

    OPEN = "open"
    DONE = "done"
    DUPLICATE = "duplicate"
    """It had been so already, by somebody else's doing."""
    REFUSED = "refused"
    UNDONE = "undone"
    """Surely not carried out."""
    LOST = "lost"
    """Perhaps carried out."""


class ImportPhase(StrEnum):
    """How far an import of ours is.

    intended: written down, perhaps sent; posted: its id is known; ended: nothing of it can take effect any more;
    closed: the logs were read to their end after that.
    """

    INTENDED = "intended"
    POSTED = "posted"
    ENDED = "ended"
    CLOSED = "closed"


class OpenRow(msgspec.Struct, frozen=True, gc=False):
    """A row of an import: what it says of one mailbox, and the version it was made for.

    `values`: attribute id → canonical value; `claims`: for whom the list is subscribed. `rule` and `binding` of the
    wish, and its proof, stand in the mutation. `answer`: what the mutation is answered when the row succeeds and
    nothing has happened to the mailbox since it stood at `dirt`; None: it is to be looked at anew in any case.
    """

    mailbox: str
    email: str
    values: dict[str, str | None]
    version: Version
    claims: tuple[str, ...] = ()
    answer: Settled | None = None
    dirt: int = 0


class OpenImport(msgspec.Struct, frozen=True):
    """An import that is under way. `list_id` None: it only writes attributes. `columns`: attribute ids."""

    op_id: str
    list_id: int | None
    resubscribe: bool
    columns: tuple[str, ...]
    phase: ImportPhase
    intended_at: datetime
    import_id: int | None = None


class Expectation(msgspec.Struct, frozen=True):
    """A call of ours whose entry in a log is still to come. `position`: the log's last entry known before the call."""

    op_id: str
    log: str
    mailbox: str
    list_id: int
    position: int
    opened_at: datetime
    ended_at: datetime | None
    state: CallState
