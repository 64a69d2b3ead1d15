"""The catalogue holds every topic, and nothing personal outlives its bound."""

import pytest

from connectors.kafka.admin import Outcome, compared
from connectors.kafka.catalogue import Cleanup, Topic, catalogue
from connectors.kafka.registry import contracts
from connectors.kafka.settings import KafkaSettings
from connectors.smartwe.schema import CAPTURED_TABLES

SETTINGS = KafkaSettings()
TOPICS = {topic.name: topic for topic in catalogue(["a", "b"], CAPTURED_TABLES, SETTINGS)}
DAY_MS = 86_400_000


def test_each_captured_table_and_each_client_has_its_topics() -> None:
    assert {f"smartwe.crm.{table}" for table in CAPTURED_TABLES} <= TOPICS.keys()
    for client in "ab":
        assert {
            f"inxmail.{client}.{noun}"
            for noun in ("mutations.normal", "results", "effects", "cursors", "subscriptions", "unsubscriptions")
        } <= TOPICS.keys()


def test_every_contract_is_carried_by_a_topic() -> None:
    assert {topic.contract for topic in TOPICS.values()} - {None} == set(contracts())


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
def test_personal_data_is_bounded_in_time(topic: Topic) -> None:
    if topic.cleanup is Cleanup.COMPACT:
        assert int(topic.config["max.compaction.lag.ms"]) <= 7 * DAY_MS
        assert int(topic.config["min.compaction.lag.ms"]) == 3 * DAY_MS
        assert int(topic.config["delete.retention.ms"]) == 7 * DAY_MS
    else:  # the oldest record of a segment waits for its newest
        assert int(topic.config["retention.ms"]) + int(topic.config["segment.ms"]) <= 21 * DAY_MS
    assert int(topic.config["segment.ms"]) <= DAY_MS


def test_a_table_nobody_classified_counts_as_personal_data() -> None:
    (topic,) = (topic for topic in catalogue([], ["new_table"], SETTINGS) if topic.name == "smartwe.crm.new_table")

    assert topic.personal_data


def test_connectors_own_topics_have_one_partition() -> None:
    assert TOPICS["__debezium-heartbeat.smartwe"].partitions == 1
    assert TOPICS["smartwe.cdc.dbz_signal"].partitions == 1


def test_shortened_settings_stay_consistent() -> None:
    short = KafkaSettings(
        max_compaction_lag_seconds=5, segment_seconds=10, event_retention_seconds=8, delete_retention_seconds=1
    )

    for topic in catalogue(["a"], CAPTURED_TABLES, short):
        if topic.cleanup is Cleanup.COMPACT:  # the broker refuses a lower bound above the upper one
            assert int(topic.config["min.compaction.lag.ms"]) <= int(topic.config["max.compaction.lag.ms"])
        else:
            assert int(topic.config["retention.ms"]) > 0


def test_three_replicas_mean_that_two_must_have_written() -> None:
    (topic, *_) = catalogue([], ["address"], KafkaSettings(replication=3))

    assert topic.config["min.insync.replicas"] == "2"


def test_a_topic_as_catalogued_is_kept_and_another_setting_named() -> None:
    topic = TOPICS["inxmail.a.results"]

    assert compared(topic, topic.partitions, topic.config, Outcome.ALTERED).outcome is Outcome.KEPT
    changed = compared(topic, topic.partitions, {**topic.config, "segment.ms": "1"}, Outcome.ALTERED)
    assert (changed.outcome, changed.detail) == (Outcome.ALTERED, f"segment.ms is 1 instead of {DAY_MS}")


def test_another_number_of_partitions_is_told_and_never_altered() -> None:
    topic = TOPICS["inxmail.a.results"]

    outcome = compared(topic, topic.partitions + 1, topic.config, Outcome.ALTERED)

    assert outcome.outcome is Outcome.DIFFERS
    assert "5 partitions instead of 4" in outcome.detail
