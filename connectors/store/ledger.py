"""The client worker's tables, reached as its leader: every transaction that writes checks the lease first.

Writing transactions of one process are one after the other, so they neither deadlock nor overtake each other.
Errors of the database leave as `PipelineError`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from connectors.postgres.failures import translated
from connectors.postgres.statements import load
from connectors.store.calls import Calls
from connectors.store.delivery import Deliveries
from connectors.store.listening import Connection, Listening
from schemas.errors import AnswerLost, Fenced, Unavailable

_SQL = load("connectors.store", "delivery.sql")
_COMMAND_SECONDS: Final = 20.0


class LedgerLost(Fenced):
    """The tables cannot be reached: what was under way is finished by whoever starts next."""


class Books:
    """One connection's view of the tables, by what they are about."""

    def __init__(self, connection: Connection, client: str) -> None:
        self.deliveries = Deliveries(connection, client)
        self.calls = Calls(connection, client)
        self.listening = Listening(connection, client)


class LeaseTable:
    """`fence.lease`, for one client. Raises PipelineError as `connectors.postgres.failures` says."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", client: str) -> None:
        self._pool = pool
        self._client = client

    async def acquire(self, holder: str, seconds: float, dead: list[str]) -> int | None:
        """Lead, if nobody does or the one who does is among the dead. The new epoch; None while another leads."""
        async with translated():
            epoch: int | None = await self._pool.fetchval(_SQL["acquire_lease"], self._client, holder, seconds, dead)
            return epoch

    async def holder(self) -> str | None:
        """Who led last."""
        async with translated():
            holder: str | None = await self._pool.fetchval(_SQL["lease_holder"], self._client)
            return holder

    async def renew(self, epoch: int, seconds: float) -> bool:
        """Go on leading. False when another has taken over."""
        async with translated():
            return await self._pool.fetchval(_SQL["renew_lease"], self._client, epoch, seconds) is not None

    async def release(self, epoch: int) -> None:
        """Lead no more: nothing is under way, another may start at once."""
        async with translated():
            await self._pool.execute(_SQL["release_lease"], self._client, epoch)


class Ledger:
    """The tables under one epoch. Raises: Fenced, when another leads; LedgerLost, when the database fails."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", client: str, epoch: int) -> None:
        self._pool = pool
        self._client = client
        self._epoch = epoch
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Books]:
        """A transaction that may write. When another leads now, nothing of it remains."""
        async with self._writing, _or_stop(), self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_SQL["check_lease"], self._client, self._epoch) is None:
                raise Fenced(
                    f"another worker leads for client {self._client}; this one stops, and the new leader takes over"
                    " what it left"
                )
            yield Books(connection, self._client)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Books]:
        """For statements that only read."""
        async with _or_stop(), self._pool.acquire() as connection:
            yield Books(connection, self._client)


@asynccontextmanager
async def _or_stop() -> AsyncIterator[None]:
    """A transaction of unknown end must not be followed by another: whoever starts next reads what is so."""
    try:
        async with translated():
            yield
    except (Unavailable, AnswerLost) as failure:
        raise LedgerLost(f"{failure}; the worker stops, and nothing is lost: its next start goes on") from failure


async def open_pool(dsn: str, *, transaction_seconds: float) -> "asyncpg.Pool[asyncpg.Record]":
    """A small pool: one writer, a few readers. Raises: PipelineError.

    transaction_seconds: a transaction that takes longer is ended by the database. A process that is frozen inside one
    would otherwise keep the lease locked, and nobody could take over.
    """
    limit = {"transaction_timeout": f"{int(transaction_seconds * 1000)}ms"}
    async with translated():
        return await asyncpg.create_pool(
            dsn, min_size=1, max_size=4, command_timeout=_COMMAND_SECONDS, server_settings=limit
        )
