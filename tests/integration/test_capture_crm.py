"""PostgreSQL, Debezium, registry and Kafka agree: what the CRM commits arrives, in order, with its place."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from connectors.debezium import source
from connectors.debezium.connect import TaskState
from connectors.debezium.connector import slot_of
from connectors.debezium.watchdog import watch
from connectors.kafka.catalogue import captured, heartbeats
from schemas.debezium import Change, Op
from schemas.smartwe import Address, read_row
from tests.integration.capture_world import Captured, captured_crm
from tests.world import eventually

pytestmark = pytest.mark.stack

SNAPSHOT_ROWS = 3

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture(scope="module")
async def crm(stack_home: Path, postgres_server: str) -> AsyncIterator[Captured]:
    """A CRM with a client and three addresses, whose connector runs."""
    async with captured_crm(stack_home, postgres_server) as made:
        await made.insert(
            "baf_client", {"baf_client_id": "a", "base_url": "https://example.com/secret", "credential_ref": "vault-7"}
        )
        for _ in range(SNAPSHOT_ROWS):
            await made.address()
        await made.connect.register(made.settings.connector, made.config())
        await made.connect.wait_running(made.settings.connector, within_seconds=60)
        yield made


async def test_rows_from_before_capture_arrive_as_a_snapshot(crm: Captured) -> None:
    (key,) = {row["gguid"] for row in await crm.crm.fetch("select gguid from crm.address order by gguid limit 1")}

    (change, *_) = await crm.wait_for("address", key, 1)

    assert change is not None
    assert (change.op, change.row["gguid"], change.position.epoch) == (Op.READ, key, 1)
    assert isinstance(read_row("address", change.row), Address)


async def test_a_row_is_followed_from_insert_to_tombstone_under_one_bare_key(crm: Captured) -> None:
    key = await crm.address(first_name="Ännä", birthday=None, x_newsletter_topics=["wine", None])
    await crm.crm.execute("update crm.address set first_name = 'Anna' where gguid = $1", key)
    await crm.crm.execute("delete from crm.address where gguid = $1", key)

    created, updated, deleted, tombstone = await crm.wait_for("address", key, 4)

    assert created is not None and updated is not None and deleted is not None
    assert [created.op, updated.op, deleted.op] == [Op.CREATE, Op.UPDATE, Op.DELETE]
    assert updated.before is not None and updated.before["first_name"] == "Ännä"
    assert (updated.row["first_name"], deleted.row["first_name"]) == ("Anna", "Anna")
    assert updated.row["x_newsletter_topics"] == ["wine", None]
    assert created.position < updated.position < deleted.position
    assert tombstone is None


async def test_every_record_of_a_row_says_its_epoch_in_plain_text(crm: Captured) -> None:
    key = await crm.address()
    await crm.crm.execute("delete from crm.address where gguid = $1", key)
    await crm.wait_for("address", key, 3)

    messages = await crm.messages(captured("address", crm.settings.topic_prefix), key)

    assert [dict(message.headers) for message in messages] == [{"epoch": b"1"}] * 3


async def test_where_a_client_is_and_its_credential_never_reach_the_bus(crm: Captured) -> None:
    key = await crm.crm.fetchval("select gguid from crm.baf_client where baf_client_id = 'a'")
    await crm.crm.execute("update crm.baf_client set base_url = 'https://example.com/moved' where gguid = $1", key)

    await crm.wait_for("baf_client", key, 2)

    for message in await crm.messages(captured("baf_client", crm.settings.topic_prefix)):
        assert b"example.com" not in (message.value or b"") and b"vault-7" not in (message.value or b"")


async def test_a_transaction_that_is_rolled_back_leaves_nothing(crm: Captured) -> None:
    transaction = crm.crm.transaction()
    await transaction.start()
    undone = await crm.address()
    await transaction.rollback()
    after = await crm.address()

    await crm.wait_for("address", after, 1)

    assert await crm.changes("address", undone) == []


async def test_a_replication_origin_is_named_in_what_was_written_under_it(crm: Captured) -> None:
    origin = crm.settings.connector
    await crm.crm.execute("select pg_replication_origin_create($1)", origin)
    await crm.crm.execute("select pg_replication_origin_session_setup($1)", origin)
    try:
        ours = await crm.address()
    finally:
        await crm.crm.execute("select pg_replication_origin_session_reset()")
        await crm.crm.execute("select pg_replication_origin_drop($1)", origin)
    theirs = await crm.address()

    (our_change,), (their_change,) = await crm.wait_for("address", ours, 1), await crm.wait_for("address", theirs, 1)

    assert our_change is not None and their_change is not None
    assert (our_change.origin, their_change.origin) == (origin, None)


async def test_a_column_may_come_change_its_type_and_go_without_stopping_capture(crm: Captured) -> None:
    await crm.crm.execute("alter table crm.address add column shoe_size int not null default 42")
    number = await crm.address(shoe_size=43)
    await crm.crm.execute("alter table crm.address alter column shoe_size type text")
    text = await crm.address(shoe_size="wide")
    await crm.crm.execute("alter table crm.address drop column shoe_size")
    gone = await crm.address()

    seen = [(await crm.wait_for("address", key, 1))[0] for key in (number, text, gone)]

    assert [change.row.get("shoe_size", "no column") for change in seen if change is not None] == [
        43,
        "wide",
        "no column",
    ]


async def test_a_long_value_that_did_not_change_is_still_complete(crm: Captured) -> None:
    street = "".join(chr(0x4E00 + place % 5000) for place in range(40_000))  # does not compress into the row
    key = await crm.address(street=street)
    await crm.crm.execute("update crm.address set town = 'Ulm' where gguid = $1", key)

    _, updated = await crm.wait_for("address", key, 2)

    assert updated is not None
    assert updated.row["street"] == street


async def test_an_incremental_snapshot_repeats_a_row_without_overtaking_a_later_change(crm: Captured) -> None:
    key = await crm.address()
    await crm.wait_for("address", key, 1)
    await crm.crm.execute(
        "insert into cdc.dbz_signal values ('again', 'execute-snapshot',"
        ' \'{"data-collections": ["crm.address"], "type": "incremental"}\')'
    )
    created, repeated = await crm.wait_for("address", key, 2)
    await crm.crm.execute("update crm.address set town = 'Ulm' where gguid = $1", key)

    (*_, updated) = await crm.wait_for("address", key, 3)

    assert created is not None and repeated is not None and updated is not None
    assert repeated.op is Op.READ
    assert created.position < repeated.position < updated.position


async def test_a_quiet_crm_keeps_no_log_back(crm: Captured) -> None:
    async def confirmed() -> bool:
        lag = await source.slot_lag(crm.crm, slot_of(crm.settings.connector))
        assert lag is not None
        return lag.active and lag.unconfirmed_bytes < 64 * 1024

    await eventually(confirmed, because="heartbeats move the slot on")
    assert await crm.messages(heartbeats(crm.settings.topic_prefix))


async def test_the_same_configuration_again_changes_nothing(crm: Captured) -> None:
    assert await crm.connect.register(crm.settings.connector, crm.config()) == []


async def test_a_connector_that_was_removed_is_registered_again_and_goes_on_where_it_was(crm: Captured) -> None:
    name = crm.settings.connector
    async with _watched(crm, crm.config()):
        await crm.connect.delete(name)
        key = await crm.address()
        await eventually(lambda: _registered(crm), within_seconds=60, because="the watchdog registers it")

        (change,) = await crm.wait_for("address", key, 1)

    assert change is not None and change.op is Op.CREATE


async def test_a_new_epoch_opens_with_a_snapshot_that_is_newer_than_all_before(crm: Captured) -> None:
    name = crm.settings.connector
    await crm.connect.wait_running(name, within_seconds=60)
    key = await crm.address()
    (before,) = await crm.wait_for("address", key, 1)

    await crm.connect.forget_offsets(name, within_seconds=30)
    assert await source.drop_slot(crm.crm, slot_of(name))
    assert await crm.connect.register(name, crm.config(epoch=300)) == ["transforms.epoch.value.literal"]
    await crm.connect.resume(name)
    await crm.connect.wait_running(name, within_seconds=60)
    _, snapshot = await crm.wait_for("address", key, 2)
    await crm.crm.execute("update crm.address set town = 'Ulm' where gguid = $1", key)
    _, _, after = await crm.wait_for("address", key, 3)

    assert before is not None and snapshot is not None and after is not None
    assert (snapshot.op, snapshot.position.epoch) == (Op.READ, 300)
    assert before.position < snapshot.position < after.position


async def test_a_failed_task_is_restarted_until_what_it_missed_is_there(stack_home: Path, postgres_server: str) -> None:
    async with captured_crm(stack_home, postgres_server) as crm:
        key = await crm.address()
        config = crm.config(publication__name="late")
        await crm.connect.register(crm.settings.connector, config)
        reason = await eventually(lambda: _failure(crm), within_seconds=60, because="no publication, no capture")
        assert "Publication" in reason

        async with _watched(crm, config):
            await crm.crm.execute("alter publication verteiler rename to late")
            (change,) = await crm.wait_for("address", key, 1)

        assert isinstance(change, Change)


async def test_a_connector_whose_place_is_forgotten_waits_for_provision(stack_home: Path, postgres_server: str) -> None:
    """Started again in the same epoch, the rows of its snapshot would be taken for older than what they replace."""
    async with captured_crm(stack_home, postgres_server) as crm:
        name = crm.settings.connector
        key = await crm.address()
        await crm.connect.register(name, crm.config())
        await crm.wait_for("address", key, 1)
        await eventually(lambda: crm.connect.has_offsets(name), because="Connect writes down how far it has come")
        await crm.connect.forget_offsets(name, within_seconds=30)
        await crm.connect.delete(name)

        async with _watched(crm, crm.config()):
            status = await eventually(lambda: crm.connect.status(name), because="the watchdog registers it")

        assert status.connector.state is TaskState.STOPPED


async def test_what_was_written_before_a_snapshot_and_committed_after_it_is_newer_than_the_snapshots_row(
    stack_home: Path, postgres_server: str
) -> None:
    """A slot waits for the transactions it finds; those that begin meanwhile may outlast its consistent point."""
    async with captured_crm(stack_home, postgres_server) as crm:
        key = await crm.address(town="old")
        async with _sessions(postgres_server, crm.settings.database_name, 3) as (first, second, third):
            ends_first, ends_second = await _begun(first), await _begun(second, with_id=False)
            await crm.connect.register(crm.settings.connector, crm.config())
            await eventually(lambda: _slot_waits_for(crm, first), because="the slot waits for the first transaction")
            await second.execute("select pg_current_xact_id()")
            await ends_first.commit()
            await eventually(lambda: _slot_waits_for(crm, second), because="the slot waits for the second transaction")
            ends_third = await _begun(third)
            await third.execute("update crm.address set town = 'new' where gguid = $1", key)
            await ends_second.commit()
            (snapshot,) = await crm.wait_for("address", key, 1)
            await ends_third.commit()

        _, streamed = await crm.wait_for("address", key, 2)

        assert snapshot is not None and streamed is not None
        assert (snapshot.row["town"], streamed.row["town"]) == ("old", "new")
        assert snapshot.position < streamed.position


@contextlib.asynccontextmanager
async def _sessions(server: str, database: str, count: int) -> AsyncIterator[list[Session]]:
    async with contextlib.AsyncExitStack() as opened:
        sessions = [await asyncpg.connect(f"{server}/{database}") for _ in range(count)]
        for session in sessions:
            opened.push_async_callback(session.close)
        yield sessions


async def _begun(session: Session, *, with_id: bool = True) -> Transaction:
    transaction = session.transaction()
    await transaction.start()
    if with_id:
        await session.execute("select pg_current_xact_id()")
    return transaction


async def _slot_waits_for(crm: Captured, session: Session) -> bool:
    return bool(
        await crm.crm.fetchval(
            "select bool_or($1 = any (pg_blocking_pids(pid))) from pg_stat_activity where backend_type = 'walsender'",
            session.get_server_pid(),
        )
    )


@contextlib.asynccontextmanager
async def _watched(crm: Captured, config: dict[str, str]) -> AsyncIterator[None]:
    async def wanted() -> dict[str, str]:
        return config

    watching = asyncio.create_task(watch(crm.connect, crm.settings.connector, wanted, every_seconds=0.5))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _registered(crm: Captured) -> bool:
    return await crm.connect.config(crm.settings.connector) is not None


async def _failure(crm: Captured) -> str | None:
    status = await crm.connect.status(crm.settings.connector)
    return None if status is None else status.failure
