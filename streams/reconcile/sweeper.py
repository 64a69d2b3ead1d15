"""The sweeper: settles whom backlogs and wide rows touched, and repairs what a crash left between commit and broker."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg

from connectors.kafka.admin import Admin
from connectors.store.decisions import Decisions, Rest
from schemas.errors import Unavailable
from streams.outbound.batch import RETRIED, Emitter, settle_rested, to_produce
from streams.outbound.settle import Law
from streams.settings import Settings

log = logging.getLogger(__name__)

Parts = tuple[Any, Law, Emitter]


class Sweeper:
    """One at a time settles, and one at a time repairs, across all processes.

    `parts` gives pool, law and emitter once the agent has opened them. `somebody_rests` is set by the agent beside it;
    whom other processes marked is found at the next pulse.
    """

    def __init__(self, settings: Settings, parts: Callable[[], Parts | None], somebody_rests: asyncio.Event) -> None:
        self._settings = settings
        self._parts = parts
        self._somebody_rests = somebody_rests

    async def run(self) -> None:
        """Until cancelled. What fails in one pass is tried again in the next."""
        repair_due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self._pulse()
            parts = self._parts()
            if parts is None:
                continue
            try:
                await self._settle_all(*parts)
                if loop.time() >= repair_due:
                    await self._repair(*parts)
                    repair_due = loop.time() + self._settings.decide.sweep_after_seconds / 4
            except (Unavailable, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, *RETRIED) as error:
                log.warning("a sweep was given up and comes again", extra={"error": type(error).__name__})

    async def _pulse(self) -> None:
        try:
            async with asyncio.timeout(self._settings.decide.sweep_seconds):
                await self._somebody_rests.wait()
        except TimeoutError:
            pass

    async def _settle_all(self, pool: Any, law: Law, emitter: Emitter) -> None:
        """Settle until nobody is dirty, but wait for those who rest."""
        while True:
            self._somebody_rests.clear()
            while await self._settle_some(pool, law, emitter):
                pass
            async with pool.acquire() as connection:
                if not await Decisions(connection).is_dirty():
                    return
            await asyncio.sleep(self._settings.decide.rest_seconds / 2)  # their rest is what is waited for

    async def _settle_some(self, pool: Any, law: Law, emitter: Emitter) -> bool:
        """Settle one chunk of those who have rested; whether there were any."""
        decide = self._settings.decide
        rest = Rest(decide.rest_seconds, decide.longest_rest_seconds)
        rows = await settle_rested(pool, law, at=datetime.now(UTC), limit=decide.sweep_chunk, rest=rest)
        if rows:
            await emitter.emit(rows)
        return rows is not None

    async def _repair(self, pool: Any, law: Law, emitter: Emitter) -> None:
        """Produce what was never produced, and again what nobody has and nobody answered."""
        age = self._settings.decide.sweep_after_seconds
        limit = self._settings.decide.sweep_chunk
        async with pool.acquire() as connection, connection.transaction():
            store = Decisions(connection)
            if not await store.try_sweep():
                return
            lost = [to_produce(found) for found in await store.never_emitted(age, limit)]
            unanswered = await store.unanswered(age, limit)
            passed = await self._passed(unanswered)
            again = [to_produce(found) for found in passed]
            await store.touch_emissions([(row.topic, row.key) for row in again])
        if lost or again:
            log.warning("records are produced again", extra={"never_produced": len(lost), "unanswered": len(again)})
            await emitter.emit([*lost, *again])

    async def _passed(self, unanswered: list[Any]) -> list[Any]:
        """Those that their lane's consumer has gone past: the others are still in front of it."""
        passed = []
        for client in sorted({found["client"] for found in unanswered}):
            offsets = await Admin(self._settings.kafka).group_offsets(f"verteiler-client-{client}")
            for found in unanswered:
                place = found["topic"], found["partition"]
                if found["client"] == client and offsets.get(place, -1) > found["offset"]:
                    passed.append(found)
        return passed
