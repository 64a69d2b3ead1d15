"""A session that only looks: for people's questions, beside everything that works."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from pydantic import SecretStr

from connectors.postgres.failures import translated

_DEADLINE_SECONDS: Final = 10.0


@asynccontextmanager
async def reading(dsn: SecretStr) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A session that may only read; every statement has a deadline.

    Raises: Unavailable, when it cannot be had; Misconfigured.
    """
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
