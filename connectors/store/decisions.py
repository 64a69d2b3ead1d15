"""Decide's tables. One `Decisions` is one transaction's view of them; statements stand in `decide.sql`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from connectors.postgres.statements import load
from schemas.debezium import Position
from schemas.mutations import Cause

_SQL = load("connectors.store", "decide.sql")

Record = asyncpg.Record


class FoldedRow(msgspec.Struct, frozen=True):
    """A CRM row as it is folded. `body`: its columns as JSON; kept also when the row is gone (`live` false)."""

    entity: str
    gguid: str
    position: Position
    live: bool
    person: str | None
    email_hash: bytes | None
    body: str
    topic: str
    partition: int
    offset: int
    committed_at: datetime


class FoldedFact(msgspec.Struct, frozen=True):
    """An entry of one of Inxmail's logs as it is folded."""

    client: str
    stream: str
    event_id: int
    list_id: int | None
    mailbox: str | None
    email_hash: bytes | None
    body: str
    topic: str
    partition: int
    offset: int


class FoldedResult(msgspec.Struct, frozen=True):
    """A delivery result as it is folded. `claims`: the recipients it serves; none where there is no recipient."""

    client: str
    mailbox: str
    email: str
    email_hash: bytes
    answered_epoch: int
    answered_version: int
    claims: tuple[str, ...]
    recipient_id: int | None
    at: datetime
    body: str


class ClaimRow(msgspec.Struct, frozen=True):
    """Where one claim stands."""

    recipient: str
    person: str
    client: str
    distribution: str
    email: str | None
    email_hash: bytes | None
    held_for: str | None


class MailboxRow(msgspec.Struct, frozen=True):
    """The newest decision about a mailbox. `claims`: the recipients that it is to serve."""

    client: str
    mailbox: str
    email: str
    email_hash: bytes
    claims: tuple[str, ...]
    wanted: bool
    epoch: int
    version: int


class EmissionRow(msgspec.Struct, frozen=True):
    """A record to be produced. `body`: as JSON; None: a tombstone. `record`: what it says, while at hand."""

    topic: str
    key: str
    contract: str
    version: int
    hash: bytes
    body: str | None
    email_hash: bytes | None
    caused_at: datetime
    record: msgspec.Struct | None = None


class Noted(msgspec.Struct, frozen=True):
    """What the broker said about a record."""

    topic: str
    key: str
    version: int
    partition: int
    offset: int


class Rest(NamedTuple):
    """How long whom a backlog touched is left alone after the last record, and at most."""

    seconds: float
    longest_seconds: float


def cause_row(cause: Cause) -> tuple[str, int, int, datetime]:
    """A cause as its columns."""
    return cause.topic, cause.partition, cause.offset, cause.committed_at


def _marks(causes: Mapping[Any, Cause]) -> list[list[Any]]:
    """Whom, and what touched them last, for `unnest`."""
    return [list(causes), *(list(column) for column in zip(*map(cause_row, causes.values()), strict=True))]


def _columns(rows: Sequence[msgspec.Struct], *, without: str = "") -> list[list[Any]]:
    """One list for each field, in order, for `unnest`."""
    fields = [name for name in rows[0].__struct_fields__ if name != without]
    return [[getattr(row, name) for row in rows] for name in fields]


class Decisions:
    """The statements of one transaction on one connection. Errors are asyncpg's: the batch is then redelivered."""

    def __init__(self, connection: "asyncpg.Connection[Record]") -> None:
        self._connection = connection

    async def lock_structure(self, *, exclusive: bool) -> None:
        """First of the locks: shared by all who fold persons, exclusive for who folds structure."""
        await self._connection.execute(_SQL["lock_structure" if exclusive else "lock_structure_shared"])

    async def lock_persons(self, persons: Iterable[str]) -> None:
        """Second: sorted, before any e-mail."""
        wanted = sorted(set(persons))
        if wanted:
            await self._connection.execute(_SQL["make_person_locks"], wanted)
            await self._connection.fetch(_SQL["lock_persons"], wanted)

    async def lock_emails(self, hashes: Iterable[bytes]) -> None:
        """Third and last: sorted. What is decided on is read by statements issued after this."""
        wanted = sorted(set(hashes))
        if wanted:
            await self._connection.execute(_SQL["make_email_locks"], wanted)
            await self._connection.fetch(_SQL["lock_emails"], wanted)

    async def folded_persons(self, keys: Sequence[tuple[str, str]]) -> set[str]:
        """The persons of these (entity, GGUID) rows as folded so far."""
        found = await self._connection.fetch(_SQL["folded_persons"], [k[0] for k in keys], [k[1] for k in keys])
        return {row["person"] for row in found}

    async def folded_hashes(self, keys: Sequence[tuple[str, str]]) -> set[bytes]:
        """The mailboxes that these consents and suppressions were about as folded so far."""
        found = await self._connection.fetch(_SQL["folded_hashes"], [k[0] for k in keys], [k[1] for k in keys])
        return {row["email_hash"] for row in found}

    async def fold_rows(self, rows: Sequence[FoldedRow]) -> None:
        """Keep each row unless a newer position of it is known. One row for each key."""
        if rows:
            columns = _columns(rows)
            positions = columns.pop(2)
            columns[2:2] = [[position.epoch for position in positions], [position.lsn for position in positions]]
            await self._connection.execute(_SQL["fold_rows"], *columns)

    async def fold_facts(self, facts: Sequence[FoldedFact]) -> None:
        """Append; an event id that is known changes nothing."""
        if facts:
            await self._connection.execute(_SQL["fold_facts"], *_columns(facts))

    async def fold_results(self, results: Sequence[FoldedResult], cause: Cause) -> None:
        """Keep each result unless a newer one is known. One for each mailbox. What they release is marked."""
        if results:
            newest = {
                (row["client"], row["mailbox"])
                for row in await self._connection.fetch(_SQL["fold_results"], *_columns(results, without="claims"))
            }
            accepted = [result for result in results if (result.client, result.mailbox) in newest]
            await self._serve(accepted, asked=False)
            await self._connection.execute(
                _SQL["dirty_held"], [result.email_hash for result in accepted], *cause_row(cause)
            )

    async def _serve(self, rows: Sequence[FoldedResult] | Sequence[MailboxRow], *, asked: bool) -> None:
        clients, mailboxes = [row.client for row in rows], [row.mailbox for row in rows]
        await self._connection.execute(_SQL["drop_served"], clients, mailboxes, asked)
        served = [
            (row.client, row.mailbox, claim, asked, row.email, row.email_hash) for row in rows for claim in row.claims
        ]
        if served:
            await self._connection.execute(_SQL["put_served"], *zip(*served, strict=True))

    async def structure(self) -> list[Record]:
        """(entity, body) of every live structure row."""
        return await self._connection.fetch(_SQL["structure"])

    async def rows_of_persons(self, persons: Iterable[str]) -> list[Record]:
        """(entity, gguid, person, body) of live addresses, profiles and recipients."""
        return await self._connection.fetch(_SQL["rows_of_persons"], list(persons))

    async def claims_of_persons(self, persons: Iterable[str]) -> list[Record]:
        """(recipient, person, email_hash) as they stand."""
        return await self._connection.fetch(_SQL["claims_of_persons"], list(persons))

    async def predecessors(self, recipients: Sequence[str]) -> list[Record]:
        """(recipient, client, email, email_hash) of the mailboxes that serve these claims."""
        return await self._connection.fetch(_SQL["predecessors"], recipients) if recipients else []

    async def put_claims(self, claims: Sequence[ClaimRow]) -> None:
        """Insert or update."""
        if claims:
            await self._connection.execute(_SQL["put_claims"], *_columns(claims))

    async def drop_claims(self, recipients: Sequence[str]) -> None:
        """Their rows are gone."""
        if recipients:
            await self._connection.execute(_SQL["drop_claims"], recipients)

    async def claims_on_mailboxes(self, hashes: Iterable[bytes]) -> list[ClaimRow]:
        """Every claim on these mailboxes, in any client."""
        found = await self._connection.fetch(_SQL["claims_on_mailboxes"], list(hashes))
        return [ClaimRow(*row) for row in found]

    async def evidence(self, hashes: Iterable[bytes], persons: Iterable[str]) -> list[Record]:
        """(entity, email_hash, person, body) of consents and suppressions about these mailboxes or by these persons."""
        return await self._connection.fetch(_SQL["evidence"], list(hashes), list(persons))

    async def facts_on_mailboxes(self, hashes: Iterable[bytes]) -> list[Record]:
        """(client, stream, email_hash, body)."""
        return await self._connection.fetch(_SQL["facts_on_mailboxes"], list(hashes))

    async def mailboxes(self, hashes: Iterable[bytes]) -> list[Record]:
        """(client, mailbox, email, email_hash, epoch, version, result)."""
        return await self._connection.fetch(_SQL["mailboxes"], list(hashes))

    async def emissions(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, bytes]]:
        """(topic, key) → (version, hash) of what was decided before."""
        found = await self._connection.fetch(_SQL["emissions"], [k[0] for k in keys], [k[1] for k in keys])
        return {(row["topic"], row["key"]): (row["version"], row["hash"]) for row in found}

    async def put_mailboxes(self, rows: Sequence[MailboxRow]) -> None:
        """Insert or update."""
        if rows:
            await self._connection.execute(_SQL["put_mailboxes"], *_columns(rows, without="claims"))
            await self._serve([row for row in rows if row.wanted], asked=True)

    async def put_emissions(self, rows: Sequence[EmissionRow]) -> None:
        """Insert or update; they are produced after the commit."""
        if rows:
            await self._connection.execute(_SQL["put_emissions"], *_columns(rows, without="record"))

    async def mark_persons(self, causes: Mapping[str, Cause]) -> None:
        """To be settled once they have rested."""
        if causes:
            await self._connection.execute(_SQL["mark_persons"], *_marks(causes))

    async def mark_mailboxes(self, causes: Mapping[bytes, Cause]) -> None:
        """To be settled once they have rested."""
        if causes:
            await self._connection.execute(_SQL["mark_mailboxes"], *_marks(causes))

    async def mark_dirty_persons(
        self, cause: Cause, *, client: str | None = None, distribution: str | None = None
    ) -> None:
        """The persons whose claims a client, distribution or binding touches."""
        if distribution is None:
            await self._connection.execute(_SQL["dirty_persons_of_client"], client, *cause_row(cause))
        else:
            await self._connection.execute(
                _SQL["dirty_persons_of_distribution"], distribution, client, *cause_row(cause)
            )

    async def mark_dirty_facts(self, cause: Cause, client: str, list_id: int) -> None:
        """The mailboxes of which a log spoke about this list."""
        await self._connection.execute(_SQL["dirty_facts_of_list"], client, list_id, *cause_row(cause))

    async def mark_dirty_mailboxes(self, cause: Cause, client: str | None, *, objection: bool) -> None:
        """Every claimed mailbox of a client, or of all."""
        await self._connection.execute(_SQL["dirty_mailboxes"], client, objection, *cause_row(cause))

    async def try_sweep(self) -> bool:
        """Whether this transaction is the one that sweeps."""
        return bool(await self._connection.fetchval(_SQL["try_sweep"]))

    async def try_settle(self) -> bool:
        """Whether this transaction is the one that settles what is marked."""
        return bool(await self._connection.fetchval(_SQL["try_settle"]))

    async def take_dirty_persons(self, limit: int, rest: Rest) -> dict[str, Cause]:
        """Persons to settle, and what marked them last; no longer dirty once this transaction commits."""
        found = await self._connection.fetch(_SQL["take_dirty_persons"], limit, *rest)
        return {row[0]: Cause(*row[1:]) for row in found}

    async def take_dirty_mailboxes(self, limit: int, rest: Rest) -> dict[bytes, Cause]:
        """E-mail hashes to settle, objections first, and what marked them last."""
        found = await self._connection.fetch(_SQL["take_dirty_mailboxes"], limit, *rest)
        return {row[0]: Cause(*row[1:]) for row in found}

    async def persons_with_claims(self, persons: Iterable[str]) -> set[str]:
        """Those of these persons who are, or were, on any distribution. Their locks are held."""
        found = await self._connection.fetch(_SQL["persons_with_claims"], list(persons))
        return {row["person"] for row in found}

    async def known_mailboxes(self, hashes: Iterable[bytes]) -> set[bytes]:
        """Those that somebody claims, or that a client or a log has named. Their locks are held."""
        found = await self._connection.fetch(_SQL["known_mailboxes"], list(hashes))
        return {row["email_hash"] for row in found}

    async def is_dirty(self) -> bool:
        """Whether anything waits to be settled."""
        return bool(await self._connection.fetchval(_SQL["is_dirty"]))

    async def never_emitted(self, age_seconds: float, limit: int) -> list[Record]:
        """(topic, key, contract, version, body) that a crash left unproduced."""
        return await self._connection.fetch(_SQL["never_emitted"], age_seconds, limit)

    async def unanswered(self, age_seconds: float, limit: int) -> list[Record]:
        """Mutations that were produced, not answered, and are in nobody's hands; with client, partition, offset."""
        return await self._connection.fetch(_SQL["unanswered"], age_seconds, limit)

    async def touch_emissions(self, keys: Sequence[tuple[str, str]]) -> None:
        """They were produced again just now."""
        if keys:
            await self._connection.execute(_SQL["touch_emissions"], [k[0] for k in keys], [k[1] for k in keys])

    async def note(self, said: Sequence[Noted]) -> list[tuple[str, str]]:
        """Keep the broker's word; the keys whose newest record does not stand last and must be produced again."""
        if not said:
            return []
        return [
            (row["topic"], row["key"]) for row in await self._connection.fetch(_SQL["note_emissions"], *_columns(said))
        ]

    async def to_repeat(self, keys: Sequence[tuple[str, str]]) -> list[Record]:
        """(topic, key, contract, version, body) as they now are."""
        return await self._connection.fetch(_SQL["emissions_to_repeat"], [k[0] for k in keys], [k[1] for k in keys])

    async def rebuild_epoch(self) -> int:
        """First half of every version."""
        return int(await self._connection.fetchval(_SQL["rebuild_epoch"]))
