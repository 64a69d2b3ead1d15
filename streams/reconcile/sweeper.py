"""The sweeper: settles what a wide row touched, and repairs what a crash left between commit and broker."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg

from connectors.kafka import catalogue
from connectors.kafka.admin import Admin
from connectors.store.decisions import Decisions, EmissionRow
from schemas.errors import Unavailable
from schemas.mutations import Cause
from streams.outbound.batch import RETRIED, Emitter
from streams.outbound.settle import Causes, Law, settle
from streams.settings import Settings

log = logging.getLogger(__name__)

Parts = tuple[Any, Law, Emitter]
SWEEP = "verteiler.sweep"
"""Stands as the topic of a cause that is no record."""


class Sweeper:
    """One pass at a time across all processes. `parts` gives pool, law and emitter once the agent has opened them."""

    def __init__(self, settings: Settings, parts: Callable[[], Parts | None]) -> None:
        self._settings = settings
        self._parts = parts

    async def run(self) -> None:
        """Until cancelled. What fails in one pass is tried again in the next."""
        repair_due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.decide.sweep_seconds)  # the pulse of the sweeper itself
            parts = self._parts()
            if parts is None:
                continue
            try:
                while await self._settle_some(*parts):
                    pass
                if loop.time() >= repair_due:
                    await self._repair(*parts)
                    repair_due = loop.time() + self._settings.decide.sweep_after_seconds / 4
            except (Unavailable, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, *RETRIED) as error:
                log.warning("a sweep was given up and comes again", extra={"error": type(error).__name__})

    async def _settle_some(self, pool: Any, law: Law, emitter: Emitter) -> bool:
        """Settle one chunk of what is dirty; whether there was any."""
        limit = self._settings.decide.sweep_chunk
        now = datetime.now(UTC)
        async with pool.acquire() as connection:
            if not await Decisions(connection).is_dirty():
                return False
            async with connection.transaction():
                store = Decisions(connection)
                if not await store.try_sweep():
                    return False  # another process is at it
                await store.lock_structure(exclusive=False)
                hashes = await store.take_dirty_mailboxes(limit)
                persons = [] if hashes else await store.take_dirty_persons(limit)
                await store.lock_persons(persons)
                causes = Causes({}, {}, Cause(SWEEP, 0, 0, now))
                rows = await settle(store, law, persons=persons, hashes=hashes, causes=causes, at=now)
        await emitter.emit(rows)
        return True

    async def _repair(self, pool: Any, law: Law, emitter: Emitter) -> None:
        """Produce what was never produced, and again what nobody has and nobody answered."""
        age = self._settings.decide.sweep_after_seconds
        limit = self._settings.decide.sweep_chunk
        async with pool.acquire() as connection, connection.transaction():
            store = Decisions(connection)
            if not await store.try_sweep():
                return
            lost = [_row(found) for found in await store.never_emitted(age, limit)]
            unanswered = await store.unanswered(age, limit)
            passed = await self._passed(unanswered)
            again = [_row(found) for found in passed]
            await store.touch_emissions([(row.topic, row.key) for row in again])
        if lost or again:
            log.warning("records are produced again", extra={"never_produced": len(lost), "unanswered": len(again)})
            await emitter.emit([*lost, *again])

    async def _passed(self, unanswered: list[Any]) -> list[Any]:
        """Those that the lane's consumer has gone past: the others are still in front of it."""
        passed = []
        for client in sorted({found["client"] for found in unanswered}):
            offsets = await Admin(self._settings.kafka).group_offsets(f"verteiler-client-{client}")
            for found in unanswered:
                place = catalogue.mutations(client), found["partition"]
                if found["client"] == client and offsets.get(place, -1) > found["offset"]:
                    passed.append(found)
        return passed


def _row(found: Any) -> EmissionRow:
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
