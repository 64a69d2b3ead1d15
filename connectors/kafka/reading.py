"""A topic read through, from its start or a time to where it ends now: compacted topics at start, `peek`, tests."""

import asyncio
from collections.abc import AsyncIterator, Generator
from datetime import datetime
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.consumer import extents, message_of
from connectors.kafka.failures import failure_of, passes, patiently
from connectors.kafka.records import Message
from connectors.kafka.settings import KafkaSettings
from schemas.errors import Unavailable

_POLL_SECONDS: Final = 0.2


def read_topic(
    settings: KafkaSettings,
    topic: str,
    *,
    since: datetime | None = None,
    last: int | None = None,
    follow: bool = False,
    batch: int = 2000,
    stalled_after_seconds: float = 30.0,
) -> Generator[list[Message], None, None]:
    """Batches of the topic's records up to where it ended at the call, in order for each partition. Blocks.

    since: only records written then or later. last: only the last so many offsets of each partition.
    follow: go on after the end; then a batch may be empty, every 0.2 s or so, for the caller to look round.
    Commits nothing.
    Raises: Unavailable, also when nothing comes for `stalled_after_seconds` before the end; Misconfigured, without
        the topic.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "verteiler-reader",  # the library wants a name; it joins no group and commits nothing
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "log_level": 2,
        }
    )
    try:
        unread = patiently(_assign, consumer, topic, since, last, stalled_after_seconds)
        moved_at = monotonic()
        while unread or follow:
            messages = []
            for raw in consumer.consume(batch, timeout=_POLL_SECONDS):
                error = raw.error()
                if error is None:
                    messages.append(message := message_of(raw))
                    reached = message.offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    reached = raw.offset() or 0
                elif passes(error):
                    continue
                else:
                    raise failure_of(error, f"read {topic}")
                # Compaction may have taken the last records: then only the end of the partition says so.
                if reached >= unread.get(raw.partition() or 0, reached + 1):
                    del unread[raw.partition() or 0]
                moved_at = monotonic()
            if messages or follow:
                yield messages
            elif unread and monotonic() - moved_at > stalled_after_seconds:
                raise Unavailable(f"nothing of {topic} came for {stalled_after_seconds:.0f} s; nothing was lost")
    except KafkaException as error:
        raise failure_of(error, f"read {topic}") from error
    finally:
        consumer.close()


async def read_topic_async(
    settings: KafkaSettings,
    topic: str,
    *,
    since: datetime | None = None,
    last: int | None = None,
    follow: bool = False,
    batch: int = 2000,
) -> AsyncIterator[list[Message]]:
    """`read_topic` for asyncio code: the waiting is done in a thread."""
    batches = read_topic(settings, topic, since=since, last=last, follow=follow, batch=batch)
    under_way: asyncio.Future[list[Message] | None] | None = None
    try:
        while True:
            under_way = asyncio.ensure_future(asyncio.to_thread(next, batches, None))
            messages = await asyncio.shield(under_way)
            if messages is None:
                return
            yield messages
    finally:
        if under_way is not None and not under_way.done():
            await asyncio.wait([under_way])  # a generator cannot be closed while it runs
        await asyncio.to_thread(batches.close)


def _assign(
    consumer: Consumer, topic: str, since: datetime | None, last: int | None, timeout_seconds: float
) -> dict[int, int]:
    """Start reading; the partitions that hold anything to be read, each with its present end."""
    found = consumer.list_topics(topic, timeout=timeout_seconds).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    places = [TopicPartition(topic, partition) for partition in sorted(found.partitions)]
    held = extents(consumer, places, timeout_seconds)
    starts = {partition: first for partition, (first, _) in held.items()}
    if since is not None:
        at = int(since.timestamp() * 1000)
        asked = [TopicPartition(topic, partition, at) for partition in starts]
        for place in consumer.offsets_for_times(asked, timeout=timeout_seconds):
            # Nothing so new is there yet.
            starts[place.partition] = place.offset if place.offset >= 0 else held[place.partition][1]
    if last is not None:
        starts = {partition: max(start, held[partition][1] - last) for partition, start in starts.items()}
    consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
    return {partition: end for partition, (_, end) in held.items() if starts[partition] < end}
