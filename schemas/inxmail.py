"""Resources and log entries of the Inxmail Professional REST API, as far as the pipeline reads them. Pure.

Fields, relations and enumeration values that are not named here are passed over: the API grows within its version.
What is named must have its shape; anything else is MalformedInput, never a guess.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from schemas.errors import MalformedInput

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""`2017-09-25T08:38:33Z`: UTC, whole seconds."""
AttributeValue = None | bool | int | float | str


class AttributeType(StrEnum):
    """What an attribute holds. A type that is not here cannot be written."""

    TEXT = "TEXT"
    DATE_AND_TIME = "DATE_AND_TIME"
    DATE_ONLY = "DATE_ONLY"
    TIME_ONLY = "TIME_ONLY"
    INTEGER = "INTEGER"
    FLOATING_POINT_NUMBER = "FLOATING_POINT_NUMBER"
    BOOLEAN = "BOOLEAN"


class Attribute(msgspec.Struct, frozen=True):
    """A column of the global recipient table. `max_length`: of TEXT, in characters."""

    id: int
    name: str
    type: str
    max_length: int | None = msgspec.field(name="maxLength", default=None)


class MailingList(msgspec.Struct, frozen=True):
    """A list. Only type STANDARD has members of its own."""

    id: int
    name: str
    type: str


class ListDate(msgspec.Struct, frozen=True):
    """When a recipient came onto a list, or left it."""

    list_id: int = msgspec.field(name="listId")
    date: Instant


class Recipient(msgspec.Struct, frozen=True):
    """A recipient. The three last members come only when asked for."""

    id: int
    email: str
    attributes: dict[str, AttributeValue] = {}
    subscription_dates: tuple[ListDate, ...] | msgspec.UnsetType = msgspec.field(
        name="subscriptionDates", default=msgspec.UNSET
    )
    unsubscription_dates: tuple[ListDate, ...] | msgspec.UnsetType = msgspec.field(
        name="unsubscriptionDates", default=msgspec.UNSET
    )

    def dates(self) -> tuple[dict[int, datetime], dict[int, datetime]]:
        """List id → date of subscription, and of unsubscription.

        Raises: MalformedInput, when the answer lacks what was asked for: a state must never be guessed from silence.
        """
        if self.subscription_dates is msgspec.UNSET or self.unsubscription_dates is msgspec.UNSET:
            raise MalformedInput("a recipient came without the subscription dates that were asked for")
        return (
            {found.list_id: found.date for found in self.subscription_dates},
            {found.list_id: found.date for found in self.unsubscription_dates},
        )


class EmbeddedRecipient(msgspec.Struct, frozen=True):
    """The recipient inside a log entry; absent when it was deleted."""

    id: int | None = None
    email: str | None = None


class _Embedding(msgspec.Struct, frozen=True):
    recipient: EmbeddedRecipient | None = msgspec.field(name="inx:recipient", default=None)


class LogEntry(msgspec.Struct, frozen=True):
    """An entry of the subscription or unsubscription log."""

    id: int
    created_at: Instant = msgspec.field(name="creationDate")
    type: str
    list_id: int | None = msgspec.field(name="listId", default=None)
    recipient_id: int | None = msgspec.field(name="recipientId", default=None)
    email: str | None = None
    embedded: _Embedding = msgspec.field(name="_embedded", default=_Embedding())

    @property
    def address(self) -> str | None:
        """The address at the time of the entry, else the recipient's present one."""
        return self.email or (self.embedded.recipient.email if self.embedded.recipient else None)


class ImportState(StrEnum):
    """How far an import is. A state that is not here counts as not ended."""

    NEW = "NEW"
    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


ENDED: Final = frozenset({ImportState.SUCCESS, ImportState.FAILED, ImportState.CANCELED})


class ImportExecution(msgspec.Struct, frozen=True):
    """One import. SUCCESS does not mean that no row failed."""

    id: int
    state: str
    success_count: int = msgspec.field(name="successCount", default=0)
    fail_count: int = msgspec.field(name="failCount", default=0)

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it can take effect any more."""
        return self.state in ENDED


class ImportFile(msgspec.Struct, frozen=True):
    """A file of an import."""

    id: int
    state: str = ""


class RowError(msgspec.Struct, frozen=True):
    """What was wrong with a row. `value` often holds its address; its form is not documented."""

    error: str
    value: str | None = None


class UnsubscriptionAnswer(msgspec.Struct, frozen=True):
    """What an unsubscription call came to: a type of the unsubscription log."""

    result: str | None = None


class FieldProblem(msgspec.Struct, frozen=True):
    """A field that was refused, e.g. `email` or `attributes.Ort`."""

    field: str = ""
    problem: str = ""


class Problem(msgspec.Struct, frozen=True):
    """A refusal. `type` is a short token; the status stands in HTTP alone."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    invalid_fields: tuple[FieldProblem, ...] = msgspec.field(name="invalidFields", default=())


class Link(msgspec.Struct, frozen=True):
    """Where something is."""

    href: str


class Links(msgspec.Struct, frozen=True):
    """`next` while there is more; `upcoming` on the last page only: where new objects will appear."""

    next: Link | None = None
    upcoming: Link | None = msgspec.field(name="inx:upcoming", default=None)


class PageBody(msgspec.Struct, frozen=True):
    """A page of any collection. `_embedded` may be missing when it is empty."""

    links: Links = msgspec.field(name="_links", default=Links())
    embedded: dict[str, Any] = msgspec.field(name="_embedded", default={})
