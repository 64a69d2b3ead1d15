"""CRM rows that the pipeline reads: the columns it needs, typed. Unknown columns are allowed and kept apart.

Timestamps arrive as ISO 8601 text with zone, dates as `YYYY-MM-DDZ`, numerics as text (Debezium's `isostring` and
`string` modes), binary as bytes or, once stored as JSON, as base64; `read_row` turns them into Python values.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from schemas.errors import MalformedInput


class Client(msgspec.Struct, frozen=True):
    """`crm.baf_client`: one Inxmail client (never its address or credentials)."""

    gguid: str
    baf_client_id: str
    state: str = "active"
    bulk_threshold: int | None = None
    writeback_rank: int | None = None


class Distribution(msgspec.Struct, frozen=True):
    """`crm.distribution`."""

    gguid: str
    title: str | None = None
    requires_doi: bool = False
    required_proof: int | None = None
    one_mail_per_person: bool = False
    deleted_at: datetime | None = None


class Binding(msgspec.Struct, frozen=True):
    """`crm.distribution_binding`: a distribution's list in one client."""

    gguid: str
    distribution_gguid: str
    baf_client_id: str
    inxmail_list_id: int | None = None
    direction: str = "both"
    state: str = "active"
    doi_mode: str = "none"
    email_field: str | None = None
    on_distribution_delete: str = "detach"
    deleted_at: datetime | None = None


class Address(msgspec.Struct, frozen=True):
    """`crm.address`, without the columns that only mappings name."""

    gguid: str
    email1: str | None = None
    email2: str | None = None
    email3: str | None = None
    is_deactivated: bool = False
    is_objected_global: bool = False
    subject_id: str | None = None
    deleted_at: datetime | None = None


class Profile(msgspec.Struct, frozen=True):
    """`crm.address_profile`."""

    gguid: str
    address_gguid: str
    baf_client_id: str | None = None
    email: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    deleted_at: datetime | None = None


class Recipient(msgspec.Struct, frozen=True):
    """`crm.distribution_recipient`: what a CRM user wants; says nothing about what may be."""

    gguid: str
    distribution_gguid: str
    baf_client_id: str
    address_gguid: str
    profile_gguid: str | None = None
    email_override: str | None = None
    desired: str = "member"
    desired_reason: str | None = None
    consent_gguid: str | None = None
    pin_leading: bool = False
    inserttimestamp: datetime | None = None
    deleted_at: datetime | None = None


class Consent(msgspec.Struct, frozen=True):
    """`crm.consent`: a proof or an objection, appended and never changed."""

    gguid: str
    kind: str
    captured_at: datetime
    inserttimestamp: datetime
    address_gguid: str | None = None
    baf_client_id: str | None = None
    distribution_gguid: str | None = None
    email: str | None = None
    proof_level: int = 0
    requested_at: datetime | None = None
    confirmed_at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


class Suppression(msgspec.Struct, frozen=True):
    """`crm.suppression`: who must not be mailed, as a keyed hash or a pattern."""

    gguid: str
    scope: str
    reason: str
    since: datetime
    match: str = "mailbox"
    baf_client_id: str | None = None
    distribution_gguid: str | None = None
    email_hmac: bytes | None = None
    pattern: str | None = None
    until: datetime | None = None
    origin: str | None = None
    lifted_by_consent_gguid: str | None = None
    deleted_at: datetime | None = None


class FieldMapping(msgspec.Struct, frozen=True):
    """`crm.field_mapping`: a CRM column and the Inxmail attribute that shows it, by attribute id."""

    gguid: str
    baf_client_id: str
    crm_table: str
    crm_field: str
    inxmail_attribute_id: int
    direction: str = "out"
    null_policy: str = "leave"
    overflow_policy: str = "reject"
    scale: int | None = None
    transform: str | None = None
    state: str = "active"
    deleted_at: datetime | None = None


Row = Client | Distribution | Binding | Address | Profile | Recipient | Consent | Suppression | FieldMapping

ROW_TYPES: Final[Mapping[str, type[Row]]] = {
    "baf_client": Client,
    "distribution": Distribution,
    "distribution_binding": Binding,
    "address": Address,
    "address_profile": Profile,
    "distribution_recipient": Recipient,
    "consent": Consent,
    "suppression": Suppression,
    "field_mapping": FieldMapping,
}
"""Table in schema `crm` → what the pipeline reads of it. Other captured tables are kept in their topics."""


def read_row(table: str, columns: Mapping[str, Any]) -> Row:
    """The typed row of `table`; columns that the type does not name are passed over.

    Raises: MalformedInput, when a needed column is missing or holds what its type cannot. No value is told.
    """
    kind = ROW_TYPES[table]
    present = {name: value for name, value in columns.items() if value is not None}
    try:
        return msgspec.convert(present, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise MalformedInput(f"a row of {table} does not fit: {_column(error)}") from None


def _column(error: Exception) -> str:
    """The name of the column at fault; never its value."""
    named = re.search(r"(?:field|at) `\$?\.?(\w+)`", str(error))
    return f"column {named[1]}" if named else type(error).__name__
