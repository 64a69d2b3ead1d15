"""A CRM full of sample people: the structure around them, then the people themselves by COPY."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import asyncpg
import msgspec

from connectors.postgres.failures import translated
from connectors.smartwe.clients import ensure_clients
from connectors.smartwe.population import CHANNELS, COLUMNS, SOURCES, Batch, Population, Room
from schemas.errors import Misconfigured, Refused
from schemas.ids import gguid_of

BATCH: Final = 2_500
"""People in one transaction: small enough that capture works on the first ones while the last are still written."""


class ClientTargets(msgspec.Struct, frozen=True):
    """What a client offers: its lists (the first for its own distribution, the second for the shared one), and its
    attributes by the column of `address` that each shows."""

    lists: tuple[int, ...]
    attributes: Mapping[str, int]


class SampleReport(msgspec.Struct, frozen=True):
    """What is now in the CRM because of one load. Consents count those that the database appended by itself."""

    addresses: int
    persons: int
    contact_persons: int
    companies: int
    without_email: int
    impossible_email: int
    shared_mailboxes: int
    deactivated: int
    deleted: int
    objected: int
    profiles: int
    consents: Mapping[str, int]
    recipients: Mapping[str, int]
    distributions: Mapping[str, str]
    seconds: float


async def load_sample(
    dsn: str,
    *,
    addresses: int,
    seed: int,
    clients: Sequence[str],
    bindings: Mapping[str, ClientTargets],
    progress: Callable[[int], None] | None = None,
) -> SampleReport:
    """Load `addresses` people that `seed` determines, as members of one distribution for each client and a shared one.

    Structure is committed first, then people in batches; `progress` hears how many are committed. Clients that are
    missing are created. Another seed may be loaded on top.
    Raises: Misconfigured, when a target is missing or names no column; Refused, when this seed is already loaded or a
        list is bound to another distribution; Unavailable or AnswerLost, when the database goes away: the batches
        reported to `progress` are there.
    """
    started = time.perf_counter()
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            rooms = await _lay_structure(dsn, connection, clients, bindings)
            population = Population(rooms, addresses=addresses, seed=seed)
            await _write(dsn, connection, population, seed, progress)
        finally:
            await connection.close()
    counts = population.counts
    return SampleReport(
        addresses=counts["addresses"],
        persons=counts["person"],
        contact_persons=counts["contact_person"],
        companies=counts["company"],
        without_email=counts["without_email"],
        impossible_email=counts["impossible_email"],
        shared_mailboxes=counts["shared_mailboxes"],
        deactivated=counts["deactivated"],
        deleted=counts["deleted"],
        objected=counts["objected"],
        profiles=counts["profiles"],
        consents=_named(counts, "consent/"),
        recipients=_named(counts, "recipients/"),
        distributions={_distribution_title(room): room.distribution for room in rooms},
        seconds=time.perf_counter() - started,
    )


def _named(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in sorted(counts.items()) if name.startswith(prefix)}


def _distribution_title(room: Room) -> str:
    return f"Newsletter {room.clients[0].upper()}" if len(room.clients) == 1 else "Newsletter für alle"


async def _write(
    dsn: str, first: asyncpg.Connection, population: Population, seed: int, progress: Callable[[int], None] | None
) -> None:
    """Copy all batches, on two connections: one batch is drawn and encoded here while the server checks another."""
    batches = population.batches(BATCH)
    turn = asyncio.Lock()
    committed = 0

    async def draw() -> Batch | None:
        async with turn:  # a generator serves one at a time
            return await asyncio.to_thread(next, batches, None)

    async def write(connection: asyncpg.Connection, batch: Batch | None) -> None:
        nonlocal committed
        while batch is not None:
            async with connection.transaction():
                for table, columns in COLUMNS.items():
                    await connection.copy_records_to_table(
                        table, schema_name="crm", columns=columns, records=batch[table]
                    )
            committed += len(batch["address"])
            if progress is not None:
                progress(committed)
            batch = await draw()

    opening = await draw()
    if opening is None:
        return
    if await first.fetchval("select exists (select from crm.address where gguid = $1)", opening["address"][0][0]):
        raise Refused(f"the sample of seed {seed} is already loaded; choose another seed. Nothing was changed")
    second = await asyncpg.connect(dsn)
    writers = [asyncio.create_task(write(first, opening)), asyncio.create_task(write(second, await draw()))]
    try:
        await asyncio.gather(*writers)
    finally:
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        await second.close()


async def _lay_structure(
    dsn: str, connection: asyncpg.Connection, clients: Sequence[str], bindings: Mapping[str, ClientTargets]
) -> list[Room]:
    """Create what is missing of clients; then of distributions, bindings, mappings and lookups, in one transaction."""
    fields = await connection.fetch(
        "select column_name from information_schema.columns where table_schema = 'crm' and table_name = 'address'"
    )
    if faults := target_faults(clients, bindings, {row["column_name"] for row in fields}):
        raise Misconfigured(f"the sample cannot be loaded: {'; '.join(faults)}. Nothing was changed")
    rooms = [
        Room(str(gguid_of("sample", "distribution", client)), (client,), 0.6 if number == 0 else 0.35)
        for number, client in enumerate(clients)
    ]
    sharing = tuple(client for client in clients if len(bindings[client].lists) > 1)
    if len(sharing) > 1:
        rooms.append(Room(str(gguid_of("sample", "distribution", "shared")), sharing, 0.12))
    await ensure_clients(dsn, clients)
    async with connection.transaction():
        await connection.executemany(
            "insert into crm.channel (gguid, code, title) values ($1, $2, $3) on conflict do nothing",
            [(gguid_of("sample", "channel", code), code, title) for code, title in CHANNELS.items()],
        )
        await connection.executemany(
            "insert into crm.source (gguid, code, title) values ($1, $2, $3) on conflict do nothing",
            [(gguid_of("sample", "source", code), code, title) for code, title in SOURCES.items()],
        )
        # Own distributions ask by turns for a written proof and for double opt-in; the shared one for a written proof.
        await connection.executemany(
            "insert into crm.distribution (gguid, title, requires_doi, purpose) values ($1, $2, $3, 'newsletter')"
            " on conflict do nothing",
            [(r.distribution, _distribution_title(r), len(r.clients) == 1 and n % 2 == 1) for n, r in enumerate(rooms)],
        )
        bound = [
            (room, client, bindings[client].lists[len(room.clients) > 1]) for room in rooms for client in room.clients
        ]
        await connection.executemany(
            "insert into crm.distribution_binding (gguid, distribution_gguid, baf_client_id, inxmail_list_id)"
            " values ($1, $2, $3, $4) on conflict do nothing",
            [(gguid_of("sample", "binding", r.distribution, c), r.distribution, c, lst) for r, c, lst in bound],
        )
        for room, client, list_id in bound:
            holder = await connection.fetchval(
                "select distribution_gguid from crm.distribution_binding"
                " where baf_client_id = $1 and inxmail_list_id = $2 and deleted_at is null",
                client,
                list_id,
            )
            if holder != room.distribution:
                raise Refused(f"list {list_id} of client {client} is bound to another distribution; nothing changed")
        await connection.executemany(
            "insert into crm.field_mapping (gguid, baf_client_id, crm_table, crm_field, inxmail_attribute_id,"
            " authority, null_policy, scale) values ($1, $2, 'address', $3, $4, $5, 'clear', $6)"
            " on conflict do nothing",
            [
                (
                    gguid_of("sample", "mapping", client, field),
                    client,
                    field,
                    attribute,
                    "crm_owned" if field.startswith("x_") else "master",
                    2 if field == "x_revenue" else None,
                )
                for client in clients
                for field, attribute in bindings[client].attributes.items()
            ],
        )
    return rooms


def target_faults(
    clients: Sequence[str], bindings: Mapping[str, ClientTargets], address_columns: set[str]
) -> list[str]:
    """What is wrong with the targets, one phrase each; empty when nothing is."""
    faults = [] if clients else ["no client is named"]
    for client in clients:
        if client not in bindings:
            faults.append(f"client {client} has no targets")
        elif not bindings[client].lists:
            faults.append(f"client {client} offers no list")
        else:
            unknown = sorted(bindings[client].attributes.keys() - address_columns)
            faults.extend(f"crm.address has no column {field} (client {client})" for field in unknown)
    return faults
