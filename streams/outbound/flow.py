"""`worker decide`: one Faust app for each flow, all with the same code."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from connectors.kafka import catalogue
from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder, Registry
from connectors.store.decisions import Decisions, EmissionRow
from schemas.errors import MalformedInput, Misconfigured
from streams.app import Apply, Batch, Flow, received
from streams.outbound.batch import RETRIED, Emitter, fold_and_settle
from streams.outbound.intake import Intake, intake_of
from streams.outbound.settle import Law
from streams.parking import Parking
from streams.reconcile.sweeper import Sweeper
from streams.settings import Settings

_OBJECTION_TABLES = ("consent", "suppression")
_CHANGE_TABLES = (
    "baf_client",
    "distribution",
    "distribution_binding",
    "field_mapping",
    "address",
    "address_profile",
    "distribution_recipient",
)
_DATABASE_SECONDS = 20.0
_ATTEMPTS = 5


def topics_of(flow: str, clients: Sequence[str], prefix: str) -> tuple[str, ...]:
    """What a flow reads. An opt-out never queues behind a snapshot: it has a flow of its own.

    Raises: Misconfigured, when there is no such flow.
    """
    match flow:
        case "objections":
            own = [catalogue.captured(table, prefix) for table in _OBJECTION_TABLES]
            streams = [
                topic(client) for client in clients for topic in (catalogue.unsubscriptions, catalogue.subscriptions)
            ]
        case "changes":
            own = [catalogue.captured(table, prefix) for table in _CHANGE_TABLES]
            streams = [catalogue.results(client) for client in clients]
        case _:
            raise Misconfigured(f"there is no flow {flow!r}: use objections or changes")
    return (*own, *streams)


class Decider:
    """What a decide process holds open."""

    def __init__(self, settings: Settings, flow: str) -> None:
        self._settings = settings
        self._flow = flow
        self._ring = settings.key_ring()
        self._registry = Registry(settings.kafka)
        self._decoder = Decoder(self._registry)
        self._producer = BatchProducer(settings.kafka, client_id=f"decide-{flow}-{settings.instance}")
        self._parking = Parking(f"decide-{flow}", self._producer, self._registry)
        self._pool: Any = None
        self._law: Law | None = None
        self._somebody_rests = asyncio.Event()

    async def start(self) -> Apply:
        """Open database and producer; what applies a batch."""
        self._pool = await asyncpg.create_pool(
            self._settings.database.sync_dsn.get_secret_value(),
            min_size=1,
            max_size=4,
            command_timeout=_DATABASE_SECONDS,
            # Every access is by key; a plan that was made while the tables were empty would read them whole later.
            server_settings={"application_name": f"verteiler-decide-{self._flow}", "enable_seqscan": "off"},
        )
        await self._producer.start()
        async with self._pool.acquire() as connection:
            epoch = await Decisions(connection).rebuild_epoch()
        self._law = Law(self._ring, timedelta(seconds=self._settings.decide.skew_seconds), epoch)
        self._emitter = Emitter(self._pool, self._producer, self._registry)
        return self.apply

    async def apply(self, batch: Batch) -> None:
        """Everything a batch leads to is durable when this returns; after a failure the whole batch comes again."""
        messages = [received(message) for message in batch]
        intake = await self._read(messages)
        rows, rests = await self._settled(intake)
        for message, error in intake.parked:
            await self._parking.park(message, error)
        if rows:
            await self._emitter.emit(rows)
        if rests:
            self._somebody_rests.set()

    async def sweep(self) -> None:
        """Runs beside the agent: settles whom backlogs and wide rows touched, repairs what a crash left."""
        await Sweeper(self._settings, self._parts, self._somebody_rests).run()

    def _parts(self) -> tuple[Any, Law, Emitter] | None:
        return (self._pool, self._law, self._emitter) if self._law is not None else None

    async def _read(self, messages: Sequence[Message]) -> Intake:
        await self._decoder.prepare(message.value for message in messages)
        pairs: list[tuple[Message, Mapping[str, Any] | MalformedInput]] = []
        for message in messages:
            if message.value is None:  # a tombstone only lets Kafka compact: the deletion itself came before it
                continue
            try:
                pairs.append((message, self._decoder.decode(message.value)))
            except MalformedInput as error:
                pairs.append((message, error))
        return intake_of(pairs, self._ring)

    async def _settled(self, intake: Intake) -> tuple[list[EmissionRow], bool]:
        assert self._law is not None
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(RETRIED),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            reraise=True,
        ):
            with attempt:
                return await fold_and_settle(
                    self._pool, self._law, intake, at=datetime.now(UTC), at_once=self._settings.decide.settle_at_once
                )
        raise AssertionError("unreachable: the last attempt raises")


def decide_flow(settings: Settings, flow: str) -> Flow:
    """The flow to run with `run_flow`. Raises: Misconfigured."""
    decider = Decider(settings, flow)
    return Flow(
        name=f"decide-{flow}",
        topics=topics_of(flow, settings.client_ids, settings.capture.topic_prefix),
        start=decider.start,
        batch=settings.decide.batch,
        within_seconds=settings.decide.within_seconds,
        batch_limit_seconds=settings.decide.batch_limit_seconds,
        background=(decider.sweep,) if flow == "changes" else (),
    )
