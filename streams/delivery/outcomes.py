"""What the far side's answers mean for a mailbox: which part is refused, and whether it may be tried again. Pure."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from connectors.inxmail.failures import Refusal as FarRefusal
from schemas.errors import Refused
from schemas.facts import UNSUBSCRIPTION_MEANING, Meaning
from schemas.ids import normalise_email
from schemas.inxmail import RowError
from schemas.mutations import Held

UNSUBSCRIPTION_ERROR: Final = "UNSUBSCRIPTION_ERROR"
COLUMN_NOT_FOUND: Final = "COLUMN_NOT_FOUND_WARN"

_CODES: Final = {
    "BLACKLIST_ERROR": "blacklisted",
    "EMAIL_PARSE_ERROR": "email_refused",
    "ATTRIBUTE_PARSE_ERROR": "attribute_parse_error",
}


_LOCKED: Final = "locked-resource"
_NOT_ABOUT_VALUES: Final = frozenset(
    {"blacklisted", "subscription-error", "unsubscription-error", "missing-parameter", "missing-request-part", _LOCKED}
)


class RowFault(StrEnum):
    """Which part of a row a row error refuses."""

    LIST = "list"
    """She has unsubscribed: that is a state, and only a newer proof changes it."""
    VALUES = "values"
    MAILBOX = "mailbox"


def fault_of(error: str) -> RowFault:
    """What an import's row error refuses. An unknown code refuses the mailbox."""
    match error:
        case "UNSUBSCRIPTION_ERROR":
            return RowFault.LIST
        case "ATTRIBUTE_PARSE_ERROR":
            return RowFault.VALUES
    return RowFault.MAILBOX


def code_of(error: str) -> str:
    """The code under which a row error is shown."""
    return _CODES.get(error, error.lower())


class RowErrors(msgspec.Struct, frozen=True):
    """An import's errors, assigned. `rows`: mailbox → error code. `unassigned`: codes of failed rows that name none.

    `columns_missing`: the file's columns that the far side did not know.
    """

    rows: dict[str, str]
    unassigned: tuple[str, ...]
    columns_missing: tuple[str, ...]


def assigned(errors: Iterable[RowError], mailbox_of: Mapping[str, str], fail_count: int) -> RowErrors:
    """Errors to rows, by the address in `value`.

    mailbox_of: normalised address → mailbox. Warnings fail no row. When fewer rows are named than failed, the rest is
    unassigned: which rows they were must be read.
    """
    rows: dict[str, str] = {}
    unassigned: list[str] = []
    missing: list[str] = []
    for found in errors:
        if found.error == COLUMN_NOT_FOUND:
            missing.append(found.value or "")
        elif not found.error.endswith("_WARN"):
            mailbox = mailbox_of.get(normalise_email(found.value or "") or "")
            if mailbox is None:
                unassigned.append(found.error)
            else:
                rows.setdefault(mailbox, found.error)
    if not unassigned and fail_count > len(rows):
        unassigned.append("UNKNOWN_ERROR")
    return RowErrors(rows, tuple(unassigned), tuple(missing))


class Ended(msgspec.Struct, frozen=True):
    """What an unsubscription call came to: how the list is held now, or the code of what was refused."""

    state: Held | None
    duplicate: bool = False
    error: str | None = None


def unsubscribed_as(result: str | None) -> Ended:
    """The meaning of a successful unsubscription call's `result`.

    Any type that denotes neither a failure nor something pending ends the subscription, also one that is unknown.
    """
    if result is None:
        return Ended(Held.UNSUBSCRIBED)
    if result == "DUPLICATE_UNSUBSCRIPTION":
        return Ended(Held.UNSUBSCRIBED, duplicate=True)
    if "NOT_IN_" in result:
        return Ended(Held.NONE)
    if UNSUBSCRIPTION_MEANING.get(result) is Meaning.LEAVING:
        # Double opt-out: she stays subscribed until she confirms, so nothing was achieved.
        return Ended(None, error=result.lower())
    return Ended(Held.UNSUBSCRIBED)


def is_for_later(failure: Refused) -> bool:
    """Whether it is refused only while something else goes on, such as somebody's import."""
    return failure.kind == _LOCKED


def is_about_values(failure: Refused) -> bool:
    """Whether a refused write of attributes may be about one of its values, so that the others could be written."""
    return failure.status == 400 and failure.kind not in _NOT_ABOUT_VALUES


def unsubscription_refused(failure: Refused, *, is_list_known: bool) -> Ended:
    """The meaning of a refused unsubscription call: who is no member is not subscribed, and that was wanted.

    is_list_known: whether the list is there; what was not found is the recipient then.
    """
    if failure.kind in ("unsubscription-error", "blacklisted") or failure.status == 410:
        return Ended(Held.NONE)
    if failure.status == 404:
        return Ended(Held.NONE) if is_list_known else Ended(None, error="list_missing")
    return Ended(None, error=code_of_refusal(failure))


def code_of_refusal(failure: Refused) -> str:
    """A refusal's code."""
    if failure.kind and failure.kind != "about:blank":
        return failure.kind.replace("-", "_")
    return f"refused_{failure.status}" if failure.status else "refused"


def refused_names(failure: Refused, names: Collection[str]) -> set[str]:
    """Which of these attribute names a refused write is about; empty when it does not say."""
    if not isinstance(failure, FarRefusal):
        return set()
    by_field = {name for name in names if any(field.removeprefix("attributes.") == name for field in failure.fields)}
    return by_field or {name for name in names if name and name in failure.detail}
