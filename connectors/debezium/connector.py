"""The connector that captures schema `crm`, as Kafka Connect wants it told. Pure.

Settled by running it: what each value guards against stands beside it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from connectors.debezium.settings import CaptureSettings
from schemas.debezium import EPOCH_HEADER

SCHEMA: Final = "crm"
SIGNALS: Final = "cdc.dbz_signal"
_SECRETS: Final = ("database.password",)


def slot_of(connector: str) -> str:
    """The replication slot of a connector: slots know no hyphens."""
    return re.sub(r"[^a-z0-9_]", "_", connector.lower())


def connector_config(
    settings: CaptureSettings,
    *,
    tables: Sequence[str],
    excluded_columns: Iterable[str],
    publication: str,
    epoch: int,
    record_bytes: int,
) -> dict[str, str]:
    """The connector's whole configuration. It holds the password: show it only through `shown`.

    tables: of schema `crm`, in the order in which a snapshot reads them. excluded_columns: `<table>.<column>`.
    publication: exists already. epoch: the source epoch that every record carries. record_bytes: of the largest one.
    """
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": settings.database_host,
        "database.port": str(settings.database_port),
        "database.user": settings.database_user,
        "database.password": settings.database_password.get_secret_value(),
        "database.dbname": settings.database_name,
        "topic.prefix": settings.topic_prefix,
        # What is read, and from where.
        "plugin.name": "pgoutput",
        "slot.name": slot_of(settings.connector),
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",  # the migrations own it, so that capture needs no table's ownership
        "table.include.list": ",".join(re.escape(f"{SCHEMA}.{table}") for table in tables),
        "column.exclude.list": ",".join(re.escape(f"{SCHEMA}.{column}") for column in excluded_columns),
        "snapshot.mode": "initial",
        "snapshot.fetch.size": "10000",
        "offset.mismatch.strategy": "trust_offset",
        "heartbeat.interval.ms": "5000",
        "heartbeat.action.query": "update cdc.heartbeat set ts = now() where id = 1",  # a quiet CRM keeps no WAL back
        "signal.data.collection": SIGNALS,
        "signal.enabled.channels": "source",
        "incremental.snapshot.chunk.size": "4096",
        # How a value looks on the wire: `schemas.smartwe` reads exactly this.
        "tombstones.on.delete": "true",
        "extended.headers.enabled": "false",
        "provide.transaction.metadata": "false",
        "decimal.handling.mode": "string",
        "time.precision.mode": "isostring",
        "binary.handling.mode": "bytes",
        "schema.name.adjustment.mode": "avro",
        "field.name.adjustment.mode": "avro",
        # Latency: the interval of polling decides it.
        "poll.interval.ms": "10",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        "max.queue.size.in.bytes": "67108864",
        "producer.override.linger.ms": "5",  # or each record is a request of its own, to the broker and to all who read
        "producer.override.batch.size": "131072",
        "producer.override.compression.type": "lz4",
        "producer.override.max.request.size": str(record_bytes),
        "status.update.interval.ms": "5000",
        # PostgreSQL and Kafka may go away and come back; a record may never be passed over.
        "slot.max.retries": "60",
        "slot.retry.delay.ms": "2000",
        "retriable.restart.connector.wait.ms": "2000",
        "errors.max.retries": "-1",
        "errors.tolerance": "none",
        "errors.log.enable": "true",
        "errors.log.include.messages": "false",  # a record is personal data
        "errors.retry.timeout": "300000",
        "errors.retry.delay.max.ms": "5000",
        # The key is the bare GGUID; heartbeats and signals have none. The header says to which history an LSN belongs.
        "transforms": "key,epoch",
        "transforms.key.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
        "transforms.key.field": "gguid",
        "transforms.key.predicate": "isRow",
        "transforms.epoch.type": "org.apache.kafka.connect.transforms.InsertHeader",
        "transforms.epoch.header": EPOCH_HEADER,
        "transforms.epoch.value.literal": str(epoch),
        "predicates": "isRow",
        "predicates.isRow.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
        "predicates.isRow.pattern": rf"{re.escape(settings.topic_prefix)}\.{SCHEMA}\..*",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "header.converter": "org.apache.kafka.connect.storage.SimpleHeaderConverter",
        "value.converter": "io.apicurio.registry.utils.converter.AvroConverter",
        "value.converter.connect.meta.data": "false",  # the converter writes out the whole schema for every record
        "value.converter.apicurio.registry.url": settings.registry_url.rstrip("/") + settings.registry_path,
        "value.converter.apicurio.registry.auto-register": "true",
        "value.converter.apicurio.registry.find-latest": "true",
        "value.converter.apicurio.registry.as-confluent": "true",
        "value.converter.apicurio.registry.headers.enabled": "false",
        "value.converter.apicurio.registry.use-id": "contentId",
        # Without these two a registry that is away for half a minute ends the task.
        "value.converter.apicurio.registry.check-period-ms": "86400000",
        "value.converter.apicurio.registry.fault-tolerant-refresh": "true",
    }


def shown(config: Mapping[str, str]) -> dict[str, str]:
    """The configuration as it may be printed or logged."""
    return {name: "**********" if name in _SECRETS else value for name, value in config.items()}


def differing(wanted: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """The names of the settings that are not as wanted, sorted; values are not told."""
    names = wanted.keys() | (present.keys() - {"name"})
    return sorted(name for name in names if wanted.get(name) != present.get(name))
