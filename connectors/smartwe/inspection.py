"""What people ask of the CRM about the pipeline's work. Reads only; statements in `inspection.sql`."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from connectors.postgres.failures import translated
from connectors.postgres.statements import load


class ShownStatus(msgspec.Struct, frozen=True):
    """What a CRM user sees of one recipient, and since when; (epoch, version) name the record that put it there."""

    recipient: str
    subscription_state: str
    state_reason: str | None
    sync_state: str
    last_error_code: str | None
    pipeline_epoch: int
    pipeline_version: int
    written_at: datetime


async def open_conflicts(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Conflicts that nobody has resolved. Raises: Unavailable, Misconfigured."""
    async with translated():
        count: int = await connection.fetchval(load("connectors.smartwe", "inspection.sql")["open_conflicts"])
    return count


async def statuses(
    connection: "asyncpg.Connection[asyncpg.Record]", recipients: Sequence[str]
) -> dict[str, ShownStatus]:
    """By recipient; one without a row does not appear. Raises: Unavailable, Misconfigured."""
    async with translated():
        rows = await connection.fetch(load("connectors.smartwe", "inspection.sql")["statuses"], recipients)
    return {row["recipient"]: ShownStatus(**dict(row)) for row in rows}
