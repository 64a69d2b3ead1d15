"""The writer against a real CRM database: what it writes, what it leaves alone, and under whose name."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from connectors.smartwe.writer import CrmWriter, StatusGone, Written
from schemas.crm import RecipientStatus, SubscriptionState
from schemas.errors import Disposition, PipelineError, Refused, Unavailable
from tests.crm_database import AT, CrmDatabase, crm_database, status
from tests.world import eventually

pytestmark = pytest.mark.stack

UNSUBSCRIBED = SubscriptionState.UNSUBSCRIBED


@pytest.fixture(scope="module")
async def crm(stack_home: Path) -> AsyncIterator[CrmDatabase]:
    async with crm_database(stack_home, f"verteiler_{uuid.uuid4().hex[:12]}") as crm:
        yield crm


@pytest.fixture
async def writer(crm: CrmDatabase) -> AsyncIterator[CrmWriter]:
    writer = CrmWriter(crm.write_back_dsn, crm.origin)
    await writer.open()
    yield writer
    await writer.close()


async def test_a_status_becomes_the_row_a_crm_user_sees(crm: CrmDatabase, writer: CrmWriter) -> None:
    (recipient,) = await crm.recipients(1)

    written = await writer.apply([status(recipient)])

    row = (await crm.statuses()).get(recipient)
    assert written == Written(statuses=1)
    assert row is not None
    assert (row["subscription_state"], row["state_since"], row["state_event_id"]) == (
        "subscribed",
        AT,
        "subscriptions:1",
    )
    assert row["desired_hash"] == b"\x00\xff" * 16
    assert (row["sync_origin"], row["pipeline_epoch"], row["pipeline_version"]) == ("write-back", 1, 1)
    await writer.close()


@pytest.mark.parametrize(
    ("later", "state"),
    [
        pytest.param(status("", 6, state=UNSUBSCRIBED), "unsubscribed", id="a higher version overwrites"),
        pytest.param(status("", 5, state=UNSUBSCRIBED), "subscribed", id="the same version changes nothing"),
        pytest.param(status("", 4, state=UNSUBSCRIBED), "subscribed", id="an older version changes nothing"),
        pytest.param(status("", 1, epoch=2, state=UNSUBSCRIBED), "unsubscribed", id="a rebuilt state overwrites"),
        pytest.param(status("", 9, epoch=0, state=UNSUBSCRIBED), "subscribed", id="an older state changes nothing"),
    ],
)
async def test_versions_decide(crm: CrmDatabase, writer: CrmWriter, later: RecipientStatus, state: str) -> None:
    (recipient,) = await crm.recipients(1)
    await writer.apply([status(recipient, 5)])
    before = (await crm.statuses()).get(recipient)

    written = await writer.apply([msgspec.structs.replace(later, recipient=recipient)])

    row = (await crm.statuses()).get(recipient)
    assert row is not None and before is not None
    assert row["subscription_state"] == state
    assert (row["row_version"] == before["row_version"]) == (written.statuses_not_newer == 1) == (state == "subscribed")
    await writer.close()


async def test_the_status_of_a_deleted_recipient_is_passed_over(crm: CrmDatabase, writer: CrmWriter) -> None:
    recipient, gone = await crm.recipients(2)
    await crm.admin.execute("delete from crm.distribution_recipient where gguid = $1", gone)

    written = await writer.apply([status(recipient), status(gone)])

    assert written == Written(statuses=1, statuses_without_recipient=1)
    assert gone not in await crm.statuses()
    await writer.close()


async def test_a_recipient_deleted_meanwhile_asks_for_another_attempt(crm: CrmDatabase, writer: CrmWriter) -> None:
    (recipient,) = await crm.recipients(1)
    session = await writer.open()
    user = crm.admin.transaction()
    await user.start()
    await crm.admin.execute("delete from crm.distribution_recipient where gguid = $1", recipient)
    writing = asyncio.create_task(writer.apply([status(recipient)]))
    await eventually(
        lambda: crm.admin.fetchval("select pg_blocking_pids($1) <> '{}'", session.get_server_pid()),
        because="the writer waits for the user",
    )
    await user.commit()

    with pytest.raises(Unavailable):
        await writing
    assert await writer.apply([status(recipient)]) == Written(statuses_without_recipient=1)
    await writer.close()


async def test_a_tombstone_removes_the_row(crm: CrmDatabase, writer: CrmWriter) -> None:
    (recipient,) = await crm.recipients(1)
    await writer.apply([status(recipient)])

    written = await writer.apply([StatusGone(recipient)])

    assert written == Written(statuses_deleted=1)
    assert (await crm.statuses()).get(recipient) is None
    await writer.close()


@pytest.mark.parametrize(
    "act",
    [
        pytest.param("update crm.suppression set deleted_at = now() where gguid = $1", id="put into the recycle bin"),
        pytest.param("update crm.suppression set reason = 'legal' where gguid = $1", id="changed"),
        pytest.param("delete from crm.suppression where gguid = $1", id="deleted"),
    ],
)
async def test_a_suppression_stays_as_a_crm_user_left_it(crm: CrmDatabase, writer: CrmWriter, act: str) -> None:
    record = crm.suppression()
    assert await writer.apply([record]) == Written(suppressions=1)
    await crm.admin.execute(act, record.gguid)
    left = await crm.admin.fetchrow("select * from crm.suppression where gguid = $1", record.gguid)

    written = await writer.apply([record])

    assert written == Written(suppressions_known=1)
    assert await crm.admin.fetchrow("select * from crm.suppression where gguid = $1", record.gguid) == left
    await writer.close()


async def test_a_suppression_names_the_event_that_put_it_there(crm: CrmDatabase, writer: CrmWriter) -> None:
    record = crm.suppression()

    await writer.apply([record])

    row = await crm.admin.fetchrow("select * from crm.suppression where gguid = $1", record.gguid)
    assert row is not None
    assert (row["origin"], row["event_id"], row["email_hmac"], row["since"]) == ("inxmail", "4711", b"\xfe" * 32, AT)
    await writer.close()


async def test_a_broken_rule_is_named_and_nothing_of_the_batch_is_written(crm: CrmDatabase, writer: CrmWriter) -> None:
    (recipient,) = await crm.recipients(1)
    broken = msgspec.structs.replace(crm.suppression(), distribution_gguid="0" * 32)

    with pytest.raises(Refused, match="suppression_distribution_gguid_fkey") as refused:
        await writer.apply([broken, status(recipient)])
    assert refused.value.kind == "23503"
    assert (await crm.statuses()).get(recipient) is None
    await writer.close()


async def test_what_is_written_carries_the_origin_in_the_write_ahead_log(crm: CrmDatabase, writer: CrmWriter) -> None:
    slot = f"test_{uuid.uuid4().hex[:12]}"
    await crm.admin.execute("select pg_create_logical_replication_slot($1, 'pgoutput', true)", slot)
    await writer.apply([crm.suppression()])
    await crm.admin.execute(
        "insert into crm.suppression (scope, match, pattern, reason) values ('global', 'pattern', 'x', 'legal')"
    )

    messages = [
        row["data"]
        for row in await crm.admin.fetch(
            "select data from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version', '1',"
            " 'publication_names', 'verteiler')",
            slot,
        )
    ]

    origins = [message[9:].rstrip(b"\0").decode() for message in messages if message[:1] == b"O"]
    assert origins == [crm.origin]
    assert sum(message[:1] == b"I" for message in messages) == 2
    await writer.close()


async def test_an_origin_belongs_to_one_session_until_that_ends(crm: CrmDatabase) -> None:
    first, second = (CrmWriter(crm.write_back_dsn, crm.origin) for _ in range(2))
    await first.open()

    with pytest.raises(Unavailable, match=crm.origin):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_a_session_that_was_cut_is_made_anew(crm: CrmDatabase, writer: CrmWriter) -> None:
    (recipient,) = await crm.recipients(1)
    connection = await writer.open()
    await crm.admin.execute("select pg_terminate_backend($1)", connection.get_server_pid())

    async def written() -> bool:
        try:  # the server may still be ending the session that was cut
            return await writer.apply([status(recipient)]) == Written(statuses=1)
        except PipelineError as failure:
            assert failure.disposition is Disposition.RETRY
            return False

    await eventually(written, within_seconds=10, because="the status is written on a new session")
    await writer.close()


async def test_the_writer_may_not_touch_what_a_user_means(crm: CrmDatabase) -> None:
    (recipient,) = await crm.recipients(1)
    connection = await asyncpg.connect(crm.write_back_dsn.get_secret_value())

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(
            "update crm.distribution_recipient set desired = 'not_member' where gguid = $1", recipient
        )
    await connection.close()
