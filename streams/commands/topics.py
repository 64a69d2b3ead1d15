"""`verteiler topics` and `verteiler peek`: what is on the bus, and what its records say."""

import asyncio
import json
import re
import sys
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.json import JSON
from rich.table import Column, Table

from connectors.kafka.admin import Admin
from connectors.kafka.catalogue import Topic, catalogue
from connectors.kafka.reading import read_topic_async
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder, Registry
from connectors.smartwe.schema import CAPTURED_TABLES
from schemas.errors import MalformedInput, Misconfigured
from streams.commands.masking import HIDDEN, masked
from streams.commands.output import errors, tell
from streams.settings import Settings, read_settings

_CLIENT: Final = re.compile(r"inxmail\.([a-z0-9_-]+)\.")
_AGO: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class TopicRow(msgspec.Struct, frozen=True):
    """One topic. `records` is approximate in compacted topics: offsets in use, holes included; None: it is missing."""

    name: str
    partitions: int
    records: int | None
    cleanup: str
    retention_seconds: int
    personal_data: bool
    key: str
    contract: str | None
    written_by: str
    guarantee: str


class Peeked(msgspec.Struct, frozen=True):
    """One record as it may be shown. A tombstone has neither value nor fault; `fault` says why a value is not read."""

    topic: str
    partition: int
    offset: int
    written_at: datetime
    key: str | None
    headers: dict[str, str]
    value: Any
    tombstone: bool
    fault: str | None = None


def topics(home: Path, *, as_json: bool) -> None:
    """Show all topics of the catalogue. Raises: Unavailable, Misconfigured."""
    rows = asyncio.run(topic_rows(read_settings(home)))

    def human(console: Console) -> None:
        table = Table(
            Column("topic", no_wrap=True), "partitions", "records", "cleanup", "kept", "personal", "key", "written by"
        )
        for row in rows:
            table.add_row(
                row.name,
                str(row.partitions),
                "[red]missing[/]" if row.records is None else f"{row.records:,}",
                row.cleanup,
                _days(row.retention_seconds),
                "yes" if row.personal_data else "",
                row.key,
                row.written_by,
            )
        console.print(table)
        console.print("In compacted topics: records counts offsets in use, kept is how long a replaced record stays.")

    tell({"topics": rows}, as_json=as_json, human=human)


def peek(
    home: Path,
    topic: str,
    *,
    key: str | None,
    since: str | None,
    limit: int,
    follow: bool,
    reveal: bool,
    as_json: bool,
) -> None:
    """Show decoded records, newest last; with `follow` until interrupted, in JSON one document a line.

    Raises: Misconfigured, when there is no such topic or time; Unavailable.
    """
    settings = read_settings(home)
    start = None if since is None else instant_of(since, datetime.now(UTC))
    if follow:
        asyncio.run(_follow(settings, topic, key=key, since=start, limit=limit, reveal=reveal, as_json=as_json))
        return

    records = asyncio.run(newest(settings, topic, key=key, since=start, limit=limit, reveal=reveal))

    def human(console: Console) -> None:
        for record in records:
            show(console, record)
        if not records:
            errors.print("no such record")

    tell({"topic": topic, "records": records}, as_json=as_json, human=human)


async def topic_rows(settings: Settings) -> list[TopicRow]:
    """Every topic that the pipeline needs, with what the broker holds of it. Raises: Unavailable, Misconfigured."""
    admin = Admin(settings.kafka)
    wanted = _catalogued(settings, await admin.names())
    held: dict[str, int] = {}
    for (name, _), extent in (await admin.extents(wanted)).items():
        held[name] = held.get(name, 0) + extent.end - extent.first
    return [
        TopicRow(
            name=topic.name,
            partitions=topic.partitions,
            records=held.get(topic.name),
            cleanup=topic.cleanup.value,
            retention_seconds=topic.retention_seconds,
            personal_data=topic.personal_data,
            key=topic.key_meaning,
            contract=topic.contract,
            written_by=topic.written_by,
            guarantee=topic.guarantee,
        )
        for topic in wanted.values()
    ]


async def newest(
    settings: Settings, topic: str, *, key: str | None, since: datetime | None, limit: int, reveal: bool
) -> list[Peeked]:
    """The newest `limit` records that fit, oldest first. Raises: Unavailable, Misconfigured."""
    found: deque[Peeked] = deque()
    # Looked for from the end first: a topic may be long. A key, or holes that compaction left, may need all of it.
    for last in (None,) if key is not None else (limit, None):
        found.clear()
        async for record in peeked(settings, topic, key=key, since=since, last=last, follow=False, reveal=reveal):
            found.append(record)
            if len(found) > 4 * limit + 1000:
                found = _newest(found, limit)
        if len(found) >= limit:
            break
    return list(_newest(found, limit))


async def peeked(
    settings: Settings,
    topic: str,
    *,
    key: str | None,
    since: datetime | None,
    last: int | None,
    follow: bool,
    reveal: bool,
) -> AsyncIterator[Peeked]:
    """Records as they are read, decoded and masked. Raises: Unavailable; Misconfigured, when there is no such topic."""
    if topic not in await Admin(settings.kafka).partitions([topic]):
        raise Misconfigured(f"there is no topic {topic}; `verteiler topics` names those there are")
    known = _catalogued(settings, [topic]).get(topic)
    reveal_values = reveal or (known is not None and not known.personal_data)
    wanted = None if key is None else key.encode()
    async with Registry(settings.kafka) as registry:
        decoder = Decoder(registry)
        async for batch in read_topic_async(settings.kafka, topic, since=since, last=last, follow=follow):
            chosen = [message for message in batch if wanted is None or message.key == wanted]
            await decoder.prepare(message.value for message in chosen)
            for message in chosen:
                yield shown(message, decoder, reveal=reveal_values)


def shown(message: Message, decoder: Decoder, *, reveal: bool) -> Peeked:
    """One record as it may be shown. Values are Avro of any writer, or plain JSON; the decoder is prepared for them."""
    value: Any = None
    fault: str | None = None
    if message.value is not None:
        try:
            value = masked(_decoded(message.value, decoder), reveal=reveal)
        except MalformedInput as malformed:
            value, fault = (message.value.hex() if reveal else HIDDEN), str(malformed)
    return Peeked(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        written_at=datetime.fromtimestamp(message.written_ms / 1000, UTC),
        key=None if message.key is None else message.key.decode("utf-8", "backslashreplace"),
        headers={name: value.decode("utf-8", "backslashreplace") for name, value in message.headers.items()},
        value=value,
        tombstone=message.value is None,
        fault=fault,
    )


def instant_of(text: str, now: datetime) -> datetime:
    """The instant meant by ISO 8601 (UTC, unless it says otherwise) or by an age such as 10m, 2h, 3d.

    Raises: Misconfigured, when it is neither.
    """
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise Misconfigured(f"--since {text}: neither a time in ISO 8601 nor an age such as 10m, 2h or 3d") from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def show(console: Console, record: Peeked) -> None:
    """Print one record for a person."""
    headers = " ".join(f"{name}={value}" for name, value in record.headers.items())
    place = f"{record.partition}/{record.offset}  {record.written_at:%Y-%m-%d %H:%M:%S}"
    console.print(f"{place}  {record.key or '(no key)'}  {headers}", style="bold", markup=False)
    if record.tombstone:
        console.print("  tombstone: the key is gone", style="dim")
    elif record.fault is not None:
        console.print(f"  cannot be read: {record.fault}", style="red")
    else:
        console.print(JSON(json.dumps(record.value, ensure_ascii=False)))


async def _follow(
    settings: Settings,
    topic: str,
    *,
    key: str | None,
    since: datetime | None,
    limit: int,
    reveal: bool,
    as_json: bool,
) -> None:
    console = Console(highlight=False)
    last = limit if since is None and key is None else None
    async for record in peeked(settings, topic, key=key, since=since, last=last, follow=True, reveal=reveal):
        if as_json:
            sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
            sys.stdout.flush()
        else:
            show(console, record)


def _decoded(value: bytes, decoder: Decoder) -> dict[str, Any]:
    if value[:1] != b"{":
        return decoder.decode(value)
    try:
        return dict(json.loads(value))
    except ValueError as error:
        raise MalformedInput("neither an Avro frame nor a JSON object") from error


def _newest(found: deque[Peeked], limit: int) -> deque[Peeked]:
    return deque(sorted(found, key=lambda record: (record.written_at, record.partition, record.offset))[-limit:])


def _catalogued(settings: Settings, names: list[str]) -> dict[str, Topic]:
    """The catalogue for the clients of these topics and of the settings."""
    clients = {found[1] for name in names if (found := _CLIENT.match(name))} | settings.inxmail.keys()
    prefix = settings.capture.topic_prefix
    return {topic.name: topic for topic in catalogue(sorted(clients), CAPTURED_TABLES, settings.kafka, prefix=prefix)}


def _days(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    return f"{days} d" if not rest else f"{seconds / 3600:.1f} h"
