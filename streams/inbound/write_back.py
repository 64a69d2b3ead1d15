"""`crm.*` topics → the CRM: what was observed becomes rows, at least once and never older than what is there.

A process of its own, so that a CRM that is down stops nothing else. Pure: `newest`. The rest waits, writes, parks.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import asyncpg
import msgspec
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from connectors.kafka.catalogue import RECIPIENT_STATUS, SUPPRESSIONS
from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder, Registry
from connectors.smartwe.schema import check_identity
from connectors.smartwe.writer import CrmWriter, StatusGone, Write, Written
from schemas.crm import RecipientStatus, SuppressionRecord
from schemas.errors import Disposition, MalformedInput, PipelineError, Refused, Unavailable
from schemas.ids import NORMALISER_VERSION
from streams.app import Apply, Batch, Flow, received
from streams.identity import fingerprints
from streams.parking import Parking
from streams.settings import Settings

log = logging.getLogger(__name__)

FLOW: Final = "write-back"

BATCH_LIMIT_SECONDS: Final = 25.0
PATIENCE_SECONDS: Final = 18.0
"""How long a batch waits for the CRM. Below the batch limit, so that the process can tell why it ends."""

_ROW_AT_FAULT: Final = ("22", "23", "44", "P0")
"""SQLSTATE classes that blame a row: data, constraint, check option, a trigger's exception. Others are our fault."""


class Topics(NamedTuple):
    """Where the two kinds of records come from."""

    statuses: str = RECIPIENT_STATUS
    suppressions: str = SUPPRESSIONS


OUR_TOPICS: Final = Topics()


class Observation(msgspec.Struct, frozen=True):
    """A record that was read, and the row it asks for."""

    message: Message
    write: Write


class Writes(Protocol):
    """Takes rows into the CRM, all or none, as `CrmWriter` does."""

    async def apply(self, writes: Sequence[Write]) -> Written: ...


Park = Callable[[Message, PipelineError], Awaitable[None]]


def origin_of(instance: str) -> str:
    """The replication origin of a worker slot. Readers match the prefix `verteiler_`."""
    return f"verteiler_{instance}"


def newest(observations: Iterable[Observation]) -> list[Observation]:
    """One observation for each row: the newest of the batch.

    Records of a row are ordered by (epoch, version), wherever they stand. A tombstone has neither: it overrides what
    stands before it and yields to what stands after it.
    """
    chosen: dict[tuple[str, str], Observation] = {}
    for seen in observations:
        row = _row_of(seen.write)
        held = chosen.get(row)
        if held is None or _overrides(seen.write, held.write):
            chosen[row] = seen
    return list(chosen.values())


def _row_of(write: Write) -> tuple[str, str]:
    match write:
        case SuppressionRecord():
            return "suppression", write.gguid
        case RecipientStatus() | StatusGone():
            return "status", write.recipient


def _overrides(later: Write, held: Write) -> bool:
    if isinstance(later, StatusGone) or isinstance(held, StatusGone):
        return True
    return (later.epoch, later.version) >= (held.epoch, held.version)


class WriteBack:
    """Applies batches. `patience_seconds`: how long one may wait for the CRM, the registry and the broker together."""

    def __init__(
        self,
        writer: Writes,
        decoder: Decoder,
        park: Park,
        *,
        topics: Topics = OUR_TOPICS,
        patience_seconds: float = PATIENCE_SECONDS,
        metrics: CollectorRegistry = REGISTRY,
    ) -> None:
        self._writer = writer
        self._decoder = decoder
        self._park = park
        self._topics = topics
        self._patience_seconds = patience_seconds
        self._rows = Counter("write_back_rows", "Records taken to the CRM.", ["outcome"], registry=metrics)
        self._age = Histogram(
            "write_back_age_seconds", "Record written to its topic → row committed in the CRM.", registry=metrics
        )

    async def apply(self, batch: Sequence[Message]) -> None:
        """Durable in the CRM, or parked with the broker's word, when it returns.

        Raises: Unavailable, when the CRM did not take it in time; Misconfigured. Then nothing may be acknowledged,
            and what was already written is written again without harm.
        """
        patience = _Patience()
        try:
            async with asyncio.timeout(self._patience_seconds):
                await patience.retrying(self._decoder.prepare, [message.value for message in batch])
                await self._write(newest(await self._read(batch)), patience)
        except TimeoutError as error:
            raise Unavailable(
                f"a batch was not written within {self._patience_seconds:.0f} s{patience.reason}. Nothing was"
                " acknowledged; its records come again after the restart"
            ) from error

    async def _read(self, batch: Sequence[Message]) -> list[Observation]:
        observations = []
        for message in batch:
            try:
                write = self._write_of(message)
            except MalformedInput as malformed:
                await self._give_up(message, malformed)
                continue
            if write is None:
                self._rows.labels("suppressions_kept").inc()
            else:
                observations.append(Observation(message, write))
        return observations

    def _write_of(self, message: Message) -> Write | None:
        """The row a record asks for. None: a tombstone of a suppression; only a person lifts an objection."""
        if message.value is None:
            return StatusGone(message.key_text) if message.topic == self._topics.statuses else None
        if message.topic == self._topics.statuses:
            return self._decoder.decode_as(message.value, RecipientStatus)
        return self._decoder.decode_as(message.value, SuppressionRecord)

    async def _write(self, observations: Sequence[Observation], patience: "_Patience") -> None:
        """Write them; when the CRM refuses, halve until the one at fault stands alone, and park exactly that."""
        if not observations:
            return
        try:
            written: Written = await patience.retrying(self._writer.apply, [seen.write for seen in observations])
        except Refused as refused:
            if (refused.kind or "")[:2] not in _ROW_AT_FAULT:
                raise
            if len(observations) == 1:
                await self._give_up(observations[0].message, refused)
                return
            half = len(observations) // 2
            await self._write(observations[:half], patience)
            await self._write(observations[half:], patience)
            return
        for outcome, rows in msgspec.structs.asdict(written).items():
            self._rows.labels(outcome).inc(rows)
        now = time.time()
        for seen in observations:
            self._age.observe(max(0.0, now - seen.message.written_ms / 1000))

    async def _give_up(self, message: Message, failure: PipelineError) -> None:
        await self._park(message, failure)
        self._rows.labels("parked").inc()


class _Patience:
    """Tries again while that may help, with growing pauses; the caller sets the deadline. Remembers why it waited."""

    def __init__(self) -> None:
        self.reason = ""
        self.retrying = AsyncRetrying(
            wait=wait_exponential_jitter(multiplier=0.05, max=3.0, jitter=0.05),
            retry=retry_if_exception(_may_pass),
            before_sleep=self._note,
        )

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.reason = f": {error}"
        log.warning(
            "write-back waits",
            extra={"flow": FLOW, "attempt": state.attempt_number, "error": type(error).__name__, "reason": str(error)},
        )


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, PipelineError) and error.disposition is Disposition.RETRY


def write_back_flow(settings: Settings, topics: Topics = OUR_TOPICS) -> Flow:
    """The flow that `streams.app.run_flow` runs as `worker write-back`."""

    async def start() -> Apply:
        registry = Registry(settings.kafka)
        producer = BatchProducer(settings.kafka, client_id=f"verteiler-{FLOW}-{settings.instance}")
        writer = CrmWriter(settings.database.crm_dsn, origin_of(settings.instance))
        patience = _Patience()
        writing, others = fingerprints(settings)
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                connection: asyncpg.Connection = await patience.retrying(writer.open)
                await check_identity(connection, writing, NORMALISER_VERSION, also_matches=others)
                await patience.retrying(producer.start)
        except TimeoutError as error:
            raise Unavailable(f"write-back could not start{patience.reason}; nothing was taken from Kafka") from error
        write_back = WriteBack(writer, Decoder(registry), Parking(FLOW, producer, registry).park, topics=topics)

        async def apply(batch: Batch) -> None:
            await write_back.apply([received(raw) for raw in batch])

        return apply

    return Flow(FLOW, tuple(topics), start, batch_limit_seconds=BATCH_LIMIT_SECONDS)
