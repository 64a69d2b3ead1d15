"""The write-back's decisions and its manners, against a CRM that says what the test wants."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectors.kafka.catalogue import RECIPIENT_STATUS, SUPPRESSIONS
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder, Registry
from connectors.kafka.settings import KafkaSettings
from connectors.smartwe.writer import StatusGone, Write, Written
from schemas import codec
from schemas.crm import RecipientStatus, SubscriptionState, SuppressionRecord, SyncState
from schemas.errors import MalformedInput, Misconfigured, PipelineError, Refused, Unavailable
from streams.inbound.write_back import Observation, WriteBack, newest

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ONE = "1" * 32
OTHER = "2" * 32


def status(recipient: str = ONE, *, epoch: int = 1, version: int = 1, reason: str = "rule") -> RecipientStatus:
    return RecipientStatus(
        recipient=recipient,
        epoch=epoch,
        version=version,
        client="a",
        email_used="anna@example.org",
        mailbox_ref="f" * 64,
        inxmail_recipient_id=7,
        subscription_state=SubscriptionState.SUBSCRIBED,
        state_reason=reason,
        state_since=AT,
        state_event_id=None,
        subscribed_at=AT,
        unsubscribed_at=None,
        is_leading=True,
        is_unproven=False,
        is_frozen=False,
        sync_state=SyncState.IN_SYNC,
        last_synced_at=AT,
        last_error_code=None,
        last_error_text=None,
        desired_hash=b"\xff" * 32,
    )


def suppression(gguid: str = OTHER) -> SuppressionRecord:
    return SuppressionRecord(
        gguid=gguid,
        epoch=1,
        version=1,
        scope="list",
        baf_client_id="a",
        distribution_gguid="3" * 32,
        email_hmac=b"\x01" * 32,
        reason="unsubscribe",
        since=AT,
        event_id="4711",
    )


def message(write: Write | None, *, offset: int = 0, topic: str = RECIPIENT_STATUS, key: str = ONE) -> Message:
    match write:
        case RecipientStatus():
            key, value = write.recipient, codec.frame(1, "recipient-status", write)
        case SuppressionRecord():
            topic, key, value = SUPPRESSIONS, write.gguid, codec.frame(2, "suppression-record", write)
        case _:
            return Message(topic, 0, offset, key.encode(), None, {}, 0)
    return Message(topic, 0, offset, key.encode(), value, {}, 0)


class OurContracts(Registry):
    """A registry that needs no network: ids 1 and 2 are our two contracts."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings())
        self._schemas = {1: codec.contract("recipient-status"), 2: codec.contract("suppression-record")}


class Crm:
    """A CRM that answers as `objection` says: with what it returns for a batch, or nothing when it is fine."""

    def __init__(self, objection: Callable[[Sequence[Write]], PipelineError | None] = lambda _: None) -> None:
        self.objection = objection
        self.rows: list[Write] = []
        self.attempts = 0

    async def apply(self, writes: Sequence[Write]) -> Written:
        self.attempts += 1
        if failure := self.objection(writes):
            raise failure
        self.rows += writes
        return Written(statuses=len(writes))


class Desk:
    """A write-back with its CRM and the records it parked."""

    def __init__(self, crm: Crm, *, patience_seconds: float = 5.0) -> None:
        self.crm = crm
        self.parked: list[tuple[Message, PipelineError]] = []
        self.metrics = CollectorRegistry()
        self.write_back = WriteBack(
            crm, Decoder(OurContracts()), self._park, patience_seconds=patience_seconds, metrics=self.metrics
        )

    async def _park(self, message: Message, failure: PipelineError) -> None:
        self.parked.append((message, failure))

    async def apply(self, *writes: Write | None) -> None:
        await self.write_back.apply([message(write, offset=offset) for offset, write in enumerate(writes)])

    def count(self, outcome: str) -> float | None:
        return self.metrics.get_sample_value("write_back_rows_total", {"outcome": outcome})


async def test_a_batch_reaches_the_crm_as_it_was_written() -> None:
    desk = Desk(Crm())

    await desk.apply(status(), suppression())

    assert desk.crm.rows == [status(), suppression()]


async def test_only_the_newest_record_of_a_row_is_written_even_when_an_older_one_stands_behind_it() -> None:
    desk = Desk(Crm())

    await desk.apply(status(version=3), status(OTHER, version=1), status(version=2), status(epoch=0, version=9))

    assert desk.crm.rows == [status(version=3), status(OTHER, version=1)]


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        pytest.param((status(version=4), None), StatusGone(ONE), id="overrides what stands before it"),
        pytest.param((status(version=4), None, status(version=2)), status(version=2), id="yields to what stands after"),
    ],
)
async def test_a_tombstone_has_no_version_and(writes: tuple[Write | None, ...], expected: Write) -> None:
    desk = Desk(Crm())

    await desk.apply(*writes)

    assert desk.crm.rows == [expected]


async def test_the_tombstone_of_a_suppression_lifts_nothing() -> None:
    desk = Desk(Crm())

    await desk.write_back.apply([message(None, topic=SUPPRESSIONS)])

    assert desk.crm.rows == [] and desk.parked == []
    assert desk.count("suppressions_kept") == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=12))
def test_of_versions_in_any_order_the_highest_is_chosen(versions: list[tuple[int, int]]) -> None:
    records = [Observation(message(None), status(epoch=epoch, version=version)) for epoch, version in versions]

    (chosen,) = newest(records)

    assert isinstance(chosen.write, RecipientStatus)
    assert (chosen.write.epoch, chosen.write.version) == max(versions)


@pytest.mark.parametrize("bad", range(5))
async def test_a_row_the_crm_refuses_is_parked_alone_and_all_others_are_written(bad: int) -> None:
    rows = [status(str(number) * 32) for number in range(5)]
    desk = Desk(Crm(lambda writes: Refused("no", kind="23514") if rows[bad] in writes else None))

    await desk.apply(*rows)

    assert sorted(desk.crm.rows, key=str) == sorted(rows[:bad] + rows[bad + 1 :], key=str)
    assert [parked.offset for parked, _ in desk.parked] == [bad]
    assert desk.count("parked") == 1 and desk.count("statuses") == 4


async def test_a_record_that_cannot_be_read_is_parked_and_what_follows_is_written() -> None:
    desk = Desk(Crm())
    torn = Message(RECIPIENT_STATUS, 0, 7, ONE.encode(), codec.frame(1, "recipient-status", status())[:20], {}, 0)
    foreign = Message(RECIPIENT_STATUS, 0, 8, ONE.encode(), b"plain text", {}, 0)

    await desk.write_back.apply([torn, foreign, message(status(OTHER), offset=9)])

    assert desk.crm.rows == [status(OTHER)]
    assert [(parked.offset, type(failure)) for parked, failure in desk.parked] == [
        (7, MalformedInput),
        (8, MalformedInput),
    ]


async def test_a_refusal_that_blames_no_row_ends_the_batch_and_parks_nothing() -> None:
    desk = Desk(Crm(lambda _: Refused("syntax", kind="42601")))

    with pytest.raises(Refused):
        await desk.apply(status())
    assert desk.parked == []


async def test_a_deadlock_is_tried_again() -> None:
    desk = Desk(Crm(lambda _: Unavailable("40P01") if desk.crm.attempts < 3 else None))

    await desk.apply(status())

    assert desk.crm.rows == [status()] and desk.crm.attempts == 3


async def test_a_crm_that_stays_away_ends_the_batch_with_the_reason_and_without_a_parked_record() -> None:
    desk = Desk(Crm(lambda _: Unavailable("PostgreSQL cannot be reached")), patience_seconds=0.3)

    with pytest.raises(Unavailable, match=r"PostgreSQL cannot be reached.*Nothing was acknowledged"):
        await asyncio.wait_for(desk.apply(status()), 5)
    assert desk.parked == [] and desk.crm.attempts > 1


async def test_a_wrong_password_is_not_tried_again() -> None:
    desk = Desk(Crm(lambda _: Misconfigured("28P01")))

    with pytest.raises(Misconfigured):
        await desk.apply(status())
    assert desk.crm.attempts == 1


async def test_what_was_not_parked_for_certain_is_not_passed_over() -> None:
    async def no_broker(_: Message, __: PipelineError) -> None:
        raise Misconfigured("no topic for dead letters")

    write_back = WriteBack(Crm(), Decoder(OurContracts()), no_broker, metrics=CollectorRegistry())

    with pytest.raises(Misconfigured):
        await write_back.apply([Message(RECIPIENT_STATUS, 0, 0, ONE.encode(), b"plain text", {}, 0)])
