"""What of a record may be shown to anybody. Pure. Whatever is not known to be harmless is hidden."""

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

HIDDEN: Final = "••••"

_OPEN_COLUMNS: Final = frozenset(
    {
        "baf_client_id",
        "channel_code",
        "desired",
        "desired_reason",
        "id_type",
        "is_deactivated",
        "is_objected_global",
        "kind",
        "match",
        "mode",
        "origin",
        "pin_leading",
        "proof_level",
        "reason",
        "row_version",
        "scope",
        "source_code",
        "state",
        "strength",
        "subject_id",
        "sync_op_id",
        "sync_origin",
    }
)
"""Columns of CRM rows that name or count and tell nothing of a person. Keys and instants are known by their form."""

_OPEN_FIELDS: Final = frozenset(
    {
        "binding",
        "cause",
        "claims",
        "client",
        "error",
        "event_id",
        "flow",
        "key",
        "kind",
        "last_error_code",
        "leader",
        "link",
        "mailbox",
        "mailbox_ref",
        "op_id",
        "outcome",
        "recipient",
        "ref",
        "rejected_values",
        "rule",
        "scope",
        "state",
        "state_event_id",
        "state_reason",
        "stream",
        "subscription_state",
        "sync_state",
        "reason",
        "topic",
        "type",
        "want",
        "baf_client_id",
        "distribution_gguid",
        "gguid",
    }
)
"""Text fields of our own contracts that hold ids, codes and names of rules."""

_HASHES: Final = frozenset({"desired_hash", "email_hmac"})
_SECRET: Final = re.compile(r"passw|secret|token|credential", re.IGNORECASE)
_GGUID: Final = re.compile(r"[0-9A-F]{32}")
_INSTANT: Final = re.compile(r"\d{4,}-\d\d-\d\dT[\d:.]+Z")


def masked(record: Mapping[str, Any], *, reveal: bool = False) -> dict[str, Any]:
    """The record as it may be shown, in values that JSON knows. Nothing stays nothing, so that a gap can be seen.

    Shape: a change envelope, a record of one of our contracts, or any JSON object.
    reveal: show personal values too; what is named like a secret stays hidden even then.
    """
    if {"op", "source", "before", "after"} <= record.keys():
        return {
            name: _row(value, reveal) if name in ("before", "after") else _plain(value)
            for name, value in record.items()
        }
    return {name: _field(name, value, reveal) for name, value in record.items()}


def _row(row: Any, reveal: bool) -> Any:
    if not isinstance(row, Mapping):
        return None
    return {
        name: _shown(name, value)
        if reveal or value is None or name in _OPEN_COLUMNS or name in _HASHES or _is_harmless(name, value)
        else HIDDEN
        for name, value in row.items()
    }


def _is_harmless(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return bool(_INSTANT.fullmatch(value)) or (name.endswith("gguid") and bool(_GGUID.fullmatch(value)))


def _field(name: str, value: Any, reveal: bool) -> Any:
    match value:
        case None:
            return None
        case _ if _SECRET.search(name):
            return HIDDEN
        case _ if reveal or name in _OPEN_FIELDS or name in _HASHES:
            return _shown(name, value)
        case Mapping() if name == "values":  # attribute id → value, of whatever type
            return {attribute: None if held is None else HIDDEN for attribute, held in value.items()}
        case Mapping():
            return {inner: _field(inner, held, reveal) for inner, held in value.items()}
        case list() | tuple():
            return [_field(name, held, reveal) for held in value]
        case bool() | int() | float() | datetime():
            return _plain(value)
    return HIDDEN


def _shown(name: str, value: Any) -> Any:
    match value:
        case _ if _SECRET.search(name):
            return None if value is None else HIDDEN
        case Mapping():
            return {inner: _shown(inner, held) for inner, held in value.items()}
        case list() | tuple():
            return [_shown(name, held) for held in value]
        case bytes() if name == "key":
            return value.decode("utf-8", "backslashreplace")
    return _plain(value)


def _plain(value: Any) -> Any:
    match value:
        case bytes() if len(value) <= 32:
            return value.hex()
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.isoformat()
    return value
