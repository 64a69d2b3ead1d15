"""Topics as they are at the broker: made, compared with the catalogue, measured."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import msgspec
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from connectors.kafka.catalogue import Topic
from connectors.kafka.failures import failure_of
from connectors.kafka.settings import KafkaSettings
from schemas.errors import Unavailable

Partition = tuple[str, int]
"""Topic and partition number."""


class Outcome(StrEnum):
    """What became of a topic."""

    KEPT = "kept"
    CREATED = "created"
    ALTERED = "altered"
    DIFFERS = "differs"
    """In something that must not be changed under a running pipeline."""
    MISSING = "missing"


class TopicOutcome(msgspec.Struct, frozen=True):
    """One topic: what became of it, and in one sentence what differed."""

    topic: str
    outcome: Outcome
    detail: str = ""


class Extent(msgspec.Struct, frozen=True):
    """A partition's first offset still there, and the one that its next record will get."""

    first: int
    end: int


class Admin:
    """Kafka's administration. Every call has a deadline.

    Raises in every method: Unavailable, when the broker does not answer; Misconfigured, when it refuses.
    """

    def __init__(self, settings: KafkaSettings, *, timeout_seconds: float = 15.0) -> None:
        self._timeout: Final = timeout_seconds
        self._client = AdminClient(
            {"bootstrap.servers": settings.bootstrap, "client.id": "verteiler-admin", "log_level": 2}
        )

    async def ensure_topics(self, topics: Collection[Topic]) -> list[TopicOutcome]:
        """Create what is missing and bring settings to the catalogue's; in the order given. May be repeated.

        The number of partitions is never changed: keys would move away from their history.
        """
        outcomes = {outcome.topic: outcome for outcome in await self._compared(topics, differing=Outcome.ALTERED)}
        missing = [topic for topic in topics if outcomes[topic.name].outcome is Outcome.MISSING]
        for topic in await self._create(missing):
            outcomes[topic.name] = TopicOutcome(topic.name, Outcome.CREATED)
        await self._found({topic.name: topic.partitions for topic in missing})
        await self._alter([topic for topic in topics if outcomes[topic.name].outcome is Outcome.ALTERED])
        return [outcomes[topic.name] for topic in topics]

    async def differing(self, topics: Collection[Topic]) -> list[TopicOutcome]:
        """The topics that are missing or not as the catalogue has them. Changes nothing."""
        compared = await self._compared(topics, differing=Outcome.DIFFERS)
        return [outcome for outcome in compared if outcome.outcome is not Outcome.KEPT]

    async def names(self) -> list[str]:
        """Every topic of the broker, sorted, without Kafka's own."""
        with _translated("list topics"):
            found = await asyncio.to_thread(self._client.list_topics, timeout=self._timeout)
        return sorted(name for name in found.topics if not name.startswith("__consumer_"))

    async def partitions(self, names: Collection[str]) -> dict[str, int]:
        """The number of partitions of each of these topics that exists."""
        if not names:
            return {}
        described = self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout)
        counts: dict[str, int] = {}
        for name, future in described.items():
            try:
                counts[name] = len((await asyncio.wrap_future(future)).partitions)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise failure_of(error, "describe topics") from error
        return counts

    async def extents(self, names: Collection[str]) -> dict[Partition, Extent]:
        """First and next offset of every partition of these topics; topics that do not exist are left out."""
        places = [
            TopicPartition(name, partition)
            for name, count in (await self.partitions(names)).items()
            for partition in range(count)
        ]
        if not places:
            return {}
        first = await self._offsets(places, OffsetSpec.earliest())
        end = await self._offsets(places, OffsetSpec.latest())
        return {place: Extent(first[place], end[place]) for place in sorted(first)}

    async def group_offsets(self, group: str) -> dict[Partition, int]:
        """The offsets a group has committed: of each partition the next record it will read."""
        with _translated("read a group's offsets"):
            futures = self._client.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=self._timeout
            )
            answer = await asyncio.wrap_future(futures[group])
        return {(place.topic, place.partition): place.offset for place in answer.topic_partitions if place.offset >= 0}

    async def lag(self, group: str, topics: Collection[str]) -> dict[str, int]:
        """For each of these topics, how many records (offsets) a group has before it."""
        committed = await self.group_offsets(group)
        behind = dict.fromkeys(topics, 0)
        for (topic, partition), extent in (await self.extents(topics)).items():
            at = max(committed.get((topic, partition), extent.first), extent.first)
            behind[topic] += max(extent.end - at, 0)
        return behind

    async def _compared(self, topics: Collection[Topic], *, differing: Outcome) -> list[TopicOutcome]:
        counts = await self.partitions([topic.name for topic in topics])
        configs = await self._configs(counts)
        return [
            TopicOutcome(topic.name, Outcome.MISSING, "does not exist")
            if topic.name not in counts
            else compared(topic, counts[topic.name], configs[topic.name], differing)
            for topic in topics
        ]

    async def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        if not resources:
            return {}
        with _translated("read topic settings"):
            return {
                resource.name: {name: entry.value for name, entry in (await asyncio.wrap_future(future)).items()}
                for resource, future in self._client.describe_configs(resources, request_timeout=self._timeout).items()
            }

    async def _create(self, topics: list[Topic]) -> list[Topic]:
        if not topics:
            return []
        futures = self._client.create_topics(
            [NewTopic(topic.name, topic.partitions, topic.replication, config=topic.config) for topic in topics],
            operation_timeout=self._timeout,
            request_timeout=self._timeout,
        )
        for name, future in futures.items():
            try:
                await asyncio.wrap_future(future)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was as quick
                    raise failure_of(error, f"create topic {name}") from error
        return topics

    async def _found(self, partitions: Mapping[str, int]) -> None:
        """Return when every partition of these new topics answers: the broker confirms a topic before it serves it."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self._timeout),
            wait=wait_fixed(0.05),
            reraise=True,
        ):
            with attempt:
                if len(await self.extents(partitions)) < sum(partitions.values()):
                    raise Unavailable("the broker does not serve new topics yet; provision again")

    async def _alter(self, topics: list[Topic]) -> None:
        if not topics:
            return
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                topic.name,
                incremental_configs=[
                    ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                    for name, value in topic.config.items()
                ],
            )
            for topic in topics
        ]
        with _translated("change topic settings"):
            for future in self._client.incremental_alter_configs(resources, request_timeout=self._timeout).values():
                await asyncio.wrap_future(future)

    async def _offsets(self, places: list[TopicPartition], spec: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(place.topic, place.partition): spec for place in places}
        with _translated("read offsets"):
            futures = self._client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=self._timeout
            )
            return {
                (place.topic, place.partition): (await asyncio.wrap_future(future)).offset
                for place, future in futures.items()
            }


def compared(topic: Topic, partitions: int, config: Mapping[str, str], differing: Outcome) -> TopicOutcome:
    """A topic of the catalogue against what the broker has. Pure.

    differing: what to call it when only settings differ.
    """
    if partitions != topic.partitions:
        return TopicOutcome(
            topic.name,
            Outcome.DIFFERS,
            f"has {partitions} partitions instead of {topic.partitions}; another number needs a new topic",
        )
    wrong = [
        f"{name} is {config.get(name)} instead of {value}"
        for name, value in topic.config.items()
        if config.get(name) != value
    ]
    return TopicOutcome(topic.name, differing if wrong else Outcome.KEPT, "; ".join(wrong))


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise failure_of(error, what) from error
