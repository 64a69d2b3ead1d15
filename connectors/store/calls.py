"""What the client worker has under way: calls, imports, and how they ended. Statements stand in `delivery.sql`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
import msgspec

from connectors.postgres.statements import load
from connectors.store.delivery import as_json
from connectors.store.listening import Connection
from schemas.delivery import CallState, Expectation, ImportPhase, OpenImport, OpenRow
from schemas.facts import Effect
from schemas.mutations import Version

_SQL = load("connectors.store", "delivery.sql")

Record = asyncpg.Record
_values = msgspec.json.Decoder(dict[str, str | None])
_texts = msgspec.json.Decoder(tuple[str, ...])


class LastCall(NamedTuple):
    """The last call of a kind for one version."""

    op_id: str
    state: CallState
    ordinal: int
    attempts: int


class LostCall(NamedTuple):
    """A call that a former leader left open."""

    kind: str
    mailbox: str
    list_id: int | None
    op_id: str


class Calls:
    """Tables `effect`, `open_import` and `open_import_row` of one client."""

    def __init__(self, connection: Connection, client: str) -> None:
        self._connection = connection
        self._client = client

    # single calls

    async def is_newest(self, mailbox: str, version: Version) -> bool:
        """Whether this is still the newest mutation of the mailbox."""
        newest: bool = await self._connection.fetchval(
            _SQL["is_newest"], self._client, mailbox, version.epoch, version.counter
        )
        return newest

    async def last(self, kind: str, mailbox: str, list_id: int | None, version: Version) -> LastCall | None:
        """The last call of that kind for that version."""
        row = await self._connection.fetchrow(
            _SQL["last_call"], self._client, kind, mailbox, list_id, version.epoch, version.counter
        )
        if row is None:
            return None
        return LastCall(row["op_id"], CallState(row["outcome"]), row["ordinal"], row["attempts"])

    async def begin(
        self, op_id: str, kind: str, mailbox: str, list_id: int | None, version: Version, ordinal: int, position: int
    ) -> int:
        """Write a call down before it is made; which attempt it is, from 1."""
        attempts: int = await self._connection.fetchval(
            _SQL["open_call"],
            self._client,
            op_id,
            kind,
            mailbox,
            list_id,
            version.epoch,
            version.counter,
            ordinal,
            position,
        )
        return attempts

    async def end(self, op_id: str, state: CallState, remote_id: int | None = None) -> None:
        """How a call ended."""
        await self._connection.execute(_SQL["end_call"], self._client, op_id, state.value, remote_id)

    async def lose_open(self) -> list[LostCall]:
        """Take the single calls that a former leader left open for lost."""
        found = await self._connection.fetch(_SQL["lose_open_calls"], self._client)
        return [LostCall(row["kind"], row["mailbox"], row["list_id"], row["op_id"]) for row in found]

    # imports

    async def intend(
        self,
        op_id: str,
        plan: tuple[int | None, bool, tuple[str, ...]],
        rows: Sequence[OpenRow],
        positions: tuple[int, int],
    ) -> tuple[OpenImport, set[str]]:
        """Write an import down before it is sent, with the rows that are made for the newest mutation.

        plan: list, resubscribe, columns. positions: last entry known of the subscription and the unsubscription log.
        Gives the import and the mailboxes it has.
        """
        list_id, resubscribe, columns = plan
        intended_at: datetime = await self._connection.fetchval(
            _SQL["intend_import"], self._client, op_id, list_id, resubscribe, as_json(columns), positions[0]
        )
        found = await self._connection.fetch(
            _SQL["intend_rows"],
            self._client,
            op_id,
            [row.mailbox for row in rows],
            [row.email for row in rows],
            [as_json(row.values) for row in rows],
            [row.version.epoch for row in rows],
            [row.version.counter for row in rows],
            [as_json(row.claims) for row in rows],
        )
        await self._connection.execute(_SQL["intend_effect"], self._client, op_id, list_id, len(found), positions[1])
        opened = OpenImport(op_id, list_id, resubscribe, columns, ImportPhase.INTENDED, intended_at)
        return opened, {row["mailbox"] for row in found}

    async def drop_rows(self, op_id: str, mailboxes: Sequence[str]) -> None:
        """Rows that the door did not let through."""
        await self._connection.execute(_SQL["drop_rows"], self._client, op_id, mailboxes)

    async def posted(self, op_id: str, import_id: int) -> None:
        """The far side has taken it."""
        await self._connection.execute(_SQL["post_import"], self._client, op_id, import_id)
        await self._connection.execute(_SQL["end_call"], self._client, op_id, CallState.OPEN.value, import_id)

    async def end_import(self, op_id: str, state: CallState, failures: Mapping[str, str]) -> None:
        """Nothing of it can take effect any more. failures: mailbox → error code."""
        phase = ImportPhase.CLOSED if state is CallState.UNDONE else ImportPhase.ENDED
        if failures:
            await self._connection.execute(
                _SQL["fail_rows"], self._client, op_id, list(failures), list(failures.values())
            )
        await self._connection.execute(_SQL["end_import"], self._client, op_id, state.value, phase.value)
        await self._connection.execute(_SQL["end_call"], self._client, op_id, state.value, None)

    async def unfinished(self) -> list[OpenImport]:
        """Imports that a former leader left open."""
        found = await self._connection.fetch(_SQL["unfinished_imports"], self._client)
        return [msgspec.convert({**row, "columns": _texts.decode(row["columns"])}, OpenImport) for row in found]

    async def rows_of(self, op_id: str) -> list[OpenRow]:
        """The rows of an import."""
        return [
            OpenRow(
                mailbox=row["mailbox"],
                email=row["email"],
                values=_values.decode(row["held_values"]),
                version=Version(row["epoch"], row["counter"]),
                claims=_texts.decode(row["claims"]),
            )
            for row in await self._connection.fetch(_SQL["import_rows"], self._client, op_id)
        ]

    async def ended(self) -> list[str]:
        """Imports that have ended, and the logs are still to be read to their end."""
        return [row["op_id"] for row in await self._connection.fetch(_SQL["ended_imports"], self._client)]

    async def close(self, op_ids: Sequence[str]) -> None:
        """The logs were read to their end since these ended."""
        await self._connection.execute(_SQL["close_imports"], self._client, op_ids)

    async def own_import_ids(self) -> set[int]:
        """The far side's ids of all imports that are known to be ours."""
        return {row["remote_id"] for row in await self._connection.fetch(_SQL["own_import_ids"], self._client)}

    async def subscribing(self, mailboxes: Sequence[str], *, under_way: bool = False) -> set[tuple[str, int]]:
        """(mailbox, list) that a call may subscribe which is open, or ended and not closed (not with `under_way`)."""
        phases = [ImportPhase.INTENDED.value, ImportPhase.POSTED.value]
        if not under_way:
            phases.append(ImportPhase.ENDED.value)
        found = await self._connection.fetch(_SQL["subscribing"], self._client, mailboxes, phases)
        return {(row["mailbox"], row["list_id"]) for row in found}

    async def doubtful_rows(self, op_id: str) -> list[str]:
        """The mailboxes of an import that the door must look at: all but those that nothing was heard of."""
        return [row["mailbox"] for row in await self._connection.fetch(_SQL["doubtful_rows"], self._client, op_id)]

    async def is_subscribing_now(self, mailbox: str, list_id: int) -> bool:
        """Whether an import that is under way may subscribe it."""
        found: bool = await self._connection.fetchval(_SQL["subscribing_now"], self._client, mailbox, list_id)
        return found

    async def expectations(self, mailboxes: Sequence[str]) -> list[Expectation]:
        """Calls whose entry in a log may still come."""
        found = await self._connection.fetch(_SQL["expectations"], self._client, mailboxes)
        return [msgspec.convert(dict(row), Expectation) for row in found]

    # effects

    async def unproduced(self, most: int) -> list[Effect]:
        """Calls whose present outcome the effects topic was not told."""
        return self._effects(await self._connection.fetch(_SQL["unproduced_effects"], self._client, most))

    async def effects(self, op_ids: Sequence[str]) -> list[Effect]:
        """These calls as they stand."""
        return self._effects(await self._connection.fetch(_SQL["effects"], self._client, op_ids))

    async def mark_produced(self, effects: Sequence[Effect]) -> None:
        """The effects topic has these."""
        await self._connection.execute(
            _SQL["mark_effects"],
            self._client,
            [effect.op_id for effect in effects],
            [effect.outcome for effect in effects],
        )

    async def forget_older_than(self, seconds: float) -> None:
        """Drop closed imports and attribute writes that everybody knows of."""
        await self._connection.execute(_SQL["forget_old"], self._client, seconds)

    def _effects(self, rows: Sequence[Record]) -> list[Effect]:
        return [msgspec.convert({"client": self._client, **row}, Effect) for row in rows]
