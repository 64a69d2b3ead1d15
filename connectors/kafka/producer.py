"""Records out: whole batches for each partition, done when the broker has said so for every one of them."""

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from connectors.kafka.catalogue import MAX_RECORD_BYTES
from connectors.kafka.failures import produce_failure
from connectors.kafka.records import Placed, Record
from connectors.kafka.settings import KafkaSettings
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

_BATCH_BYTES: Final = 256 * 1024
_CLOSE_SECONDS: Final = 5.0


class BatchProducer:
    """Writes records and waits for the broker's word. Keys choose partitions as Java clients do (murmur2).

    Calls may overlap; records of one key are in order when one caller awaits one call after the other.
    """

    def __init__(self, settings: KafkaSettings, *, client_id: str, deadline_seconds: float = 15.0) -> None:
        self._settings = settings
        self._client_id = client_id
        self._deadline_seconds = deadline_seconds
        self._partition_of = DefaultPartitioner()
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "BatchProducer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect. Raises: Unavailable."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._connected()
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"Kafka does not answer: {type(error).__name__}; nothing was lost") from error

    async def send(self, records: Sequence[Record]) -> list[Placed]:
        """Write all and return where each one stands, in the order given.

        Records of one partition are written in the order given. After a failure any of them may have been written;
        sending them again is the remedy, and whoever reads them must bear a record twice.
        Raises: Unavailable; Misconfigured, when a topic does not exist; Refused, when a record is too large.
        """
        if not records:
            return []
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._deadline_seconds):
                producer = await self._connected()
                return await self._send(producer, records)
        except (KafkaError, TimeoutError) as error:
            if producer is not None:
                self._retire(producer)
            raise produce_failure(error, ", ".join(sorted({record.topic for record in records}))) from error

    async def close(self) -> None:
        """Disconnect. What `send` has returned from is written; nothing else is waited for."""
        if self._producer is not None:
            self._retire(self._producer)
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=_CLOSE_SECONDS + 1.0)

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> list[Placed]:
        partitions = {
            topic: sorted(await producer.partitions_for(topic)) for topic in {record.topic for record in records}
        }
        open_batches: dict[tuple[str, int], _Batch] = {}
        sent: list[_Batch] = []
        places: list[tuple[_Batch, int]] = []
        try:
            for record in records:
                key = None if record.key is None else record.key.encode()
                choices = partitions[record.topic]
                target = (record.topic, self._partition_of(key, choices, choices))
                batch = open_batches.get(target)
                if batch is None or (index := batch.append(key, record)) is None:
                    if batch is not None:
                        sent.append(batch)
                        await batch.submit(producer)
                    batch = open_batches[target] = _Batch(producer, *target)
                    index = batch.append(key, record)
                    assert index is not None  # an empty batch takes a record of any size
                places.append((batch, index))
            for batch in open_batches.values():
                sent.append(batch)
                await batch.submit(producer)
        finally:
            # Every answer is collected, so that none is reported later as one that nobody looked at.
            answers = await asyncio.gather(
                *(batch.future for batch in sent if batch.future is not None), return_exceptions=True
            )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [Placed(batch.partition, batch.base_offset() + index) for batch, index in places]

    async def _connected(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.bootstrap,
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,  # batches are made here
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=2 * MAX_RECORD_BYTES,
                    # Below the deadline, so that the library still says what was wrong.
                    request_timeout_ms=int(self._deadline_seconds * 600),
                )
                try:
                    await producer.start()
                except BaseException:  # also a cancelled start must not leave its connections; raised again
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _retire(self, producer: AIOKafkaProducer) -> None:
        """Let go of a producer. One that lost a batch has a gap in its sequence and can never write again."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(_stop(producer))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


class _Batch:
    """Records for one partition, under way together."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.future: Any = None
        self._builder = producer.create_batch()

    def append(self, key: bytes | None, record: Record) -> int | None:
        """The record's place in the batch; None when the batch is full."""
        added = self._builder.append(timestamp=None, key=key, value=record.value, headers=list(record.headers))
        return None if added is None else int(added.offset)

    async def submit(self, producer: AIOKafkaProducer) -> None:
        self._builder.close()
        self.future = await producer.send_batch(self._builder, self.topic, partition=self.partition)

    def base_offset(self) -> int:
        return int(self.future.result().offset)


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), _CLOSE_SECONDS)
    except (KafkaError, TimeoutError) as error:
        log.warning("producer did not close in time", extra={"error": type(error).__name__})
