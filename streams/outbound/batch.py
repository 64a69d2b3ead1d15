"""A batch is one transaction: lock, fold, settle, commit; then produce, note, and only then acknowledge.

Of a backlog, only objections are settled with their batch. Whom the rest concerns is marked, and settled once she has
rested: an address, its proofs and its memberships then lead to one decision and not to three.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec

from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Record
from connectors.kafka.registry import Registry
from connectors.store.decisions import Decisions, EmissionRow, Noted, Rest
from schemas import codec
from schemas.mutations import Cause
from schemas.smartwe import Binding, Client, Distribution, FieldMapping, Row, Suppression
from streams.outbound.emissions import CONTRACTS
from streams.outbound.intake import Intake
from streams.outbound.settle import Causes, Law, settle

log = logging.getLogger(__name__)

Pool = Any  # asyncpg.Pool, generic over its record type


async def fold_and_settle(
    pool: Pool, law: Law, intake: Intake, *, at: datetime, at_once: int
) -> tuple[list[EmissionRow], bool]:
    """Fold what a batch brings and decide what follows from it.

    at_once: up to so many persons and mailboxes are settled with their batch.
    Returns the records to produce, committed, and whether somebody was left to rest.
    Raises: asyncpg's errors; then nothing of the batch remains and it comes again.
    """
    keys = sorted(intake.rows)
    rests = len(intake.persons) + len(intake.hashes) > at_once
    fallback = fallback_cause(intake, at)
    async with pool.acquire() as connection, connection.transaction():
        store = Decisions(connection)
        await store.lock_structure(exclusive=bool(intake.wide))
        persons, hashes = (intake.urgent.persons, intake.urgent.hashes) if rests else (intake.persons, intake.hashes)
        persons, hashes = set(persons), set(hashes)
        if keys:  # also those whom a row concerned before
            persons |= await store.folded_persons(keys) - intake.persons.keys()
        await store.lock_persons(persons)
        if keys:
            hashes |= await store.folded_hashes(keys) - intake.hashes.keys()
        await store.mark_persons({key: cause for key, cause in intake.persons.items() if key not in persons})
        await store.mark_mailboxes({key: cause for key, cause in intake.hashes.items() if key not in hashes})
        await store.fold_rows([intake.rows[key] for key in keys])
        await store.fold_facts(list(intake.facts.values()))
        await store.fold_results([intake.results[key] for key in sorted(intake.results)], fallback)
        for row, cause in intake.wide.values():
            await _mark(store, row, cause)
        if not persons and not hashes:
            return [], rests
        causes = Causes(intake.persons, intake.hashes, fallback)
        return await settle(store, law, persons=persons, hashes=hashes, causes=causes, at=at), rests


SWEEP = "verteiler.sweep"
"""Stands as the topic of a cause that is no record."""


async def settle_rested(pool: Pool, law: Law, *, at: datetime, limit: int, rest: Rest) -> list[EmissionRow] | None:
    """Settle persons and mailboxes that are marked and have rested; None: there are none.

    limit: how many marks are looked at, of each.

    Raises: asyncpg's errors; then they are still marked.
    """
    async with pool.acquire() as connection, connection.transaction():
        store = Decisions(connection)
        await store.lock_structure(exclusive=False)
        if not await store.try_settle():
            return None  # another process is at it
        persons = await store.take_dirty_persons(limit, rest)
        hashes = await store.take_dirty_mailboxes(limit, rest)
        if not persons and not hashes:
            return None
        await store.lock_persons(persons)
        concerned = await store.persons_with_claims(persons) if persons else set()
        causes = Causes(persons, hashes, Cause(SWEEP, 0, 0, at))
        return await settle(store, law, persons=concerned, hashes=hashes, causes=causes, at=at, is_backlog=True)


def fallback_cause(intake: Intake, at: datetime) -> Cause:
    """The newest record of the batch."""
    found = [*intake.persons.values(), *intake.hashes.values()]
    return max(found, key=lambda cause: cause.committed_at, default=Cause(SWEEP, 0, 0, at))


async def _mark(store: Decisions, row: Row, cause: Cause) -> None:
    """A wide row only marks what it touches; the sweeper settles that in chunks."""
    match row:
        case Client():
            await store.mark_dirty_persons(cause, client=row.baf_client_id)
        case Distribution():
            await store.mark_dirty_persons(cause, distribution=row.gguid)
        case Binding():
            await store.mark_dirty_persons(cause, client=row.baf_client_id, distribution=row.distribution_gguid)
            if row.inxmail_list_id is not None:
                await store.mark_dirty_facts(cause, row.baf_client_id, row.inxmail_list_id)
        case FieldMapping():
            await store.mark_dirty_mailboxes(cause, row.baf_client_id, objection=False)
        case Suppression():
            await store.mark_dirty_mailboxes(cause, row.baf_client_id, objection=True)


class Emitter:
    """Produces what a transaction decided, and keeps the broker's word."""

    def __init__(self, pool: Pool, producer: BatchProducer, registry: Registry) -> None:
        self._pool = pool
        self._producer = producer
        self._registry = registry

    async def emit(self, rows: Sequence[EmissionRow]) -> None:
        """Produce, wait for the broker, note. Raises: Unavailable; the sweeper repairs what was not produced."""
        pending = list(rows)
        while pending:
            placed = await self._producer.send([await self._record(row) for row in pending])
            said = [
                Noted(row.topic, row.key, row.version, place.partition, place.offset)
                for row, place in zip(pending, placed, strict=True)
            ]
            async with self._pool.acquire() as connection, connection.transaction():
                store = Decisions(connection)
                overtaken = await store.note(said)
                again = await store.to_repeat(overtaken) if overtaken else []
            pending = [to_produce(row) for row in again]
            if pending:
                log.info("newer records were overtaken and are produced again", extra={"records": len(pending)})

    async def _record(self, row: EmissionRow) -> Record:
        if row.body is None:
            return Record(row.topic, row.key, None)
        record = row.record or msgspec.json.decode(row.body, type=CONTRACTS[row.contract])
        return Record(row.topic, row.key, codec.frame(await self._registry.id_of(row.contract), row.contract, record))


def to_produce(found: Any) -> EmissionRow:
    """A row of the emission table that is to be produced again."""
    return EmissionRow(
        topic=found["topic"],
        key=found["key"],
        contract=found["contract"],
        version=found["version"],
        hash=b"",
        body=found["body"],
        email_hash=None,
        caused_at=datetime.now(UTC),
    )


RETRIED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What the database undid for reasons of its own: the same batch may succeed at once."""
