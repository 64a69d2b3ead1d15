"""A CRM database of a test's own, captured by a connector of its own into topics of its own."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from connectors.debezium import source
from connectors.debezium.connect import Connect
from connectors.debezium.connector import connector_config, slot_of
from connectors.debezium.settings import CaptureSettings
from connectors.kafka.admin import Admin
from connectors.kafka.catalogue import MAX_RECORD_BYTES, captured, catalogue
from connectors.kafka.reading import read_topic_async
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder, Registry
from connectors.kafka.settings import KafkaSettings
from connectors.smartwe import schema
from schemas.debezium import Change, epoch_of, parse_change
from tests.world import eventually


def kafka_settings(home: Path) -> KafkaSettings:
    """Where the stack in `home` has its broker and registry."""
    endpoints = json.loads((home / "endpoints.json").read_bytes())
    return KafkaSettings(bootstrap=endpoints["kafka"], registry_url=endpoints["registry"], partitions=2)


def connect_url(home: Path) -> str:
    """Where the stack in `home` has Kafka Connect."""
    return str(json.loads((home / "endpoints.json").read_bytes())["connect"])


async def delete_topics(settings: KafkaSettings, names: list[str]) -> None:
    """Delete those of these topics that exist."""
    held = await Admin(settings).partitions(names)
    if held:
        client = AdminClient({"bootstrap.servers": settings.bootstrap})
        await asyncio.gather(*(asyncio.wrap_future(future) for future in client.delete_topics(list(held)).values()))


@dataclass
class Captured:
    """The database by SQL, its connector by REST, its topics decoded."""

    crm: "asyncpg.Connection[asyncpg.Record]"
    kafka: KafkaSettings
    settings: CaptureSettings
    connect: Connect
    decoder: Decoder

    def config(self, *, epoch: int = 1, **changes: str) -> dict[str, str]:
        """The connector's configuration, as `provision` writes it, with changes."""
        config = connector_config(
            self.settings,
            tables=schema.CAPTURED_TABLES,
            excluded_columns=schema.UNCAPTURED_COLUMNS,
            publication=schema.PUBLICATION,
            epoch=epoch,
            record_bytes=MAX_RECORD_BYTES,
        )
        return config | {name.replace("__", "."): value for name, value in changes.items()}

    async def messages(self, topic: str, key: str | None = None) -> list[Message]:
        """Every record of a topic, or of one key."""
        wanted = None if key is None else key.encode()
        return [
            message
            async for batch in read_topic_async(self.kafka, topic)
            for message in batch
            if wanted is None or message.key == wanted
        ]

    async def changes(self, table: str, key: str | None = None) -> list[Change | None]:
        """The changes of a table's rows, or of one row, in order for each; None is a tombstone."""
        messages = await self.messages(captured(table, self.settings.topic_prefix), key)
        await self.decoder.prepare(message.value for message in messages)
        return [
            None
            if message.value is None
            else parse_change(self.decoder.decode(message.value), epoch=epoch_of(message.headers))
            for message in messages
        ]

    async def wait_for(self, table: str, key: str, count: int) -> list[Change | None]:
        """The changes of one row, once there are `count`."""

        async def arrived() -> list[Change | None]:
            found = await self.changes(table, key)
            return found if len(found) >= count else []

        found: list[Change | None] = await eventually(arrived, because=f"{count} changes of a row of {table}")
        return found

    async def address(self, **columns: Any) -> str:
        """A new address; its GGUID."""
        return str(await self.insert("address", {"email1": f"{uuid.uuid4().hex}@example.com"} | columns))

    async def insert(self, table: str, columns: Mapping[str, Any]) -> str:
        """A new row; its GGUID."""
        names = ", ".join(columns)
        places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        sql = f"insert into crm.{table} ({names}) values ({places}) returning gguid"
        return str(await self.crm.fetchval(sql, *columns.values()))


@asynccontextmanager
async def captured_crm(home: Path, server: str) -> AsyncIterator[Captured]:
    """A new CRM with its topics; its connector is not registered yet. Everything is removed at the end."""
    name = f"capture_{uuid.uuid4().hex[:8]}"
    kafka = kafka_settings(home)
    topics = [topic for topic in catalogue([], schema.CAPTURED_TABLES, kafka, prefix=name) if name in topic.name]
    superuser = urlsplit(server)
    settings = CaptureSettings(
        connect_url=connect_url(home),
        connector=name,
        topic_prefix=name,
        database_host=superuser.hostname or "127.0.0.1",
        database_port=superuser.port or 5432,
        database_name=name,
        database_user=unquote(superuser.username or ""),  # roles belong to the whole server, which others use
        database_password=SecretStr(unquote(superuser.password or "")),
        registry_url=kafka.registry_url,
    )
    control = await asyncpg.connect(f"{server}/postgres")
    await control.execute(f"create database {name}")
    try:
        await schema.migrate(f"{server}/{name}")
        await Admin(kafka).ensure_topics(topics)
        crm = await asyncpg.connect(f"{server}/{name}", statement_cache_size=0)  # columns change their type
        try:
            async with Connect(settings.connect_url) as connect, Registry(kafka) as registry:
                try:
                    yield Captured(crm, kafka, settings, connect, Decoder(registry))
                finally:
                    await connect.delete(name)
                    await source.drop_slot(crm, slot_of(name))
        finally:
            await crm.close()
    finally:
        await control.execute(f"drop database {name} with (force)")
        await control.close()
        await delete_topics(kafka, [topic.name for topic in topics])
