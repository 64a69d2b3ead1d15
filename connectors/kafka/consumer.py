"""Records in, for one lane: a consumer that can wait without holding up any other."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as RawMessage

from connectors.kafka.failures import failure_of, passes, patiently
from connectors.kafka.records import Message
from connectors.kafka.settings import KafkaSettings
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_POLL_SECONDS: Final = 0.2
"""Longest time for which the thread is away, so that closing and committing never wait for long."""


class LaneConsumer:
    """All partitions of one topic, read for one group from where it last committed.

    Partitions are assigned, not negotiated: who may read is decided by the client's lease, so a new leader starts at
    once and no rebalance can take a batch away. The library runs in a thread of its own and reads ahead by itself, up
    to `ahead_kib`; while nobody asks for batches, it stops.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        group: str,
        *,
        batch: int = 500,
        deadline_seconds: float = 15.0,
        ahead_kib: int = 16 * 1024,
        from_beginning: bool = False,
    ) -> None:
        """`from_beginning`: read everything again, whatever was committed: what had been made of it is lost."""
        self.topic = topic
        self.group = group
        self._batch = batch
        self._deadline_seconds = deadline_seconds
        self._from_beginning = from_beginning
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap,
                "group.id": group,
                "client.id": f"{group}-{topic}",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": ahead_kib,
                "fetch.wait.max.ms": 100,
                "reconnect.backoff.max.ms": 2000,
                "error_cb": _log_error,
                "logger": log,
            }
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"lane {topic}")
        self._fetching: asyncio.Future[list[Message]] | None = None
        self._closed = False
        self._paused = False
        self._progress = Progress()
        self._fetched = batch
        self._caught_up = asyncio.Event()

    async def __aenter__(self) -> "LaneConsumer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Note where the topic ends now, and begin to read. Raises: Unavailable; Misconfigured, without the topic."""
        self._progress = await self._call("read the lane's offsets", patiently, self._assign)
        self._note_progress()

    async def batches(self) -> AsyncGenerator[list[Message], None]:
        """Batches of at least one record, in order for each partition, until `close`.

        A cancelled wait loses nothing: the batch that was under way is the next one.
        Raises: Unavailable, Misconfigured.
        """
        loop = asyncio.get_running_loop()
        while not self._closed:
            if self._fetching is None:
                self._fetching = loop.run_in_executor(self._thread, self._fetch)
            fetching = self._fetching
            messages = await asyncio.shield(fetching)
            self._fetching = None
            self._note_progress()
            self._fetched = len(messages)
            if messages:
                yield messages

    async def commit(self, messages: Sequence[Message]) -> None:
        """Note at the broker that these records, and all before them in their partitions, are finished.

        Raises: Unavailable; then they come again after the next start, and nothing is lost.
        """
        upto: dict[int, int] = {}
        for message in messages:
            upto[message.partition] = max(upto.get(message.partition, 0), message.offset + 1)
        if upto:
            offsets = [TopicPartition(self.topic, partition, offset) for partition, offset in upto.items()]
            await self._call("commit offsets", self._consumer.commit, offsets=offsets, asynchronous=False)
            self._progress.finish(upto)
            self._note_progress()

    async def pause(self) -> None:
        """Deliver nothing more until `resume`, except a batch that is already under way."""
        self._paused = True
        await self._call("pause", lambda: self._consumer.pause(self._consumer.assignment()))

    async def resume(self) -> None:
        """Deliver again."""
        self._paused = False
        await self._call("resume", lambda: self._consumer.resume(self._consumer.assignment()))

    @property
    def paused(self) -> bool:
        """Whether `pause` holds."""
        return self._paused

    @property
    def end_offsets(self) -> dict[int, int]:
        """Where each partition ended when this consumer started."""
        return dict(self._progress.ends)

    @property
    def caught_up(self) -> bool:
        """Whether everything that the topic held at start is finished (committed)."""
        return self._caught_up.is_set()

    @property
    def drained(self) -> bool:
        """Whether little was there at the last look: what comes now is fresh, not a backlog."""
        return self._fetched < self._batch // 2

    async def until_caught_up(self) -> None:
        """Return when everything that the topic held at start is finished, however long that takes."""
        await self._caught_up.wait()

    async def wait_caught_up(self, within_seconds: float) -> None:
        """Return when everything that the topic held at start is finished. Raises: Unavailable, when it takes longer.

        Somebody else must go through `batches` and `commit` meanwhile.
        """
        try:
            async with asyncio.timeout(within_seconds):
                await self._caught_up.wait()
        except TimeoutError as error:
            raise Unavailable(
                f"{self.topic} was not read to its end within {within_seconds:.0f} s; nothing was lost"
            ) from error

    async def close(self) -> None:
        """Stop reading. What was not committed comes again after the next start."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.close)
        self._thread.shutdown(wait=False)

    def _assign(self) -> "Progress":
        deadline = self._deadline_seconds
        found = self._consumer.list_topics(self.topic, timeout=deadline).topics[self.topic]
        if found.error is not None:
            raise KafkaException(found.error)
        partitions = [TopicPartition(self.topic, partition) for partition in sorted(found.partitions)]
        progress = Progress()
        progress.ends = {place: end for place, (_, end) in extents(self._consumer, partitions, deadline).items()}
        starts = []
        for partition in self._consumer.committed(partitions, timeout=deadline):
            if partition.error is not None:
                raise KafkaException(partition.error)
            if partition.offset >= 0 and not self._from_beginning:
                progress.finish({partition.partition: partition.offset})
            else:
                partition.offset = OFFSET_BEGINNING
            starts.append(partition)
        self._consumer.assign(starts)
        return progress

    def _fetch(self) -> list[Message]:
        """What is there: waits for a first record, never for a second. Runs in the lane's thread."""
        first = self._consumer.poll(_POLL_SECONDS)
        if first is None:
            return []
        messages = []
        for raw in (first, *self._consumer.consume(self._batch - 1, timeout=0)):
            error = raw.error()
            if error is None:
                messages.append(message := message_of(raw))
                self._progress.deliver(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._progress.reach(raw.partition() or 0, raw.offset() or 0)
            elif not passes(error):
                raise failure_of(error, f"read {self.topic}")
        return messages

    def _note_progress(self) -> None:
        if self._progress.caught_up():
            self._caught_up.set()

    async def _call(self, what: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await asyncio.shield(work)
        except KafkaException as error:
            raise failure_of(error, what) from error
        except TimeoutError as error:
            work.add_done_callback(_look_at)
            raise Unavailable(
                f"Kafka did not {what} within {self._deadline_seconds:.0f} s; nothing was lost"
            ) from error


class Progress:
    """How far the lane has come in each partition, against where it ended at start.

    A compacted partition may end in offsets that hold no record: there, having delivered and finished all up to the
    end is enough.
    """

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        self._finished: dict[int, int] = {}
        self._delivered: dict[int, int] = {}
        self._reached: dict[int, int] = {}

    def deliver(self, message: Message) -> None:
        self._delivered[message.partition] = message.offset + 1

    def reach(self, partition: int, offset: int) -> None:
        self._reached[partition] = max(self._reached.get(partition, 0), offset)

    def finish(self, upto: dict[int, int]) -> None:
        for partition, offset in upto.items():
            self._finished[partition] = max(self._finished.get(partition, 0), offset)

    def caught_up(self) -> bool:
        return bool(self.ends) and all(self._is_done(partition, end) for partition, end in self.ends.items())

    def _is_done(self, partition: int, end: int) -> bool:
        finished = self._finished.get(partition, 0)
        return finished >= end or (
            self._reached.get(partition, -1) >= end and finished >= self._delivered.get(partition, 0)
        )


def extents(consumer: Consumer, places: Sequence[TopicPartition], timeout_seconds: float) -> dict[int, tuple[int, int]]:
    """First and next offset of each of these partitions, by number. Blocks."""
    return {place.partition: consumer.get_watermark_offsets(place, timeout=timeout_seconds) for place in places}


def message_of(raw: RawMessage) -> Message:
    """A record as the library gives it, in our words."""
    _, written_ms = raw.timestamp()
    return Message(
        topic=raw.topic() or "",
        partition=raw.partition() or 0,
        offset=raw.offset() or 0,
        key=raw.key(),
        value=raw.value(),
        headers={name: value for name, value in raw.headers() or () if value is not None},
        written_ms=written_ms,
    )


def _log_error(error: KafkaError) -> None:
    log.warning("kafka connection", extra={"error": error.name()})


def _look_at(work: "asyncio.Future[T]") -> None:
    """A late answer has nobody who waits for it; its failure was already told as a deadline."""
    if not work.cancelled():
        work.exception()
