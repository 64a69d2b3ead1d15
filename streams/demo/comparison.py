"""What the CRM says should be at Inxmail, against what Inxmail says is there, in both directions. Pure."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

Scalar = None | bool | int | float | str

SUBSCRIBED = "subscribed"
UNSUBSCRIBED = "unsubscribed"


class Entry(msgspec.Struct, frozen=True):
    """One mailbox on one list, as one side sees it. `email` is normalised; `values` go by attribute name.

    Only what `values` names is compared. `recipient` is the GGUID of the leading CRM row, where that side knows one.
    """

    client: str
    list_id: int
    email: str
    state: str
    values: Mapping[str, Scalar]
    recipient: str | None = None


class Kind(StrEnum):
    """In which way the two sides differ."""

    MISSING = "missing"
    """The CRM says it should be there, and Inxmail does not have it."""
    EXTRA = "extra"
    """Inxmail has it, and nothing in the CRM says that it should be."""
    WRONG_STATE = "wrong_state"
    """Subscribed on one side and not on the other."""
    WRONG_VALUE = "wrong_value"
    """A mapped value differs."""
    WRONG_STATUS = "wrong_status"
    """The CRM's own record of the state says something else than Inxmail does."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that differs. `detail` names attributes or states, never a value."""

    kind: Kind
    client: str
    list_id: int
    email: str
    recipient: str | None
    detail: str


def differences(expected: Iterable[Entry], actual: Iterable[Entry]) -> list[Difference]:
    """Every difference, by client, list and e-mail. Of two entries for one mailbox and list the last counts.

    Whoever is at Inxmail without being subscribed needs nobody to expect them there: they once were, or said no.
    """
    wanted = {(e.client, e.list_id, e.email): e for e in expected}
    held = {(e.client, e.list_id, e.email): e for e in actual}
    found: list[Difference] = []
    for place in sorted(wanted.keys() | held.keys()):
        found += _between(wanted.get(place), held.get(place))
    return found


def _between(wanted: Entry | None, held: Entry | None) -> list[Difference]:
    if wanted is None:
        assert held is not None  # a place is in one of the two
        return [_difference(Kind.EXTRA, held, held.state)] if held.state == SUBSCRIBED else []
    if held is None:
        return [_difference(Kind.MISSING, wanted, wanted.state)]
    found = []
    if wanted.state != held.state:
        found.append(_difference(Kind.WRONG_STATE, wanted, f"{held.state} instead of {wanted.state}"))
    for name in sorted(wanted.values):
        if not same(wanted.values[name], held.values.get(name)):
            found.append(_difference(Kind.WRONG_VALUE, wanted, name))
    return found


def status_differences(statuses: Iterable[Entry], actual: Iterable[Entry]) -> list[Difference]:
    """Where the CRM's own record contradicts Inxmail: it says subscribed and is not, or nobody's record says so.

    A mailbox that several claim may be subscribed for one of them alone, so a single row may say otherwise.
    """
    held = {(e.client, e.list_id, e.email): e for e in actual if e.state == SUBSCRIBED}
    told = {(e.client, e.list_id, e.email): e for e in statuses if e.state == SUBSCRIBED}
    found = [_difference(Kind.WRONG_STATUS, told[place], "subscribed in the CRM only") for place in told.keys() - held]
    found += [_difference(Kind.WRONG_STATUS, held[place], "subscribed at Inxmail only") for place in held.keys() - told]
    return sorted(found, key=lambda difference: (difference.client, difference.list_id, difference.email))


def _difference(kind: Kind, entry: Entry, detail: str) -> Difference:
    return Difference(kind, entry.client, entry.list_id, entry.email, entry.recipient, detail)


def same(one: Scalar, other: Scalar) -> bool:
    """Whether two values are one. Empty text is no value; text is compared composed and trimmed; 1 is 1.0, not True."""
    one, other = _canonical(one), _canonical(other)
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1e-9 * max(1.0, abs(one), abs(other))
    return one == other


def _canonical(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value).strip() or None
    return value


def scalar(value: Any) -> Scalar:
    """A column's value as Inxmail shows it: dates and instants as text, decimals as numbers."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
    return str(value)


def counts(found: Sequence[Difference]) -> dict[str, int]:
    """How many of each kind; kinds that did not occur do not appear."""
    return dict(Counter(difference.kind.value for difference in found))
