"""What the client worker tells Kafka, and that Kafka has it: results, effects, log entries, cursors.

Everything stands in the tables first and is marked there once the broker has answered, so a crash in between only
tells it twice.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from connectors.kafka import catalogue
from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Record
from connectors.kafka.registry import Registry
from connectors.store.ledger import Ledger
from schemas import codec
from schemas.errors import Disposition, PipelineError
from schemas.facts import Cursor

log = logging.getLogger(__name__)

_BATCH: Final = 1000
_SWEEP_SECONDS: Final = 1.0
LOGS: Final = ("unsubscriptions", "subscriptions")
_CONTRACTS: Final = {
    "subscriptions": "subscription-event",
    "unsubscriptions": "unsubscription-event",
}


class Outbox:
    """The records of one client. Every method that sends raises PipelineError, as the producer does."""

    def __init__(self, client: str, ledger: Ledger, producer: BatchProducer, registry: Registry) -> None:
        self._client = client
        self._ledger = ledger
        self._producer = producer
        self._registry = registry
        self._awake = asyncio.Event()
        self._effects = asyncio.Lock()
        self._logs = asyncio.Lock()
        self._topics = {
            "subscriptions": catalogue.subscriptions(client),
            "unsubscriptions": catalogue.unsubscriptions(client),
        }

    def wake(self) -> None:
        """There may be something to tell."""
        self._awake.set()

    async def run(self) -> None:
        """Tell whatever is not told, for ever; what a crash left over as well."""
        while True:
            try:
                await self.flush()
            except PipelineError as failure:
                if failure.disposition is Disposition.HALT:
                    raise
                log.warning("results postponed", extra={"error": type(failure).__name__, "reason": str(failure)})
                await asyncio.sleep(_SWEEP_SECONDS)
            try:
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._awake.wait()
            except TimeoutError:
                pass
            self._awake.clear()

    async def flush(self) -> None:
        """Tell everything that is not told yet."""
        while await self._tell_results() == _BATCH:
            pass
        while await self._tell_effects() == _BATCH:
            pass
        for name in LOGS:
            await self.tell_log(name)

    async def tell_calls(self, op_ids: Sequence[str]) -> None:
        """Return when Kafka knows that these calls are open: before they are made."""
        async with self._effects:
            async with self._ledger.reading() as books:
                effects = await books.calls.effects(op_ids)
            await self._send("effect", catalogue.effects(self._client), [(each.op_id, each) for each in effects])
            async with self._ledger.transaction() as books:
                await books.calls.mark_produced(effects)

    async def tell_log(self, name: str) -> None:
        """Return when Kafka has every entry of a log that was noted."""
        async with self._logs:
            while await self._tell_entries(name) == _BATCH:
                pass

    async def tell_cursor(self, cursor: Cursor) -> None:
        """Return when Kafka knows how far a stream was read."""
        await self._send("cursor", catalogue.cursors(self._client), [(cursor.stream, cursor)])

    async def _tell_results(self) -> int:
        async with self._ledger.reading() as books:
            results = await books.deliveries.unreported(_BATCH)
        if results:
            named = [(each.result.mailbox, each.result) for each in results]
            await self._send("delivery-result", catalogue.results(self._client), named)
            async with self._ledger.transaction() as books:
                await books.deliveries.mark_reported((each.result.mailbox, each.revision) for each in results)
        return len(results)

    async def _tell_effects(self) -> int:
        async with self._effects:
            async with self._ledger.reading() as books:
                effects = await books.calls.unproduced(_BATCH)
            if effects:
                await self._send("effect", catalogue.effects(self._client), [(each.op_id, each) for each in effects])
                async with self._ledger.transaction() as books:
                    await books.calls.mark_produced(effects)
        return len(effects)

    async def _tell_entries(self, name: str) -> int:
        async with self._ledger.reading() as books:
            events = await books.listening.unproduced(name, _BATCH)
        if events:
            await self._send(_CONTRACTS[name], self._topics[name], [(str(event.event_id), event) for event in events])
            async with self._ledger.transaction() as books:
                await books.listening.produced(name, [event.event_id for event in events])
        return len(events)

    async def _send(self, contract: str, topic: str, keyed: Sequence[tuple[str, msgspec.Struct]]) -> None:
        schema_id = await self._registry.id_of(contract)
        await self._producer.send(
            [Record(topic, key, codec.frame(schema_id, contract, record)) for key, record in keyed]
        )
