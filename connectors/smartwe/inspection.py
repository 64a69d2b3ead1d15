"""What people ask of the CRM about the pipeline's work. Reads only; statements in `inspection.sql`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import msgspec
from pydantic import SecretStr

from connectors.postgres.failures import translated
from connectors.postgres.statements import load

_DEADLINE_SECONDS = 15.0


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


@asynccontextmanager
async def reading(dsn: SecretStr) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A read-only session with the CRM. Raises: Unavailable, when it is not there; Misconfigured."""
    async with translated():
        connection = await asyncpg.connect(
            dsn.get_secret_value(),
            timeout=_DEADLINE_SECONDS,
            command_timeout=_DEADLINE_SECONDS,
            server_settings={"application_name": "verteiler-inspection", "default_transaction_read_only": "on"},
        )
    try:
        yield connection
    finally:
        connection.terminate()
