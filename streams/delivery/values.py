"""One spelling for every attribute value: used for sending, comparing and hashing. Pure.

A canonical value is text, or None for no value. Canonicalising what the far side shows of a value that was sent gives
the same text again, so an unchanged value never looks changed.
"""

import math
import re
import unicodedata
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from schemas.inxmail import Attribute, AttributeType, AttributeValue

_SIGNIFICANT_DIGITS: Final = 15
"""What a double keeps of a decimal number on its way there and back."""
_MAX_INTEGER: Final = 10**18
_DATE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})Z?", re.ASCII)
_TIME: Final = re.compile(r"(\d{2}:\d{2}:\d{2})(\.\d+)?(Z|[+-]00:?00)?", re.ASCII)


class Unfit(msgspec.Struct, frozen=True):
    """Why a value cannot be sent: a code."""

    code: str


ATTRIBUTE_UNKNOWN: Final = "attribute_unknown"
_WRONG_TYPE: Final = Unfit("type_mismatch")
_TOO_LONG: Final = Unfit("too_long")
_OUT_OF_RANGE: Final = Unfit("out_of_range")


def canonical(attribute: Attribute, value: AttributeValue) -> str | Unfit | None:
    """The one spelling of `value` for this attribute; Unfit, when the attribute cannot hold it. Empty text is None."""
    if isinstance(value, str):
        value = unicodedata.normalize("NFC", value).strip()
    if value is None or value == "":
        return None
    match attribute.type:
        case AttributeType.TEXT:
            return _text(value, attribute.max_length)
        case AttributeType.INTEGER:
            return _integer(value)
        case AttributeType.FLOATING_POINT_NUMBER:
            return _number(value)
        case AttributeType.BOOLEAN:
            return _boolean(value)
        case AttributeType.DATE_ONLY:
            return _date(value)
        case AttributeType.DATE_AND_TIME:
            return _moment(value)
        case AttributeType.TIME_ONLY:
            return _time(value)
    return Unfit("attribute_type_unknown")


def json_value(attribute: Attribute, text: str | None) -> AttributeValue:
    """A canonical value as the API's JSON has it."""
    if text is None:
        return None
    match attribute.type:
        case AttributeType.INTEGER:
            return int(text)
        case AttributeType.FLOATING_POINT_NUMBER:
            return float(text)
        case AttributeType.BOOLEAN:
            return text == "true"
    return text


def cell(text: str | None) -> str:
    """A canonical value as a cell of an import file."""
    return "" if text is None else text


def _text(value: AttributeValue, max_length: int | None) -> str | Unfit:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if max_length is not None and len(text) > max_length:
        return _TOO_LONG
    return text


def _decimal(value: AttributeValue) -> Decimal | None:
    """The number; None for what is none. Floats pass through their shortest text, never through binary digits."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _integer(value: AttributeValue) -> str | Unfit:
    number = _decimal(value)
    if number is None:
        return _WRONG_TYPE
    if number.copy_abs() >= _MAX_INTEGER:
        return _OUT_OF_RANGE
    if number != number.to_integral_value():
        return _WRONG_TYPE
    return str(int(number))


def _number(value: AttributeValue) -> str | Unfit:
    number = _decimal(value)
    if number is None:
        return _WRONG_TYPE
    nearest = float(number)
    if not math.isfinite(nearest):
        return _OUT_OF_RANGE
    rounded = Decimal(f"{nearest:.{_SIGNIFICANT_DIGITS}g}")
    if not math.isfinite(float(rounded)):
        return _OUT_OF_RANGE
    if not rounded:
        return "0"
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _boolean(value: AttributeValue) -> str | Unfit:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).lower()
    return text if text in ("true", "false") else _WRONG_TYPE


def _date(value: AttributeValue) -> str | Unfit:
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return _WRONG_TYPE  # a moment is no date: cutting its time off would shift it by a zone
    try:
        return date.fromisoformat(found[1]).isoformat()
    except ValueError:
        return _WRONG_TYPE


def _moment(value: AttributeValue) -> str | Unfit:
    if not isinstance(value, str):
        return _WRONG_TYPE
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            return _WRONG_TYPE
        return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    except (ValueError, OverflowError):
        return _WRONG_TYPE


def _time(value: AttributeValue) -> str | Unfit:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return _WRONG_TYPE
    try:
        return time.fromisoformat(found[1]).isoformat() + "Z"
    except ValueError:
        return _WRONG_TYPE
