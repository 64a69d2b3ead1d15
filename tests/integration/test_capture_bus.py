"""Records out and in, on the real broker and registry."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from connectors.kafka.admin import Admin, Outcome
from connectors.kafka.catalogue import Topic, catalogue, mutations, results
from connectors.kafka.consumer import LaneConsumer
from connectors.kafka.dead_letters import dead_letter, parked
from connectors.kafka.producer import BatchProducer
from connectors.kafka.reading import read_topic_async
from connectors.kafka.records import Message, Placed, Record
from connectors.kafka.registry import Decoder, Registry, contracts, subject_of
from connectors.kafka.settings import KafkaSettings
from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.errors import MalformedInput, Misconfigured, Refused, Unavailable
from schemas.facts import Cursor
from streams.commands.masking import HIDDEN
from streams.commands.topics import newest, topic_rows
from streams.settings import Settings
from tests.integration.capture_world import delete_topics, kafka_settings

pytestmark = pytest.mark.stack

AT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def kafka(stack_home: Path) -> KafkaSettings:
    return kafka_settings(stack_home)


@pytest.fixture
async def client(kafka: KafkaSettings) -> AsyncIterator[str]:
    """A client nobody else has, with all its topics."""
    name = f"bus{uuid.uuid4().hex[:8]}"
    topics = topics_of(name, kafka)
    await Admin(kafka).ensure_topics(topics)
    yield name
    await delete_topics(kafka, [topic.name for topic in topics])


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncIterator[BatchProducer]:
    async with BatchProducer(kafka, client_id="test") as made:
        yield made


def topics_of(client: str, settings: KafkaSettings) -> list[Topic]:
    return [topic for topic in catalogue([client], [], settings) if f".{client}." in topic.name]


def records(topic: str, count: int, size: int = 20) -> list[Record]:
    return [Record(topic, f"key {number}", bytes([number % 256]) * size) for number in range(count)]


async def held(settings: KafkaSettings, topic: str, *, since: datetime | None = None) -> list[Message]:
    return [message async for batch in read_topic_async(settings, topic, since=since) for message in batch]


async def test_topics_are_made_once_and_kept_as_catalogued(kafka: KafkaSettings, client: str) -> None:
    admin, topics = Admin(kafka), topics_of(client, kafka)

    assert {outcome.outcome for outcome in await admin.ensure_topics(topics)} == {Outcome.KEPT}
    assert await admin.differing(topics) == []


async def test_another_setting_is_told_by_check_and_put_right_by_provision(kafka: KafkaSettings, client: str) -> None:
    admin = Admin(kafka)
    wanted = topics_of(client, kafka.model_copy(update={"segment_seconds": 3600}))

    told = await admin.differing(wanted)
    assert {outcome.topic for outcome in told} == {topic.name for topic in wanted}
    assert {outcome.outcome for outcome in told} == {Outcome.DIFFERS}
    assert await admin.differing(topics_of(client, kafka)) == []  # looking changed nothing

    assert {outcome.outcome for outcome in await admin.ensure_topics(wanted)} == {Outcome.ALTERED}


async def test_a_missing_topic_is_told(kafka: KafkaSettings) -> None:
    (first, *_) = await Admin(kafka).differing(topics_of("nobody", kafka))

    assert (first.outcome, first.detail) == (Outcome.MISSING, "does not exist")


async def test_every_record_stands_where_the_producer_said(
    kafka: KafkaSettings, client: str, producer: BatchProducer
) -> None:
    sent = records(results(client), 3000, size=400)  # several batches for each partition

    places = await producer.send(sent)

    found = {Placed(message.partition, message.offset): message for message in await held(kafka, results(client))}
    assert len(found) == len(sent)
    for record, place in zip(sent, places, strict=True):
        assert (found[place].key_text, found[place].value) == (record.key, record.value)


async def test_headers_tombstones_and_records_above_a_batch_survive(
    kafka: KafkaSettings, client: str, producer: BatchProducer
) -> None:
    topic = results(client)
    large = b"x" * 3_000_000

    await producer.send([Record(topic, "k", large, (("h", b"1"),)), Record(topic, "k", None)])

    first, second = await held(kafka, topic)
    assert (first.value, dict(first.headers)) == (large, {"h": b"1"})
    assert second.value is None


async def test_a_record_above_the_topics_limit_is_refused_and_the_producer_goes_on(
    client: str, producer: BatchProducer
) -> None:
    with pytest.raises(Refused, match="larger than the topic allows"):
        await producer.send([Record(results(client), "k", b"x" * 9_000_000)])

    assert await producer.send(records(results(client), 1))


async def test_a_topic_that_does_not_exist_is_for_a_person(kafka: KafkaSettings) -> None:
    async with BatchProducer(kafka, client_id="test", deadline_seconds=3) as producer:
        with pytest.raises(Misconfigured, match="verteiler provision"):
            await producer.send(records("no.such.topic", 1))


async def test_a_broker_that_is_away_is_told_in_time() -> None:
    nowhere = KafkaSettings(bootstrap="127.0.0.1:1")

    with pytest.raises(Unavailable):
        await BatchProducer(nowhere, client_id="test", deadline_seconds=2).send(records("t", 1))
    with pytest.raises(Unavailable):
        await Admin(nowhere, timeout_seconds=2).extents(["t"])
    lane = LaneConsumer(nowhere, "t", "g", deadline_seconds=2)
    with pytest.raises(Unavailable):
        await lane.start()
    await lane.close()


async def test_a_lane_goes_on_behind_what_was_committed_and_only_that(
    kafka: KafkaSettings, client: str, producer: BatchProducer
) -> None:
    topic, group = mutations(client), f"lane-{client}"
    await producer.send(records(topic, 20))

    async with LaneConsumer(kafka, topic, group, batch=7) as lane:
        done = await anext(lane.batches())
        await lane.commit(done)
        left = await anext(lane.batches())
        assert not lane.caught_up

    assert await Admin(kafka).lag(group, [topic]) == {topic: 20 - len(done)}
    async with LaneConsumer(kafka, topic, group) as lane:
        again = await taken(lane, 20 - len(done))
    assert {message.offset for message in left if message.partition == again[0].partition} <= {
        message.offset for message in again
    }
    assert not {(message.partition, message.offset) for message in done} & {
        (message.partition, message.offset) for message in again
    }


async def test_a_lane_has_caught_up_when_all_that_was_there_at_start_is_finished(
    kafka: KafkaSettings, client: str, producer: BatchProducer
) -> None:
    topic, group = mutations(client), f"lane-{client}"
    async with LaneConsumer(kafka, topic, group) as lane:
        assert lane.caught_up  # nothing was there

    await producer.send(records(topic, 10))
    async with LaneConsumer(kafka, topic, group) as lane:
        assert sum(lane.end_offsets.values()) == 10
        messages = await taken(lane, 10)
        assert not lane.caught_up
        with pytest.raises(Unavailable, match="not read to its end"):
            await lane.wait_caught_up(within_seconds=0.05)

        await lane.commit(messages)

        await lane.wait_caught_up(within_seconds=1)


async def test_a_cancelled_wait_loses_no_record(kafka: KafkaSettings, client: str, producer: BatchProducer) -> None:
    topic = mutations(client)
    got: list[Message] = []
    cancelled = 0
    async with LaneConsumer(kafka, topic, f"lane-{client}") as lane:
        for _ in range(20):
            waiting = asyncio.ensure_future(anext(lane.batches()))
            await producer.send(records(topic, 1))
            waiting.cancel()
            (answer,) = await asyncio.gather(waiting, return_exceptions=True)
            cancelled += isinstance(answer, asyncio.CancelledError)
            got += answer if isinstance(answer, list) else []
        assert cancelled

        got += await taken(lane, 20 - len(got))

    assert len({(message.partition, message.offset) for message in got}) == len(got) == 20


async def test_a_paused_lane_delivers_nothing_until_it_goes_on(
    kafka: KafkaSettings, client: str, producer: BatchProducer
) -> None:
    topic = mutations(client)
    async with LaneConsumer(kafka, topic, f"lane-{client}") as lane:
        await lane.pause()
        await producer.send(records(topic, 1))
        waiting = asyncio.ensure_future(anext(lane.batches()))
        done, _ = await asyncio.wait([waiting], timeout=0.7)
        assert not done

        await lane.resume()

        assert len(await asyncio.wait_for(waiting, 5)) == 1


async def test_a_topic_is_read_from_a_time_to_its_end(
    kafka: KafkaSettings, client: str, producer: BatchProducer
) -> None:
    topic = results(client)
    assert await held(kafka, topic) == []
    await producer.send(records(topic, 5))
    later = datetime.fromtimestamp(max(message.written_ms for message in await held(kafka, topic)) / 1000 + 0.002, UTC)
    await asyncio.sleep(0.005)
    await producer.send(records(topic, 3))

    assert len(await held(kafka, topic)) == 8
    assert len(await held(kafka, topic, since=later)) == 3
    assert await held(kafka, topic, since=datetime(2100, 1, 1, tzinfo=UTC)) == []


async def test_contracts_are_registered_once_and_keep_their_ids(kafka: KafkaSettings) -> None:
    async with Registry(kafka) as first, Registry(kafka) as second:
        ids = await first.register()

        assert ids.keys() == set(contracts())
        assert await second.register() == ids
        assert await second.unregistered() == []
        assert {name: await Registry(kafka).id_of(name) for name in ("mutation",)} == {"mutation": ids["mutation"]}
        assert (await first.compatibility(), await first.compatibility("mutation")) == ("NONE", "BACKWARD_TRANSITIVE")


async def test_a_contract_that_would_make_older_records_unreadable_is_refused(kafka: KafkaSettings) -> None:
    async with Registry(kafka) as registry:
        await registry.register(["cursor"])
    schema = json.loads(codec.contract_text("cursor"))
    schema["fields"].append({"name": "added", "type": "string"})  # without a default

    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{kafka.registry_url}{kafka.registry_path}/subjects/{subject_of('cursor')}/versions",
            json={"schema": json.dumps(schema)},
        ) as response,
    ):
        assert response.status == 409


async def test_a_record_is_decoded_by_the_schema_that_wrote_it_and_an_unknown_schema_is_malformed(
    kafka: KafkaSettings,
) -> None:
    cursor = Cursor("a", "unsubscriptions", "http://x", 7, AT)
    async with Registry(kafka) as registry:
        ids = await registry.register(["cursor", "dead-letter"])
        value, unknown = codec.frame(ids["cursor"], "cursor", cursor), b"\x00\x00\x0f\x42\x3fbody"
        decoder = Decoder(registry)
        await decoder.prepare([value, unknown, None])

        assert decoder.decode_as(value, Cursor) == cursor
        with pytest.raises(MalformedInput, match="knows no schema"):
            decoder.decode(unknown)


async def test_a_parked_record_can_be_read_back_byte_for_byte(kafka: KafkaSettings, producer: BatchProducer) -> None:
    key = uuid.uuid4().hex
    message = Message("t", 1, 2, key.encode(), b"\xff\x00", {}, 0)
    async with Registry(kafka) as registry:
        ids = await registry.register(["dead-letter"])
        await Admin(kafka).ensure_topics([t for t in catalogue([], [], kafka) if t.contract == "dead-letter"])
        letter = dead_letter(message, MalformedInput("no Avro frame"), flow="test", at=AT)
        await producer.send([parked(letter, ids["dead-letter"])])

        (found,) = [m for m in await held(kafka, "verteiler.dead-letters") if m.key == key.encode()]
        decoder = Decoder(registry)
        await decoder.prepare([found.value])
        assert found.value is not None
        assert decoder.decode_as(found.value, DeadLetter) == letter


async def test_peek_shows_the_newest_records_and_hides_what_is_personal(
    kafka: KafkaSettings, client: str, producer: BatchProducer
) -> None:
    settings, topic = Settings(kafka=kafka), results(client)
    emails = [Record(topic, "k", json.dumps({"email": f"{number}@example.com"}).encode()) for number in range(5)]
    await producer.send([*emails, Record(topic, "k", None), Record(topic, "k", b"\x01broken")])
    await producer.send([Record(topic, "other", emails[0].value)])

    found = await newest(settings, topic, key="k", since=None, limit=3, reveal=False)
    assert [record.tombstone for record in found] == [False, True, False]
    assert (found[0].value, found[2].value) == ({"email": HIDDEN}, HIDDEN)
    assert found[2].fault is not None

    (revealed,) = await newest(settings, topic, key="other", since=None, limit=3, reveal=True)
    assert revealed.value == {"email": "0@example.com"}
    assert len(await newest(settings, topic, key=None, since=None, limit=99, reveal=False)) == 8


async def test_peek_names_a_topic_that_does_not_exist(kafka: KafkaSettings) -> None:
    with pytest.raises(Misconfigured, match=r"there is no topic no\.such"):
        await newest(Settings(kafka=kafka), "no.such", key=None, since=None, limit=1, reveal=False)


async def test_topics_counts_what_the_broker_holds(kafka: KafkaSettings, client: str, producer: BatchProducer) -> None:
    await producer.send(records(results(client), 12))

    rows = {row.name: row for row in await topic_rows(Settings(kafka=kafka))}

    assert (rows[results(client)].records, rows[mutations(client)].records) == (12, 0)


async def taken(lane: LaneConsumer, count: int) -> list[Message]:
    """The next records of the lane, up to `count`."""
    found: list[Message] = []
    async with asyncio.timeout(10), aclosing(lane.batches()) as batches:
        async for batch in batches:
            found += batch
            if len(found) >= count:
                break
    return found
