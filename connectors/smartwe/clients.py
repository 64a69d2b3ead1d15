"""The Inxmail clients that the CRM knows."""

from collections.abc import Collection, Sequence

import asyncpg

from connectors.postgres.failures import translated
from schemas.ids import gguid_of


async def client_ids(dsn: str) -> set[str]:
    """The ids of all clients that are not retired. Raises: Misconfigured, Unavailable."""
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            rows = await connection.fetch("select baf_client_id from crm.baf_client where state <> 'retired'")
        finally:
            await connection.close()
    return {row["baf_client_id"] for row in rows}


async def ensure_clients(dsn: str, ids: Sequence[str]) -> Collection[str]:
    """Create a row for each of these clients that has none, in this order of rank; the ids that were new.

    Raises: Refused, when an id is none that the CRM takes; Misconfigured, Unavailable.
    """
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            rows = await connection.fetch(
                "insert into crm.baf_client (gguid, baf_client_id, title, writeback_rank)"
                " select * from unnest($1::text[], $2::text[], $3::text[], $4::int[])"
                " on conflict do nothing returning baf_client_id",
                [gguid_of("client", client) for client in ids],
                list(ids),
                [f"Mandant {client.upper()}" for client in ids],
                list(range(1, len(ids) + 1)),
            )
        finally:
            await connection.close()
    return [row["baf_client_id"] for row in rows]
