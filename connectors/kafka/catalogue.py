"""Every topic of the pipeline, in one place: its name, what a key means, how long a record stays, who writes it. Pure.

Nothing relies on a broker that creates topics by itself. Erasure is a tombstone plus bounded compaction, so every
compacted topic is compacted within `max_compaction_lag_seconds`, and every other one forgets.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

import msgspec

from connectors.kafka.settings import KafkaSettings
from schemas.mutations import Lane

RECIPIENT_STATUS: Final = "crm.recipient-status"
SUPPRESSIONS: Final = "crm.suppressions"
DEAD_LETTERS: Final = "verteiler.dead-letters"
OPERATOR_DECISIONS: Final = "verteiler.operator-decisions"

STRUCTURE_TABLES: Final = frozenset(
    {
        "baf_client",
        "channel",
        "source",
        "distribution",
        "distribution_binding",
        "field_mapping",
        "lookup_set",
        "lookup_value",
        "lookup_mapping",
    }
)
"""Captured tables that say nothing of a contact. Any other table counts as personal data until it is named here."""

MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
"""Largest record: a wide row before and after a change. The broker's own limit of 1 MiB would stop capture for good."""

_DAY: Final = 86_400


def captured(table: str, prefix: str = "smartwe") -> str:
    """The topic of a captured table of schema `crm`."""
    return f"{prefix}.crm.{table}"


def heartbeats(prefix: str = "smartwe") -> str:
    """Where the connector says that it lives."""
    return f"__debezium-heartbeat.{prefix}"


def signals(prefix: str = "smartwe") -> str:
    """Where the connector repeats the signals it was given."""
    return f"{prefix}.cdc.dbz_signal"


def mutations(client: str, lane: str = Lane.NORMAL) -> str:
    """Desired states for one lane of one client."""
    return f"inxmail.{client}.mutations.{lane}"


def results(client: str) -> str:
    """What one client holds of each mailbox."""
    return f"inxmail.{client}.results"


def effects(client: str) -> str:
    """Every call to one client that changes something."""
    return f"inxmail.{client}.effects"


def cursors(client: str) -> str:
    """How far each stream of one client has been read."""
    return f"inxmail.{client}.cursors"


def subscriptions(client: str) -> str:
    """The subscription log of one client."""
    return f"inxmail.{client}.subscriptions"


def unsubscriptions(client: str) -> str:
    """The unsubscription log of one client."""
    return f"inxmail.{client}.unsubscriptions"


class Cleanup(StrEnum):
    """How a topic forgets: all but the newest record of a key, or everything after a time."""

    COMPACT = "compact"
    DELETE = "delete"


class Topic(msgspec.Struct, frozen=True):
    """One topic.

    contract: name of the Avro contract of its values; None when Connect writes its own schema or there is none yet.
    retention_seconds: longest life of a record, or, in a compacted topic, of a record that a newer one has replaced.
    personal_data: values hold names, addresses or attributes in clear text; a mailbox ref or keyed hash is none.
    config: the topic's settings at the broker.
    """

    name: str
    contract: str | None
    key_meaning: str
    cleanup: Cleanup
    retention_seconds: int
    partitions: int
    replication: int
    personal_data: bool
    written_by: str
    guarantee: str
    config: dict[str, str]


_IN_ORDER: Final = "at least once, in order for one key"


def catalogue(
    clients: Collection[str], captured_tables: Collection[str], settings: KafkaSettings, *, prefix: str = "smartwe"
) -> tuple[Topic, ...]:
    """Every topic for these clients and captured tables, sorted by name."""

    def compact(
        name: str,
        contract: str | None,
        key_meaning: str,
        written_by: str,
        *,
        personal: bool,
        partitions: int = settings.partitions,
    ) -> Topic:
        return Topic(
            name=name,
            contract=contract,
            key_meaning=key_meaning,
            cleanup=Cleanup.COMPACT,
            retention_seconds=settings.max_compaction_lag_seconds,
            partitions=partitions,
            replication=settings.replication,
            personal_data=personal,
            written_by=written_by,
            guarantee=_IN_ORDER,
            config=_compacting(settings),
        )

    def forget(
        name: str,
        contract: str | None,
        key_meaning: str,
        written_by: str,
        retention_seconds: int,
        *,
        personal: bool,
        partitions: int = settings.partitions,
        record_bytes: int = MAX_RECORD_BYTES,
    ) -> Topic:
        return Topic(
            name=name,
            contract=contract,
            key_meaning=key_meaning,
            cleanup=Cleanup.DELETE,
            retention_seconds=retention_seconds,
            partitions=partitions,
            replication=settings.replication,
            personal_data=personal,
            written_by=written_by,
            guarantee=_IN_ORDER,
            config=_forgetting(settings, retention_seconds, record_bytes),
        )

    topics = [
        compact(captured(table, prefix), None, "row GGUID", "Connect", personal=table not in STRUCTURE_TABLES)
        for table in captured_tables
    ]
    topics += [
        forget(heartbeats(prefix), None, "the connector", "Connect", _DAY, personal=False, partitions=1),
        forget(signals(prefix), None, "the connector", "Connect", _DAY, personal=False, partitions=1),
        compact(RECIPIENT_STATUS, "recipient-status", "recipient GGUID", "decide", personal=True),
        compact(SUPPRESSIONS, "suppression-record", "suppression GGUID", "decide", personal=False),
        compact(OPERATOR_DECISIONS, None, "decision id", "console, command line", personal=False),
        forget(
            DEAD_LETTERS,
            "dead-letter",
            "key of the source record",
            "every process",
            settings.event_retention_seconds,
            personal=True,
            record_bytes=2 * MAX_RECORD_BYTES,  # it wraps a whole record
        ),
    ]
    for client in clients:
        worker = f"client worker {client}"
        topics += [
            forget(
                mutations(client, lane),
                "mutation",
                "mailbox ref",
                "decide",
                settings.mutation_retention_seconds,
                personal=True,
            )
            for lane in Lane
        ]
        topics += [
            compact(results(client), "delivery-result", "mailbox ref", worker, personal=True),
            compact(effects(client), "effect", "operation id", worker, personal=False),
            compact(cursors(client), "cursor", "stream name", worker, personal=False, partitions=1),
            compact(subscriptions(client), "subscription-event", "event id", worker, personal=True),
            compact(unsubscriptions(client), "unsubscription-event", "event id", worker, personal=True),
        ]
    return tuple(sorted(topics, key=lambda topic: topic.name))


def _compacting(settings: KafkaSettings) -> dict[str, str]:
    return {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": _ms(min(settings.min_compaction_lag_seconds, settings.max_compaction_lag_seconds)),
        "max.compaction.lag.ms": _ms(settings.max_compaction_lag_seconds),
        "segment.ms": _ms(settings.segment_seconds),
        "delete.retention.ms": _ms(settings.delete_retention_seconds),
        **_common(settings, MAX_RECORD_BYTES),
    }


def _forgetting(settings: KafkaSettings, retention_seconds: int, record_bytes: int) -> dict[str, str]:
    # The broker deletes whole segments, by their newest record: the oldest one lives for a segment's time longer.
    segment_seconds = max(1, min(settings.segment_seconds, retention_seconds // 2))
    return {
        "cleanup.policy": "delete",
        "retention.ms": _ms(retention_seconds - segment_seconds),
        "segment.ms": _ms(segment_seconds),
        **_common(settings, record_bytes),
    }


def _common(settings: KafkaSettings, record_bytes: int) -> dict[str, str]:
    common = {"max.message.bytes": str(record_bytes)}
    if settings.replication >= 3:
        common["min.insync.replicas"] = "2"
    return common


def _ms(seconds: int) -> str:
    return str(seconds * 1000)
