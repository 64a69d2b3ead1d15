"""Attribute values: what each type accepts from JSON and from a CSV cell. Pure."""

import math
import re
from datetime import UTC, date, datetime, time
from enum import StrEnum

Value = str | int | float | bool | None


class AttributeType(StrEnum):
    TEXT = "TEXT"
    DATE_AND_TIME = "DATE_AND_TIME"
    DATE_ONLY = "DATE_ONLY"
    TIME_ONLY = "TIME_ONLY"
    INTEGER = "INTEGER"
    FLOATING_POINT_NUMBER = "FLOATING_POINT_NUMBER"
    BOOLEAN = "BOOLEAN"


_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{2}:\d{2}:\d{2}Z?", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})", re.ASCII)


def from_text(kind: AttributeType, max_length: int | None, text: str) -> Value:
    """Read a filled CSV cell. Never shortens a text that is too long.

    Raises: ValueError, with the problem in words.
    """
    match kind:
        case AttributeType.TEXT:
            if max_length is not None and len(text) > max_length:
                raise ValueError(f"size must be between 0 and {max_length} inclusive")
            return text
        case AttributeType.INTEGER:
            if not _INTEGER.fullmatch(text):
                raise ValueError("must be an integer")
            return int(text)
        case AttributeType.FLOATING_POINT_NUMBER:
            if not _DECIMAL.fullmatch(text):
                raise ValueError("must be a number")
            return _finite(float(text))
        case AttributeType.BOOLEAN:
            if text.lower() not in ("true", "false"):
                raise ValueError("must be true or false")
            return text.lower() == "true"
        case AttributeType.DATE_ONLY:
            if not _DATE.fullmatch(text):
                raise ValueError("must be a date: YYYY-MM-DD")
            return date.fromisoformat(text).isoformat()
        case AttributeType.TIME_ONLY:
            if not _TIME.fullmatch(text):
                raise ValueError("must be a time: HH:mm:ss")
            time.fromisoformat(text.removesuffix("Z"))
            return text
        case AttributeType.DATE_AND_TIME:
            if not _MOMENT.fullmatch(text):
                raise ValueError("must be a date and time: YYYY-MM-DDTHH:mm:ssZ")
            return _utc(datetime.fromisoformat(text))


def from_json(kind: AttributeType, max_length: int | None, value: object, *, coerce_text: bool = False) -> Value:
    """Read a JSON value; `coerce_text` lets numbers and booleans arrive as text, as the vendor's connector sends them.

    Raises: ValueError, with the problem in words.
    """
    if value is None:
        return None
    match kind:
        case AttributeType.INTEGER if isinstance(value, int) and not isinstance(value, bool):
            if abs(value) >= 10**18:
                raise ValueError("must be an integer of at most 18 digits")
            return value
        case AttributeType.FLOATING_POINT_NUMBER if isinstance(value, int | float) and not isinstance(value, bool):
            return _finite(value)
        case AttributeType.BOOLEAN if isinstance(value, bool):
            return value
        case AttributeType.INTEGER | AttributeType.FLOATING_POINT_NUMBER | AttributeType.BOOLEAN if not coerce_text:
            raise ValueError(f"must be of type {kind}")
    if not isinstance(value, str):
        raise ValueError(f"must be of type {kind}")
    return from_text(kind, max_length, value)


def _finite(number: float) -> float:
    try:
        if math.isfinite(number):
            return float(number)
    except OverflowError:  # a JSON integer of hundreds of digits
        pass
    raise ValueError("must be a finite number")


def _utc(moment: datetime) -> str:
    try:
        return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except OverflowError:  # the first and last hours a date can name
        raise ValueError("must be a date and time between the years 1 and 9999") from None
