"""A small CRM as records on their way into decide, and what decide makes of them: real PostgreSQL, no Kafka."""

import itertools
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from connectors.kafka.records import Message
from connectors.postgres.migrations import migrate
from connectors.store.decisions import Rest
from schemas.codec import plain
from schemas.facts import UnsubscriptionEvent
from schemas.ids import KeyRing
from schemas.mutations import DeliveryResult, Held, HeldList, Mutation, Outcome
from streams.outbound.batch import fold_and_settle, settle_rested
from streams.outbound.intake import intake_of
from streams.outbound.settle import Law

RING = KeyRing([b"0123456789abcdef"])
LAW = Law(RING, timedelta(seconds=60), 1)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
EARLIER = "2026-01-01T00:00:00.000Z"
CLIENT, LIST = "a", 7
EMAIL = "ann@example.com"


def gguid(number: int) -> str:
    return f"{number:032X}"


ROWS: dict[str, dict[str, Any]] = {
    "baf_client": {"gguid": gguid(1), "baf_client_id": CLIENT, "state": "active"},
    "distribution": {"gguid": gguid(2), "title": "News", "requires_doi": False},
    "distribution_binding": {
        "gguid": gguid(3),
        "distribution_gguid": gguid(2),
        "baf_client_id": CLIENT,
        "inxmail_list_id": LIST,
        "direction": "both",
        "state": "active",
    },
    "field_mapping": {
        "gguid": gguid(4),
        "baf_client_id": CLIENT,
        "crm_table": "address",
        "crm_field": "first_name",
        "inxmail_attribute_id": 1,
        "direction": "out",
    },
    "address": {"gguid": gguid(10), "email1": " Ann@Example.com", "first_name": "Ann"},
    "address_profile": {"gguid": gguid(11), "address_gguid": gguid(10), "email": EMAIL},
    "distribution_recipient": {
        "gguid": gguid(12),
        "distribution_gguid": gguid(2),
        "baf_client_id": CLIENT,
        "address_gguid": gguid(10),
        "profile_gguid": gguid(11),
        "desired": "member",
        "inserttimestamp": EARLIER,
    },
    "consent": {
        "gguid": gguid(13),
        "kind": "written",
        "proof_level": 2,
        "captured_at": EARLIER,
        "inserttimestamp": EARLIER,
        "address_gguid": gguid(10),
        "baf_client_id": CLIENT,
        "email": EMAIL,
    },
    "suppression": {
        "gguid": gguid(14),
        "scope": "list",
        "baf_client_id": CLIENT,
        "distribution_gguid": gguid(2),
        "match": "mailbox",
        "email_hmac": RING.email_hash(EMAIL),
        "reason": "unsubscribe",
        "since": "2026-02-01T00:00:00.000Z",
    },
}
"""One row of each table, in the order in which they need each other. The suppression is newer than the consent."""

_offsets = itertools.count(1)

Decoded = tuple[Message, Any]


def change(table: str, op: str = "c", *, lsn: int | None = None, **columns: Any) -> Decoded:
    """A change of the table's row, with other columns if given."""
    offset = next(_offsets)
    row = ROWS[table] | columns
    at = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(seconds=offset)
    envelope = {
        "op": op,
        "before": row if op == "d" else None,
        "after": None if op == "d" else row,
        "source": {"table": table, "lsn": lsn or offset, "ts_ms": int(at.timestamp() * 1000), "origin": None},
    }
    topic = f"smartwe.crm.{table}"
    return Message(topic, 0, offset, row["gguid"].encode(), b"", {"epoch": b"1"}, 0), envelope


def left(event_id: int = 1, *, at: str = "2026-02-02", op_id: str | None = None, email: str = EMAIL) -> Decoded:
    """An entry of the unsubscription log."""
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)
    event = UnsubscriptionEvent(
        CLIENT, event_id, "VERIFIED_UNSUBSCRIPTION", LIST, 9, email, RING.mailbox_ref(CLIENT, email), when, when, op_id
    )
    return Message(f"inxmail.{CLIENT}.unsubscriptions", 0, next(_offsets), b"1", b"", {}, 0), plain(event)


def result(
    mutation: Mutation, *, state: Held = Held.SUBSCRIBED, recipient_id: int | None = 9, at: datetime | None = None
) -> Decoded:
    """The client's answer to a mutation: done as asked."""
    offset = next(_offsets)
    answer = DeliveryResult(
        client=mutation.client,
        mailbox=mutation.mailbox,
        email=mutation.email,
        version=mutation.version,
        desired_hash=mutation.desired_hash,
        outcome=Outcome.APPLIED,
        recipient_id=recipient_id,
        leader=mutation.leader,
        claims=mutation.claims,
        lists=(HeldList(LIST, state, "op", NOW, mutation.claims if state is Held.SUBSCRIBED else ()),),
        values={key: str(value) for key, value in mutation.values.items()},
        rejected_values={},
        error=None,
        at=at or NOW + timedelta(seconds=offset),
    )
    return Message(f"inxmail.{CLIENT}.results", 0, offset, b"m", b"", {}, 0), plain(answer)


class World:
    """A database of the test's own with the pipeline's schemas."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def fold(self, *records: Decoded, pool: Any = None, at_once: int = 100) -> list[str]:
        """Fold one batch as a worker does; the topics of what it would produce. `at_once` 0: as of a backlog."""
        intake = intake_of(records, RING)
        assert not intake.parked, [str(error) for _, error in intake.parked]
        rows, _ = await fold_and_settle(pool or self.pool, LAW, intake, at=NOW, at_once=at_once)
        return [row.topic for row in rows]

    async def sweep(self, pool: Any = None) -> list[str]:
        """Settle everybody who is marked; the topics of what it would produce."""
        rows = await settle_rested(pool or self.pool, LAW, at=NOW, limit=10_000, rest=Rest(0, 0))
        return [row.topic for row in rows or ()]

    async def record(self, topic: str, key: str) -> dict[str, Any] | None:
        """The newest record for a key."""
        body = await self.pool.fetchval("select body from sync.emission where topic = $1 and key = $2", topic, key)
        return msgspec.json.decode(body) if body else None

    async def mutation(self, email: str = EMAIL) -> Mutation | None:
        """The newest mutation of a mailbox."""
        body = await self.pool.fetchval(
            "select body from sync.emission where topic like $1 and key = $2 order by version desc limit 1",
            f"inxmail.{CLIENT}.mutations.%",
            RING.mailbox_ref(CLIENT, email),
        )
        return msgspec.json.decode(body, type=Mutation) if body else None

    async def lane(self, email: str = EMAIL) -> str | None:
        """In which lane the newest mutation of a mailbox travels."""
        topic = await self.pool.fetchval(
            "select topic from sync.emission where topic like $1 and key = $2 order by version desc limit 1",
            f"inxmail.{CLIENT}.mutations.%",
            RING.mailbox_ref(CLIENT, email),
        )
        return topic.rsplit(".", 1)[1] if topic else None

    async def status(self, recipient: str = gguid(12)) -> dict[str, Any] | None:
        """What the CRM is told of a recipient."""
        return await self.record("crm.recipient-status", recipient)

    async def decided(self) -> dict[str, Any]:
        """Everything decided, without what depends on the path: versions, lanes, causes."""
        rows = await self.pool.fetch(
            r"select distinct on (1, 2) regexp_replace(topic, '(\.mutations)\.\w+$', '\1') as topic, key, body"
            " from sync.emission order by 1, 2, version desc"
        )
        found = {}
        for row in rows:
            body = msgspec.json.decode(row["body"]) if row["body"] else None
            for name in ("version", "epoch", "cause", "desired_hash"):
                (body or {}).pop(name, None)
            found[row["topic"], row["key"]] = body
        return found


@asynccontextmanager
async def new_world(server: str) -> AsyncIterator[World]:
    """`server`: DSN of a superuser, without a database."""
    name = f"decide_{uuid.uuid4().hex[:12]}"
    maintenance = await asyncpg.connect(f"{server}/postgres")
    await maintenance.execute(f"create database {name}")
    pool = await asyncpg.create_pool(f"{server}/{name}", min_size=1, max_size=6)
    try:
        async with pool.acquire() as connection:
            await migrate(connection, "connectors.store", "sync")
        yield World(pool)
    finally:
        pool.terminate()
        await maintenance.execute(f"drop database {name} with (force)")
        await maintenance.close()


async def empty(world: World) -> None:
    """Forget everything, as `sync` may at any time."""
    tables = await world.pool.fetch(
        "select format('%I.%I', schemaname, tablename) t from pg_tables where schemaname = 'sync'"
    )
    names: Iterable[str] = [row["t"] for row in tables if "schema_migration" not in row["t"]]
    await world.pool.execute("; ".join(f"delete from {name}" for name in names))
