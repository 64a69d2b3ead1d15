"""What people ask of the pipeline's state. Reads only; statements in `inspection.sql`."""

from datetime import datetime

import asyncpg
import msgspec

from connectors.postgres.failures import translated
from connectors.postgres.statements import load


class Unapplied(msgspec.Struct, frozen=True):
    """Mailboxes of one client whose newest mutation has no answer. `oldest_at`: when its source was committed."""

    mailboxes: int
    oldest_at: datetime


class Unproduced(msgspec.Struct, frozen=True):
    """Records that were decided and that no broker has confirmed."""

    records: int
    oldest_at: datetime | None


class Unsettled(msgspec.Struct, frozen=True):
    """What a wide row touched and the sweeper still has to decide."""

    persons: int
    mailboxes: int


class HeldClaims(msgspec.Struct, frozen=True):
    """Claims of one client that wait for an e-mail change to be carried out. `recipients`: some of their GGUIDs."""

    client: str
    claims: int
    recipients: tuple[str, ...]


class Quarantined(msgspec.Struct, frozen=True):
    """Mailboxes that one client refuses as a whole or in single fields; `paused`: it refuses us altogether."""

    client: str
    mailboxes: int
    paused: int
    with_rejected_values: int


class Cursor(msgspec.Struct, frozen=True):
    """How far one stream of a client was read. `at`: when the pipeline last came further."""

    client: str
    stream: str
    last_event_id: int | None
    at: datetime


class Delivery(msgspec.Struct, frozen=True):
    """What a client's worker has in hand: mailboxes to be looked at, imports and calls whose end is not known yet."""

    client: str
    pending: int
    open_imports: int
    oldest_import_at: datetime | None
    open_calls: int


class Lease(msgspec.Struct, frozen=True):
    """Who leads for a client; not held: nobody does now."""

    client: str
    epoch: int
    holder: str
    is_held: bool


class Inspection:
    """Questions to schema `sync`. Raises in every method: Unavailable, Misconfigured."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._sql = load("connectors.store", "inspection.sql")

    async def unapplied(self) -> dict[tuple[str, str], Unapplied]:
        """By client and lane; where everything is answered, there is nothing."""
        rows = await self._fetch("unapplied")
        return {(row["client"], row["lane"]): Unapplied(row["mailboxes"], row["oldest_at"]) for row in rows}

    async def unproduced(self) -> Unproduced:
        """Over all topics."""
        (row,) = await self._fetch("unproduced")
        return Unproduced(**dict(row))

    async def unsettled(self) -> Unsettled:
        """Over all clients."""
        (row,) = await self._fetch("unsettled")
        return Unsettled(**dict(row))

    async def held_claims(self, most: int) -> list[HeldClaims]:
        """At most `most` recipients are named for each client."""
        rows = await self._fetch("held_claims", most)
        return [HeldClaims(row["client"], row["claims"], tuple(row["recipients"])) for row in rows]

    async def quarantined(self) -> list[Quarantined]:
        """A client that refuses nothing does not appear."""
        return [Quarantined(**dict(row)) for row in await self._fetch("quarantined")]

    async def cursors(self) -> list[Cursor]:
        """Every stream of every client."""
        return [Cursor(**dict(row)) for row in await self._fetch("cursors")]

    async def deliveries(self) -> list[Delivery]:
        """A client whose worker has nothing in hand does not appear."""
        return [Delivery(**dict(row)) for row in await self._fetch("deliveries")]

    async def leases(self) -> list[Lease]:
        """One for each client that ever had a leader."""
        return [Lease(**dict(row)) for row in await self._fetch("leases")]

    async def _fetch(self, statement: str, *arguments: object) -> "list[asyncpg.Record]":
        async with translated():
            return await self._connection.fetch(self._sql[statement], *arguments)
