"""A batch is one transaction: lock, fold, settle, commit; then produce, note, and only then acknowledge."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Record
from connectors.kafka.registry import Registry
from connectors.store.decisions import Decisions, EmissionRow, Noted
from schemas import codec
from schemas.mutations import Cause
from schemas.smartwe import Binding, Client, Distribution, FieldMapping, Row, Suppression
from streams.outbound.emissions import CONTRACTS
from streams.outbound.intake import Intake
from streams.outbound.settle import Causes, Law, settle

log = logging.getLogger(__name__)

Pool = Any  # asyncpg.Pool, generic over its record type


async def fold_and_settle(pool: Pool, law: Law, intake: Intake, *, at: datetime) -> list[EmissionRow]:
    """Fold what a batch brings and decide what follows from it; the records to produce, committed.

    Raises: asyncpg's errors; then nothing of the batch remains and it comes again.
    """
    keys = sorted(intake.rows)
    async with pool.acquire() as connection, connection.transaction():
        store = Decisions(connection)
        await store.lock_structure(exclusive=bool(intake.wide))
        persons = set(intake.persons)
        if keys:
            persons |= await store.folded_persons(keys)
        await store.lock_persons(persons)
        hashes = set(intake.hashes)
        if keys:
            hashes |= await store.folded_hashes(keys)
        await store.fold_rows([intake.rows[key] for key in keys])
        await store.fold_facts(list(intake.facts.values()))
        await store.fold_results([intake.results[key] for key in sorted(intake.results)])
        for row in intake.wide.values():
            await _mark(store, row)
        if not persons and not hashes:
            return []
        causes = Causes(intake.persons, intake.hashes, fallback_cause(intake, at))
        return await settle(store, law, persons=persons, hashes=hashes, causes=causes, at=at)


def fallback_cause(intake: Intake, at: datetime) -> Cause:
    """The newest record of the batch."""
    found = [*intake.persons.values(), *intake.hashes.values()]
    return max(found, key=lambda cause: cause.committed_at, default=Cause("verteiler.sweep", 0, 0, at))


async def _mark(store: Decisions, row: Row) -> None:
    """A wide row only marks what it touches; the sweeper settles that in chunks."""
    match row:
        case Client():
            await store.mark_dirty_persons(client=row.baf_client_id)
        case Distribution():
            await store.mark_dirty_persons(distribution=row.gguid)
        case Binding():
            await store.mark_dirty_persons(client=row.baf_client_id, distribution=row.distribution_gguid)
            if row.inxmail_list_id is not None:
                await store.mark_dirty_facts(row.baf_client_id, row.inxmail_list_id)
        case FieldMapping():
            await store.mark_dirty_mailboxes(row.baf_client_id, objection=False)
        case Suppression():
            await store.mark_dirty_mailboxes(row.baf_client_id, objection=True)


class Emitter:
    """Produces what a transaction decided, and keeps the broker's word."""

    def __init__(self, pool: Pool, producer: BatchProducer, registry: Registry) -> None:
        self._pool = pool
        self._producer = producer
        self._registry = registry

    async def emit(self, rows: Sequence[EmissionRow]) -> None:
        """Produce, wait for the broker, note. Raises: Unavailable; the sweeper repairs what was not produced."""
        pending = [(row.topic, row.key, row.contract, row.version, row.body) for row in rows]
        while pending:
            records = [await self._record(topic, key, contract, body) for topic, key, contract, _, body in pending]
            placed = await self._producer.send(records)
            said = [
                Noted(topic, key, version, place.partition, place.offset)
                for (topic, key, _, version, _), place in zip(pending, placed, strict=True)
            ]
            async with self._pool.acquire() as connection, connection.transaction():
                store = Decisions(connection)
                overtaken = await store.note(said)
                again = await store.to_repeat(overtaken) if overtaken else []
            pending = [(row["topic"], row["key"], row["contract"], row["version"], row["body"]) for row in again]
            if pending:
                log.info("newer records were overtaken and are produced again", extra={"records": len(pending)})

    async def _record(self, topic: str, key: str, contract: str, body: str | None) -> Record:
        if body is None:
            return Record(topic, key, None)
        record = msgspec.json.decode(body, type=CONTRACTS[contract])
        return Record(topic, key, codec.frame(await self._registry.id_of(contract), contract, record))


RETRIED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What the database undid for reasons of its own: the same batch may succeed at once."""
