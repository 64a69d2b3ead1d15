"""Loads people from a file of one's own into the CRM, as members of a distribution; bad lines are told."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from connectors.postgres.failures import failure_of, translated
from connectors.smartwe.csv_file import BadLine, Column, CsvFile, Entry
from schemas.errors import MalformedInput, Misconfigured, Refused
from schemas.ids import gguid_of

BATCH: Final = 500
"""Lines in one transaction."""

_NEVER_FROM_A_FILE: Final = ("kind", "company_gguid", "subject_id", "email1", "email2", "email3")


class CsvReport(msgspec.Struct, frozen=True):
    """What became of a file. `already_there`: lines whose person was loaded before, or stands in the file twice.

    `without_consent`: loaded, but the line offers no proof, so nobody will be subscribed because of it.
    """

    encoding: str
    delimiter: str
    ignored_columns: tuple[str, ...]
    lines: int
    loaded: int
    already_there: int
    without_consent: int
    left: int
    bad: tuple[BadLine, ...]
    dry_run: bool


async def load_csv(
    dsn: str,
    path: Path,
    *,
    client: str,
    distribution: str,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> CsvReport:
    """Load the file's people into `distribution` (GGUID or title) of `client`. Loading a file again changes nothing.

    Every line of a batch is written or told as bad. With `dry_run` all is tried and taken back. `progress` hears the
    number of lines dealt with.
    Raises: MalformedInput, when the file as a whole cannot be read; Misconfigured, when client or distribution is
        unknown; Unavailable or AnswerLost, when the database goes away (load the file again).
    """
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise MalformedInput(f"the file cannot be opened: {error.strerror}; nothing was changed") from error
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            place = await _place(connection, client, distribution)
            file = CsvFile(content, await _columns(connection))
            return await _load(connection, file, place, dry_run=dry_run, progress=progress)
        finally:
            await connection.close()


async def _place(connection: asyncpg.Connection, client: str, distribution: str) -> tuple[str, str]:
    """The client and the GGUID of the distribution. Raises: Misconfigured, naming both faults at once."""
    found = await connection.fetch(
        "select gguid from crm.distribution where deleted_at is null and (gguid = $1 or title = $1)", distribution
    )
    known = await connection.fetchval("select exists (select from crm.baf_client where baf_client_id = $1)", client)
    faults = [] if known else [f"there is no client {client}"]
    if len(found) != 1:
        faults.append(f"{len(found) or 'no'} distributions are called {distribution}; give its GGUID")
    if faults:
        raise Misconfigured(f"{'; '.join(faults)}. Nothing was changed")
    return client, found[0]["gguid"]


async def _columns(connection: asyncpg.Connection) -> list[Column]:
    rows = await connection.fetch(
        "select column_name, data_type, character_maximum_length from information_schema.columns"
        " where table_schema = 'crm' and table_name = 'address'"
    )
    own = [Column(row["column_name"], row["data_type"], row["character_maximum_length"]) for row in rows]
    first = next(n for n, column in enumerate(own) if column.name == "kind")  # before it stand technical columns
    return [
        column for column in own[first:] if column.name not in _NEVER_FROM_A_FILE and not column.name.startswith("is_")
    ]


async def _load(
    connection: asyncpg.Connection,
    file: CsvFile,
    place: tuple[str, str],
    *,
    dry_run: bool,
    progress: Callable[[int], None] | None,
) -> CsvReport:
    bad: list[BadLine] = []
    written: list[Entry] = []
    seen: set[str] = set()
    lines = repeated = 0
    rest = file.entries(now=datetime.now(UTC))
    while batch := list(islice(rest, BATCH)):
        lines += len(batch)
        bad += [line for line in batch if isinstance(line, BadLine)]
        entries = [(_key(place, line), line) for line in batch if isinstance(line, Entry)]
        seen |= await _known(connection, [key for key, _ in entries])
        fresh = []
        for key, entry in entries:
            if key in seen:
                repeated += 1
            else:
                fresh.append((key, entry))
                seen.add(key)
        for line in await _write(connection, place, fresh, dry_run=dry_run):
            if isinstance(line, BadLine):
                bad.append(line)
            else:
                written.append(line)
        if progress is not None:
            progress(lines)
    return CsvReport(
        encoding=file.encoding,
        delimiter=file.delimiter,
        ignored_columns=file.ignored,
        lines=lines,
        loaded=len(written),
        already_there=repeated,
        without_consent=sum(entry.consent is None and not entry.left for entry in written),
        left=sum(entry.left for entry in written),
        bad=tuple(sorted(bad, key=lambda line: line.line)),
        dry_run=dry_run,
    )


def _key(place: tuple[str, str], entry: Entry) -> str:
    """The GGUID of the person on this line, the same whenever the line is read."""
    names = (entry.fields.get(field, "") for field in ("first_name", "last_name", "company_name"))
    return gguid_of("csv", *place, entry.mailbox, *names)


async def _known(connection: asyncpg.Connection, keys: Sequence[str]) -> set[str]:
    rows = await connection.fetch("select gguid from crm.address where gguid = any ($1::char(32)[])", keys)
    return {row["gguid"] for row in rows}


async def _write(
    connection: asyncpg.Connection, place: tuple[str, str], entries: Sequence[tuple[str, Entry]], *, dry_run: bool
) -> list[Entry | BadLine]:
    """One transaction; a line that the database refuses is left out and told, the others stay."""
    outcome: list[Entry | BadLine] = []
    batch = connection.transaction()
    await batch.start()
    tried = False
    try:
        for key, entry in entries:
            try:
                async with connection.transaction():
                    await _insert(connection, place, key, entry)
            except asyncpg.PostgresError as error:
                if not isinstance(failure_of(error), Refused):
                    raise
                what = error.constraint_name or error.column_name or type(error).__name__
                outcome.append(BadLine(entry.line, f"the CRM refuses it ({what})"))
            else:
                outcome.append(entry)
        tried = True
    finally:
        if tried and not dry_run:
            await batch.commit()
        else:
            await batch.rollback()
    return outcome


async def _insert(connection: asyncpg.Connection, place: tuple[str, str], key: str, entry: Entry) -> None:
    client, distribution = place
    await _insert_row(connection, "address", {"gguid": key, **entry.fields})
    consent = None
    if entry.consent is not None:
        consent = gguid_of("csv-consent", key)
        await _insert_row(
            connection,
            "consent",
            {
                "gguid": consent,
                "address_gguid": key,
                "baf_client_id": client,
                "distribution_gguid": distribution,
                "email": entry.fields["email1"],
                **entry.consent,
            },
        )
    await _insert_row(
        connection,
        "distribution_recipient",
        {
            "gguid": gguid_of("csv-recipient", key),
            "distribution_gguid": distribution,
            "baf_client_id": client,
            "address_gguid": key,
            "desired": "not_member" if entry.left else "member",
            "desired_reason": "person_request" if entry.left else "import",
            "consent_gguid": consent,
        },
    )


async def _insert_row(connection: asyncpg.Connection, table: str, row: Mapping[str, Any]) -> None:
    columns = ", ".join(f'"{name}"' for name in row)  # names of this module and of the database's own catalogue
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(f"insert into crm.{table} ({columns}) values ({places})", *row.values())
