"""Who must be subscribed and with which values, stated from the CRM's rows alone and apart from the law that decides.

Only a demonstration or a test asks this. The rules stand in `expectation.sql`; here e-mail addresses get their one
spelling and mapped columns are read.
"""

import asyncio
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

import asyncpg
import msgspec

from connectors.postgres import statements
from connectors.postgres.failures import translated
from schemas.ids import normalise_email

Place = tuple[str, int, str]
"""Client, list id, normalised e-mail."""
Value = None | bool | int | float | Decimal | date | datetime | str

_MAPPED_TABLES: Final = {"address": "address", "address_profile": "profile"}


class Membership(msgspec.Struct, frozen=True):
    """What a membership that must be there shows, and the GGUID of the address that leads its mailbox."""

    values: dict[int, Value]
    address: str


async def expected_memberships(
    connection: asyncpg.Connection,
    *,
    email_hashes: Callable[[str], Sequence[bytes]] = lambda _: (),
    skew_seconds: float = 60.0,
) -> dict[Place, Membership]:
    """Every membership that must be there, with the values that its mailbox must show, by attribute id.

    email_hashes: the hashes under which a normalised e-mail may stand in `suppression`, one for each key; without it
        suppressions by hash are not seen. skew_seconds: within it an objection wins over a proof.
    Shape: an attribute is absent when nothing is promised of it (an empty column whose mapping says `leave`); arrays
        are joined with a pipe, text is composed and trimmed, empty text is None, decimals have the mapping's scale.
    Raises: Misconfigured, Unavailable, AnswerLost.
    """
    sql = statements.load(__package__, "expectation.sql")
    async with translated(), connection.transaction(isolation="repeatable_read"):
        raw = [row["raw"] for row in await connection.fetch(sql["spellings"])]
        meanings = await asyncio.to_thread(lambda: [_meaning(text, email_hashes) for text in raw])
        await connection.execute(sql["create_mailbox"])
        await connection.copy_records_to_table("mailbox", schema_name="pg_temp", records=meanings)
        await connection.execute("analyze mailbox")
        await connection.execute(sql["plan"])
        members = await connection.fetch(sql["memberships"], timedelta(seconds=skew_seconds))
        await connection.execute("drop table mailbox")
        mappings = await connection.fetch(sql["mappings"])
        rows = {table: await _rows(connection, table, mappings, members) for table in _MAPPED_TABLES}
    return {
        (member["client"], member["list_id"], member["email"]): Membership(
            _values(member, mappings, rows), member["address"]
        )
        for member in members
    }


def _meaning(raw: str, email_hashes: Callable[[str], Sequence[bytes]]) -> tuple[str, str | None, list[bytes]]:
    email = normalise_email(raw)
    return raw, email, list(email_hashes(email)) if email else []


async def _rows(
    connection: asyncpg.Connection, table: str, mappings: Iterable[asyncpg.Record], members: Iterable[asyncpg.Record]
) -> Mapping[str, asyncpg.Record]:
    """The mapped columns of the rows that lead, by GGUID."""
    fields = sorted({mapping["field"] for mapping in mappings if mapping["table"] == table})
    gguids = {member[_MAPPED_TABLES[table]] for member in members} - {None}
    if not fields or not gguids:
        return {}
    columns = ", ".join(f'"{field}"' for field in fields)  # names that the catalogue of the database gave
    found = await connection.fetch(
        f"select gguid as row_gguid, {columns} from crm.{table} where gguid = any ($1::char(32)[])", list(gguids)
    )
    return {row["row_gguid"]: row for row in found}


def _values(
    member: asyncpg.Record, mappings: Iterable[asyncpg.Record], rows: Mapping[str, Mapping[str, asyncpg.Record]]
) -> dict[int, Value]:
    values: dict[int, Value] = {}
    for mapping in mappings:
        if mapping["client"] != member["client"]:
            continue
        row = rows[mapping["table"]].get(member[_MAPPED_TABLES[mapping["table"]]])
        value = shown(row[mapping["field"]] if row else None, mapping["scale"])
        if value is not None or mapping["clears"]:
            values[mapping["attribute"]] = value
    return values


def shown(value: Any, scale: int | None) -> Value:
    """A column's value as a recipient shows it."""
    match value:
        case str():
            return unicodedata.normalize("NFC", value).strip() or None
        case list():
            return "|".join(str(part) for part in value) or None
        case Decimal() if scale is not None:
            return value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
        case None | bool() | int() | float() | Decimal() | date():
            return value
    return str(value)
