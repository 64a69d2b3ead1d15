"""What is parked, what the registry's answers mean, and when a lane has caught up."""

from datetime import UTC, datetime

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from confluent_kafka import KafkaError, KafkaException

from connectors.kafka import failures, registry
from connectors.kafka.consumer import Progress
from connectors.kafka.dead_letters import dead_letter, parked
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder, Registry
from connectors.kafka.settings import KafkaSettings
from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.errors import MalformedInput, Misconfigured, PipelineError, Refused, Unavailable

AT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
MESSAGE = Message("smartwe.crm.address", 2, 7, b"A" * 32, b"\x00\xff", {"epoch": b"1"}, 0)


def test_a_parked_record_keeps_its_bytes_its_place_and_its_key() -> None:
    letter = dead_letter(MESSAGE, MalformedInput("no Avro frame"), flow="changes", at=AT)

    record = parked(letter, 42)

    assert (record.topic, record.key) == ("verteiler.dead-letters", "A" * 32)
    assert record.value is not None
    assert codec.read(codec.unframe(record.value, codec.contract("dead-letter")), DeadLetter) == letter
    assert (letter.value, letter.partition, letter.offset) == (b"\x00\xff", 2, 7)
    assert (letter.error, letter.reason, letter.first_seen_at) == ("MalformedInput", "no Avro frame", AT)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (401, Misconfigured), (403, Misconfigured), (404, Refused), (409, Refused), (422, Refused),
     (408, Unavailable), (429, Unavailable), (500, Unavailable), (503, Unavailable)],
)  # fmt: skip
def test_each_status_of_the_registry_has_a_meaning(status: int, kind: type[PipelineError] | None) -> None:
    failure = registry.failure_of(status)

    assert type(failure) is (kind or type(None))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaTimeoutError(), Unavailable),
        (TimeoutError(), Unavailable),
        (UnknownTopicOrPartitionError(), Misconfigured),
        (MessageSizeTooLargeError(), Refused),
    ],
)
def test_what_went_wrong_while_writing_has_a_meaning(error: KafkaTimeoutError, kind: type[PipelineError]) -> None:
    assert type(failures.produce_failure(error, "t")) is kind


def test_a_missing_topic_is_for_a_person_and_a_silent_broker_is_not() -> None:
    missing = failures.failure_of(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)), "read t")
    silent = failures.failure_of(KafkaError(KafkaError._TIMED_OUT), "read t")

    assert (type(missing), type(silent)) == (Misconfigured, Unavailable)


def test_a_subject_is_named_after_its_record() -> None:
    assert registry.subject_of("delivery-result") == "verteiler.DeliveryResult"


@pytest.mark.parametrize("value", [b"", b"{}", b'{"plain": "json"}'])
async def test_bytes_without_a_frame_ask_no_registry_and_are_malformed(value: bytes) -> None:
    async with Registry(KafkaSettings(registry_url="http://127.0.0.1:1")) as nowhere:
        decoder = Decoder(nowhere)
        await decoder.prepare([value, None])

        with pytest.raises(MalformedInput):
            decoder.decode(value)


async def test_a_registry_that_is_away_is_not_the_records_fault() -> None:
    async with Registry(KafkaSettings(registry_url="http://127.0.0.1:1")) as nowhere:
        with pytest.raises(Unavailable):
            await Decoder(nowhere).prepare([b"\x00\x00\x00\x00\x07body"])


def progress(ends: dict[int, int]) -> Progress:
    made = Progress()
    made.ends = ends
    return made


def test_a_lane_that_never_read_its_ends_has_not_caught_up() -> None:
    assert not Progress().caught_up()


def test_an_empty_topic_is_caught_up_at_once() -> None:
    assert progress({0: 0, 1: 0}).caught_up()


def test_a_lane_has_caught_up_when_every_record_is_finished_not_when_it_is_delivered() -> None:
    lane = progress({0: 8})
    lane.deliver(last := Message("t", 0, 7, None, None, {}, 0))
    lane.reach(0, 8)
    assert not lane.caught_up()

    lane.finish({0: last.offset + 1})

    assert lane.caught_up()


def test_offsets_that_compaction_emptied_do_not_hold_up_a_lane() -> None:
    lane = progress({0: 100, 1: 0})
    lane.deliver(Message("t", 0, 41, None, None, {}, 0))
    lane.finish({0: 42})
    assert not lane.caught_up()

    lane.reach(0, 100)

    assert lane.caught_up()
