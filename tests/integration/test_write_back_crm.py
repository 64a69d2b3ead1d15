"""The writer against a real CRM database: what it writes, what it leaves alone, and under whose name."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import msgspec
import pytest
from pydantic import SecretStr

from connectors.smartwe import schema
from connectors.smartwe.writer import CrmWriter, StatusGone, Written
from schemas.crm import RecipientStatus, SubscriptionState, SuppressionRecord, SyncState
from schemas.errors import Disposition, PipelineError, Refused, Unavailable

pytestmark = pytest.mark.stack

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def status(recipient: str, version: int = 1, *, epoch: int = 1, state: str = "subscribed") -> RecipientStatus:
    return RecipientStatus(
        recipient=recipient,
        epoch=epoch,
        version=version,
        client="a",
        email_used="anna@example.org",
        mailbox_ref="f" * 64,
        inxmail_recipient_id=7,
        subscription_state=SubscriptionState(state),
        state_reason="member",
        state_since=AT,
        state_event_id="subscriptions:1",
        subscribed_at=AT,
        unsubscribed_at=None,
        is_leading=True,
        is_unproven=False,
        is_frozen=False,
        sync_state=SyncState.IN_SYNC,
        last_synced_at=AT,
        last_error_code=None,
        last_error_text=None,
        desired_hash=b"\x00\xff" * 16,
    )


class Crm:
    """A CRM of the test's own, with one distribution; `write_back_dsn` is the role that the writer has."""

    def __init__(self, admin: "asyncpg.Connection[asyncpg.Record]", write_back_dsn: str) -> None:
        self.admin = admin
        self.write_back_dsn = SecretStr(write_back_dsn)
        self.origin = f"verteiler_{uuid.uuid4().hex[:12]}"
        self.distribution = ""

    def writer(self) -> CrmWriter:
        return CrmWriter(self.write_back_dsn, self.origin)

    async def recipient(self) -> str:
        address = await self.admin.fetchval(
            "insert into crm.address (email1) values ('anna@example.org') returning gguid"
        )
        gguid: str = await self.admin.fetchval(
            "insert into crm.distribution_recipient (distribution_gguid, baf_client_id, address_gguid)"
            " values ($1, 'a', $2) returning gguid",
            self.distribution,
            address,
        )
        return gguid

    async def is_blocked(self, pid: int) -> bool:
        return bool(await self.admin.fetchval("select pg_blocking_pids($1) <> '{}'", pid))

    async def status_row(self, recipient: str) -> "asyncpg.Record | None":
        return await self.admin.fetchrow(
            "select * from crm.distribution_recipient_status where distribution_recipient_gguid = $1", recipient
        )

    def suppression(self) -> SuppressionRecord:
        return SuppressionRecord(
            gguid=uuid.uuid4().hex.upper(),
            epoch=1,
            version=1,
            scope="list",
            baf_client_id="a",
            distribution_gguid=self.distribution,
            email_hmac=b"\xfe" * 32,
            reason="unsubscribe",
            since=AT,
            event_id="4711",
        )


@pytest.fixture(scope="module")
async def crm() -> AsyncIterator[Crm]:
    server = os.environ["VERTEILER_TEST_POSTGRES"]
    name = f"write_back_{uuid.uuid4().hex[:12]}"
    maintenance = await asyncpg.connect(f"{server}/postgres")
    await maintenance.execute(f"create database {name}")
    await schema.migrate(f"{server}/{name}")
    await schema.create_roles(
        f"{server}/{name}", schema.RolePasswords(SecretStr("capture"), SecretStr("write-back"), SecretStr("user"))
    )
    admin = await asyncpg.connect(f"{server}/{name}")
    crm = Crm(admin, f"{server}/{name}?role={schema.WRITE_BACK_ROLE}")
    await admin.execute("insert into crm.baf_client (baf_client_id) values ('a')")
    crm.distribution = await admin.fetchval("insert into crm.distribution (title) values ('Neues') returning gguid")
    yield crm
    await admin.execute("select pg_replication_origin_drop($1)", crm.origin)
    await admin.close()
    await maintenance.execute(f"drop database {name} with (force)")
    await maintenance.close()


@pytest.fixture
async def writer(crm: Crm) -> AsyncIterator[CrmWriter]:
    writer = crm.writer()
    await writer.open()
    yield writer
    await writer.close()


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_seconds: float, why: str) -> None:
    try:
        async with asyncio.timeout(within_seconds):
            while not await condition():  # noqa: ASYNC110 # the condition lies in another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {within_seconds} s: {why}")


async def test_a_status_becomes_the_row_a_crm_user_sees(crm: Crm, writer: CrmWriter) -> None:
    recipient = await crm.recipient()

    written = await writer.apply([status(recipient)])

    row = await crm.status_row(recipient)
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
        pytest.param(status("", 6, state="unsubscribed"), "unsubscribed", id="a higher version overwrites"),
        pytest.param(status("", 5, state="unsubscribed"), "subscribed", id="the same version changes nothing"),
        pytest.param(status("", 4, state="unsubscribed"), "subscribed", id="an older version changes nothing"),
        pytest.param(status("", 1, epoch=2, state="unsubscribed"), "unsubscribed", id="a rebuilt state overwrites"),
        pytest.param(status("", 9, epoch=0, state="unsubscribed"), "subscribed", id="an older state changes nothing"),
    ],
)
async def test_versions_decide(crm: Crm, writer: CrmWriter, later: RecipientStatus, state: str) -> None:
    recipient = await crm.recipient()
    await writer.apply([status(recipient, 5)])
    before = await crm.status_row(recipient)

    written = await writer.apply([msgspec.structs.replace(later, recipient=recipient)])

    row = await crm.status_row(recipient)
    assert row is not None and before is not None
    assert row["subscription_state"] == state
    assert (row["row_version"] == before["row_version"]) == (written.statuses_not_newer == 1) == (state == "subscribed")
    await writer.close()


async def test_the_status_of_a_deleted_recipient_is_passed_over(crm: Crm, writer: CrmWriter) -> None:
    recipient, gone = await crm.recipient(), await crm.recipient()
    await crm.admin.execute("delete from crm.distribution_recipient where gguid = $1", gone)

    written = await writer.apply([status(recipient), status(gone)])

    assert written == Written(statuses=1, statuses_without_recipient=1)
    assert await crm.status_row(gone) is None
    await writer.close()


async def test_a_recipient_deleted_meanwhile_asks_for_another_attempt(crm: Crm, writer: CrmWriter) -> None:
    recipient = await crm.recipient()
    session = await writer.open()
    user = crm.admin.transaction()
    await user.start()
    await crm.admin.execute("delete from crm.distribution_recipient where gguid = $1", recipient)
    writing = asyncio.create_task(writer.apply([status(recipient)]))
    await eventually(lambda: crm.is_blocked(session.get_server_pid()), within_seconds=10, why="writer waits")
    await user.commit()

    with pytest.raises(Unavailable):
        await writing
    assert await writer.apply([status(recipient)]) == Written(statuses_without_recipient=1)
    await writer.close()


async def test_a_tombstone_removes_the_row(crm: Crm, writer: CrmWriter) -> None:
    recipient = await crm.recipient()
    await writer.apply([status(recipient)])

    written = await writer.apply([StatusGone(recipient)])

    assert written == Written(statuses_deleted=1)
    assert await crm.status_row(recipient) is None
    await writer.close()


@pytest.mark.parametrize(
    "act",
    [
        pytest.param("update crm.suppression set deleted_at = now() where gguid = $1", id="put into the recycle bin"),
        pytest.param("update crm.suppression set reason = 'legal' where gguid = $1", id="changed"),
        pytest.param("delete from crm.suppression where gguid = $1", id="deleted"),
    ],
)
async def test_a_suppression_put_in_before_stays_as_a_crm_user_left_it(crm: Crm, writer: CrmWriter, act: str) -> None:
    record = crm.suppression()
    assert await writer.apply([record]) == Written(suppressions=1)
    await crm.admin.execute(act, record.gguid)
    left = await crm.admin.fetchrow("select * from crm.suppression where gguid = $1", record.gguid)

    written = await writer.apply([record])

    assert written == Written(suppressions_known=1)
    assert await crm.admin.fetchrow("select * from crm.suppression where gguid = $1", record.gguid) == left
    await writer.close()


async def test_a_suppression_names_the_event_that_put_it_there(crm: Crm, writer: CrmWriter) -> None:
    record = crm.suppression()

    await writer.apply([record])

    row = await crm.admin.fetchrow("select * from crm.suppression where gguid = $1", record.gguid)
    assert row is not None
    assert (row["origin"], row["event_id"], row["email_hmac"], row["since"]) == ("inxmail", "4711", b"\xfe" * 32, AT)
    await writer.close()


async def test_a_broken_rule_is_named_and_nothing_of_the_batch_is_written(crm: Crm, writer: CrmWriter) -> None:
    recipient = await crm.recipient()
    broken = msgspec.structs.replace(crm.suppression(), distribution_gguid="0" * 32)

    with pytest.raises(Refused, match="suppression_distribution_gguid_fkey") as refused:
        await writer.apply([broken, status(recipient)])
    assert refused.value.kind == "23503"
    assert await crm.status_row(recipient) is None
    await writer.close()


async def test_what_is_written_carries_the_origin_in_the_write_ahead_log(crm: Crm, writer: CrmWriter) -> None:
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


async def test_an_origin_belongs_to_one_session_until_that_ends(crm: Crm) -> None:
    first, second = crm.writer(), crm.writer()
    await first.open()

    with pytest.raises(Unavailable, match=crm.origin):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_a_session_that_was_cut_is_made_anew(crm: Crm, writer: CrmWriter) -> None:
    recipient = await crm.recipient()
    connection = await writer.open()
    await crm.admin.execute("select pg_terminate_backend($1)", connection.get_server_pid())

    async def written() -> bool:
        try:  # the server may still be ending the session that was cut
            return await writer.apply([status(recipient)]) == Written(statuses=1)
        except PipelineError as failure:
            assert failure.disposition is Disposition.RETRY
            return False

    await eventually(written, within_seconds=10, why="the status is written on a new session")
    await writer.close()


async def test_the_writer_may_not_touch_what_a_user_means(crm: Crm) -> None:
    recipient = await crm.recipient()
    connection = await asyncpg.connect(crm.write_back_dsn.get_secret_value())

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(
            "update crm.distribution_recipient set desired = 'not_member' where gguid = $1", recipient
        )
    await connection.close()
