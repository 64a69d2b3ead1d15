"""What capture needs to know of the CRM's server: which history its log positions belong to, and how far it lags."""

import asyncpg
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from connectors.postgres.failures import translated
from schemas.errors import Unavailable


class History(msgspec.Struct, frozen=True):
    """One line of write-ahead log: positions compare only inside it. A restored server starts another."""

    system_identifier: str
    timeline: int


class SlotLag(msgspec.Struct, frozen=True):
    """A replication slot. `unconfirmed_bytes`: log that capture has not confirmed; `retained_bytes`: kept for it."""

    active: bool
    wal_status: str | None
    retained_bytes: int
    unconfirmed_bytes: int


async def history(connection: asyncpg.Connection) -> History:
    """The history that this server writes now. Raises: Unavailable; Misconfigured, when the role may not see it."""
    async with translated():
        row = await connection.fetchrow(
            "select system.system_identifier::text as system_identifier, checkpoint.timeline_id as timeline"
            " from pg_control_system() system, pg_control_checkpoint() checkpoint"
        )
    assert row is not None  # both functions give exactly one row
    return History(row["system_identifier"], row["timeline"])


async def slot_lag(connection: asyncpg.Connection, slot: str) -> SlotLag | None:
    """How far a slot lags; None when there is none. Raises: Unavailable."""
    async with translated():
        row = await connection.fetchrow(
            "select active, wal_status,"
            " coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint as retained_bytes,"
            " coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint as unconfirmed_bytes"
            " from pg_replication_slots where slot_name = $1",
            slot,
        )
    return None if row is None else SlotLag(**dict(row))


async def drop_slot(connection: asyncpg.Connection, slot: str, *, within_seconds: float = 10.0) -> bool:
    """Drop a slot; whether there was one. A connector that was stopped needs a moment to let go of it.

    Raises: Unavailable, when it is still read after that.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_delay(within_seconds),
        wait=wait_fixed(0.2),
        reraise=True,
    ):
        with attempt:
            async with translated():
                dropped = await connection.fetch(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", slot
                )
    return bool(dropped)
