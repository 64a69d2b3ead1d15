"""What `status` counts of what is really stored, and what it says when nothing answers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.debezium.settings import CaptureSettings
from connectors.kafka.settings import KafkaSettings
from connectors.store.inspection import Inspection
from schemas.mutations import Outcome
from streams.overview import gather
from streams.settings import DatabaseSettings, Settings
from tests.integration.decide_world import ROWS, World, change, gguid, new_world, result

stack = pytest.mark.stack


@pytest.fixture
async def world(postgres_server: str) -> AsyncIterator[World]:
    async with new_world(postgres_server) as world:
        await world.fold(*(change(table) for table in ROWS if table != "suppression"))
        yield world


@stack
async def test_a_mutation_without_an_answer_is_unapplied_since_its_sources_commit(world: World) -> None:
    mutation = await world.mutation()
    assert mutation is not None

    waiting = await Inspection(world.pool).unapplied()
    unproduced = await Inspection(world.pool).unproduced()
    await world.fold(result(mutation))

    assert {place: found.mailboxes for place, found in waiting.items()} == {("a", "normal"): 1}
    assert waiting["a", "normal"].oldest_at == mutation.cause.committed_at
    assert unproduced.records == 2 and unproduced.oldest_at is not None
    assert await Inspection(world.pool).unapplied() == {}


@stack
async def test_a_held_claim_is_named_and_the_names_are_bounded(world: World) -> None:
    mutation = await world.mutation()
    assert mutation is not None
    await world.fold(result(mutation))
    await world.fold(change("address_profile", "u", email="ann.other@example.net"))

    (held,) = await Inspection(world.pool).held_claims(20)
    (unnamed,) = await Inspection(world.pool).held_claims(0)

    assert (held.client, held.claims, held.recipients) == ("a", 1, (gguid(12),))
    assert (unnamed.claims, unnamed.recipients) == (1, ())


@stack
@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        pytest.param({"outcome": Outcome.QUARANTINED}, (1, 0, 0), id="a mailbox"),
        pytest.param({"outcome": Outcome.PAUSED}, (0, 1, 0), id="a client that refuses us"),
        pytest.param({"rejected_values": {"1": "TOO_LONG"}}, (0, 0, 1), id="single fields"),
    ],
)
async def test_what_a_client_refuses_is_counted_by_kind(
    world: World, fields: dict[str, object], counts: tuple[int, int, int]
) -> None:
    mutation = await world.mutation()
    assert mutation is not None
    message, answer = result(mutation)
    await world.fold((message, answer | fields))

    (refused,) = await Inspection(world.pool).quarantined()

    assert (refused.mailboxes, refused.paused, refused.with_rejected_values) == counts


@stack
async def test_what_a_clients_worker_has_in_hand_is_counted(world: World) -> None:
    await world.pool.execute(
        "insert into sync.delivery (client, mailbox, email, dirt) values ('a', 'm1', 'x', 1), ('a', 'm2', 'y', 0);"
        "insert into sync.open_import (client, op_id, resubscribe, columns, phase, subscription_position) values"
        " ('a', 'one', false, '[]', 'posted', 0), ('a', 'two', false, '[]', 'closed', 0);"
        "insert into sync.effect (client, op_id, kind, outcome) values ('a', 'x', 'unsubscribe', 'open');"
        "insert into sync.cursor (client, stream, link, last_event_id) values ('a', 'unsubscriptions', 'l', 4711);"
        "insert into fence.lease (client, epoch, holder, expires_at) values"
        " ('a', 3, 'one', now() + interval '1 minute'), ('b', 1, 'two', now() - interval '1 minute')"
    )
    inspection = Inspection(world.pool)

    (delivery,) = await inspection.deliveries()
    (cursor,) = await inspection.cursors()

    assert (delivery.pending, delivery.open_imports, delivery.open_calls) == (1, 1, 1)
    assert delivery.oldest_import_at is not None and delivery.oldest_import_at <= datetime.now(UTC)
    assert (cursor.client, cursor.stream, cursor.last_event_id) == ("a", "unsubscriptions", 4711)
    assert [(lease.client, lease.holder, lease.is_held) for lease in await inspection.leases()] == [
        ("a", "one", True),
        ("b", "two", False),
    ]


async def test_when_nothing_answers_every_part_is_named_once_and_a_report_still_comes(tmp_path: Path) -> None:
    nowhere = "127.0.0.1:9"
    settings = Settings(
        home=tmp_path,
        kafka=KafkaSettings(bootstrap=nowhere),
        capture=CaptureSettings(connect_url=f"http://{nowhere}"),
        database=DatabaseSettings(
            sync_dsn=SecretStr(f"postgresql://x:geheim@{nowhere}/sync"),
            crm_dsn=SecretStr(f"postgresql://x:geheim@{nowhere}/crm"),
        ),
        clients=("a",),
    )

    report = await gather(settings)

    assert sorted(fault.partition(":")[0] for fault in report.faults) == [
        "connector",
        "dead letters",
        "lag of the flows",
        "state of the pipeline",
        "the CRM",
    ]
    assert "geheim" not in " ".join(report.faults)
    assert report.lanes[0].records is None and report.conflicts is None and report.processes == ()
