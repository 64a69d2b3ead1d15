"""How far behind its topics a consumer group is: in records, and in time."""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.admin import Admin, Partition
from connectors.kafka.failures import failure_of
from connectors.kafka.settings import KafkaSettings

_LOOK_SECONDS: Final = 3.0
"""Longest time in which the first unread records are looked at; without them the lag is known in records only."""


class Lag(msgspec.Struct, frozen=True):
    """What a group has not finished. `seconds`: age of its oldest unread record; None: nobody could say.

    `records` counts offsets: in a compacted topic some of them may hold nothing.
    """

    records: int
    seconds: float | None


NO_LAG: Final = Lag(0, 0.0)


async def lags(admin: Admin, settings: KafkaSettings, groups: Mapping[str, Collection[str]]) -> dict[str, Lag]:
    """For each group, its lag over its topics; a topic that does not exist counts as read.

    Raises: Unavailable and Misconfigured, as `Admin`.
    """
    found = await lags_by_topic(admin, settings, {group: {group: topics} for group, topics in groups.items()})
    return {group: parts[group] for group, parts in found.items()}


async def lags_by_topic(
    admin: Admin, settings: KafkaSettings, groups: Mapping[str, Mapping[str, Collection[str]]]
) -> dict[str, dict[str, Lag]]:
    """For each group, the lag of each of its parts (name → topics). Raises: as `lags`."""
    topics = {topic for parts in groups.values() for part in parts.values() for topic in part}
    extents = await admin.extents(sorted(topics))
    found: dict[str, dict[str, Lag]] = {}
    for group, parts in groups.items():
        committed = await admin.group_offsets(group)
        found[group] = {}
        for name, part in parts.items():
            unread: dict[Partition, int] = {}
            records = 0
            for place, extent in extents.items():
                at = max(committed.get(place, extent.first), extent.first)
                if place[0] in part and at < extent.end:
                    unread[place] = at
                    records += extent.end - at
            age = await asyncio.to_thread(_age, settings, unread) if unread else None
            found[group][name] = Lag(records, age) if unread else NO_LAG
    return found


def _age(settings: KafkaSettings, unread: Mapping[Partition, int]) -> float | None:
    """Seconds since the oldest of the records at these offsets was written. Blocks."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "verteiler-lag",  # the library wants a name; it joins no group and commits nothing
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            "log_level": 2,
        }
    )
    waiting = set(unread)
    oldest_ms: int | None = None
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in unread.items()])
        deadline = time.monotonic() + _LOOK_SECONDS
        while waiting and time.monotonic() < deadline:
            for message in consumer.consume(len(waiting), timeout=0.1):
                place = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if place not in waiting or (error is not None and error.code() != KafkaError._PARTITION_EOF):
                    continue
                waiting.discard(place)
                if error is not None:  # compaction has taken what was there
                    continue
                consumer.pause([TopicPartition(*place)])
                _, written_ms = message.timestamp()
                oldest_ms = written_ms if oldest_ms is None else min(oldest_ms, written_ms)
    except KafkaException as error:
        raise failure_of(error, "look at unread records") from error
    finally:
        consumer.close()
    return None if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
