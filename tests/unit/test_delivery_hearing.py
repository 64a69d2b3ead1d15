"""Whose doing a log entry is, and how the list stands after it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.delivery import CallState, Expectation
from schemas.facts import ListEvent, SubscriptionEvent, UnsubscriptionEvent
from schemas.mutations import Held, HeldList
from streams.delivery.hearing import echoes, state_after, state_by_dates, state_read

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SKEW = timedelta(seconds=60)
OURS, READ = "A" * 32, "read"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def left(event_id: int = 10, seconds: float = 0, type_: str = "VERIFIED_UNSUBSCRIPTION") -> UnsubscriptionEvent:
    return UnsubscriptionEvent("a", event_id, type_, 7, 9, "ann@example.com", "m", at(seconds), at(seconds))


def came(event_id: int = 10, seconds: float = 0, type_: str = "VERIFIED_SUBSCRIPTION") -> SubscriptionEvent:
    return SubscriptionEvent("a", event_id, type_, 7, 9, "ann@example.com", "m", at(seconds), at(seconds))


def call(
    op_id: str = OURS, position: int = 5, state: CallState = CallState.DONE, *, log: str = "unsubscriptions"
) -> Expectation:
    return Expectation(op_id, log, "m", 7, position, at(-1), at(1), state)


# echoes


@pytest.mark.parametrize(
    ("events", "calls", "ours"),
    [
        pytest.param([left(6)], [call()], {6: OURS}, id="the entry our call wrote"),
        pytest.param([left(6, type_="MANUAL_UNSUBSCRIPTION")], [call()], {6: OURS}, id="whatever its type"),
        pytest.param([left(5)], [call()], {}, id="an entry known before the call"),
        pytest.param([left(6), left(7)], [call()], {6: OURS}, id="a call consumes one entry, the next is hers"),
        pytest.param([left(6, -90)], [call()], {}, id="long before the call"),
        pytest.param([left(6, 90)], [call()], {}, id="long after the call"),
        pytest.param([came(6)], [call()], {}, id="the other log"),
        pytest.param([left(6)], [call(state=CallState.UNDONE)], {}, id="a call that was not carried out"),
        pytest.param([left(6)], [call(state=CallState.REFUSED)], {}, id="a call that was refused"),
        pytest.param([left(6)], [call(state=CallState.LOST)], {6: OURS}, id="a call whose answer was lost"),
        pytest.param([left(6)], [call(state=CallState.DUPLICATE)], {}, id="she was faster than our call"),
        pytest.param(
            [left(6), left(7, type_="DUPLICATE_UNSUBSCRIPTION")],
            [call(state=CallState.DUPLICATE)],
            {7: OURS},
            id="a call that came too late wrote only that",
        ),
        pytest.param([left(6, type_="LIST_UNSUBSCRIBE_HEADER_UNSUBSCRIPTION")], [call()], {}, id="a list header"),
        pytest.param([left(6, type_="PENDING_UNSUBSCRIPTION_DONE")], [call()], {}, id="a confirmation"),
    ],
)
def test_an_entry_is_ours_only_when_a_call_accounts_for_it(
    events: list[ListEvent], calls: list[Expectation], ours: dict[int, str]
) -> None:
    assert echoes(events, calls, SKEW) == ours


@given(st.lists(st.integers(1, 40), unique=True), st.lists(st.integers(0, 40), max_size=8))
def test_calls_never_account_for_more_entries_than_there_are_calls(ids: list[int], positions: list[int]) -> None:
    calls = [call(f"{number:032X}", position) for number, position in enumerate(positions)]

    found = echoes([left(event_id) for event_id in ids], calls, SKEW)

    assert len(found) <= len(calls)
    assert len(set(found.values())) == len(found)
    assert all(event_id > calls[int(op_id, 16)].position for event_id, op_id in found.items())


# states


def held(state: Held, seconds: float | None = -100, cause: str = READ) -> HeldList:
    return HeldList(7, state, cause, None if seconds is None else at(seconds), ("C",))


def after(event: ListEvent, before: HeldList | None, **facts: object) -> Held | None:
    found = state_after(
        event,
        before,
        op_id=facts.get("op_id"),  # type: ignore[arg-type]
        subscribing=bool(facts.get("subscribing")),
        skew=SKEW,
        is_history=bool(facts.get("is_history")),
    )
    return found.state if found else None


def test_a_newer_entry_says_how_the_list_stands() -> None:
    assert after(left(), held(Held.SUBSCRIBED)) is Held.UNSUBSCRIBED
    assert after(came(), held(Held.UNSUBSCRIBED)) is Held.SUBSCRIBED
    assert after(left(), None) is Held.UNSUBSCRIBED


def test_an_older_entry_changes_nothing() -> None:
    assert after(came(seconds=-200), held(Held.UNSUBSCRIBED)) is None
    assert after(left(seconds=-200), held(Held.SUBSCRIBED), is_history=True) is None


def test_an_older_opt_out_that_is_heard_only_now_is_looked_into() -> None:
    assert after(left(seconds=-200), held(Held.SUBSCRIBED)) is Held.UNKNOWN


def test_two_entries_of_one_second_leave_it_unknown() -> None:
    assert after(left(), held(Held.SUBSCRIBED, 0)) is Held.UNKNOWN


def test_between_our_own_call_and_an_entry_the_clocks_must_tell_them_apart() -> None:
    assert after(left(seconds=30), held(Held.SUBSCRIBED, 0, OURS)) is Held.UNKNOWN
    assert after(left(seconds=61), held(Held.SUBSCRIBED, 0, OURS)) is Held.UNSUBSCRIBED
    assert after(came(seconds=-61), held(Held.UNSUBSCRIBED, 0, OURS)) is None


@pytest.mark.parametrize("before", [None, held(Held.NONE), held(Held.SUBSCRIBED), held(Held.UNSUBSCRIBED)])
@pytest.mark.parametrize("event", [left(), came(), left(seconds=-500), left(seconds=500)])
def test_while_a_call_can_subscribe_an_entry_makes_the_list_unknown(event: ListEvent, before: HeldList | None) -> None:
    assert after(event, before, subscribing=True) is Held.UNKNOWN


def test_an_echo_changes_nothing_because_the_call_says_how_it_ended() -> None:
    assert after(left(), held(Held.SUBSCRIBED), op_id=OURS) is None
    assert after(left(), held(Held.SUBSCRIBED), op_id=OURS, subscribing=True) is None


@pytest.mark.parametrize(
    "type_",
    [
        "PENDING_UNSUBSCRIPTION",
        "DUPLICATE_UNSUBSCRIPTION",
        "NOT_IN_LIST_UNSUBSCRIPTION",
        "UNSUBSCRIPTION_TIMED_OUT",
        "NEW",
    ],
)
def test_an_entry_that_ends_no_subscription_leaves_the_list_as_it_is(type_: str) -> None:
    assert after(left(type_=type_), held(Held.SUBSCRIBED)) is None
    assert after(left(type_=type_), held(Held.SUBSCRIBED), subscribing=True) is None


def test_unknown_stays_unknown_until_it_is_read() -> None:
    assert after(left(), held(Held.UNKNOWN)) is None
    assert after(came(), held(Held.UNKNOWN), subscribing=True) is None


# readings


def test_dates_tell_how_a_recipient_stands() -> None:
    assert state_by_dates(None, None) == (Held.NONE, None)
    assert state_by_dates(at(0), None) == (Held.SUBSCRIBED, at(0))
    assert state_by_dates(None, at(1)) == (Held.UNSUBSCRIBED, at(1))
    assert state_by_dates(at(0), at(1)) == (Held.UNSUBSCRIBED, at(1))
    assert state_by_dates(at(1), at(0)) == (Held.SUBSCRIBED, at(1))
    assert state_by_dates(at(0), at(0)) == (Held.UNKNOWN, at(0))


def test_a_reading_that_says_the_same_keeps_cause_and_claims() -> None:
    assert state_read(7, Held.SUBSCRIBED, at(0), held(Held.SUBSCRIBED, cause=OURS), []) is None


def test_a_reading_names_the_entry_that_explains_it() -> None:
    read = state_read(7, Held.UNSUBSCRIBED, at(0), held(Held.UNKNOWN), [left(10, 0), left(3, -500)])

    assert read == HeldList(7, Held.UNSUBSCRIBED, "event:10", at(0), ())


def test_a_reading_knows_our_own_call_by_its_echo_and_in_doubt_it_was_the_person() -> None:
    echo = UnsubscriptionEvent("a", 10, "VERIFIED_UNSUBSCRIPTION", 7, 9, None, "m", at(0), at(0), OURS)

    alone = state_read(7, Held.UNSUBSCRIBED, at(0), held(Held.UNKNOWN), [echo])
    with_hers = state_read(7, Held.UNSUBSCRIBED, at(0), held(Held.UNKNOWN), [echo, left(9, 0)])

    assert alone is not None and alone.cause == OURS
    assert with_hers is not None and with_hers.cause == "event:9"


def test_a_reading_of_nothing_ends_what_was_held() -> None:
    assert state_read(7, Held.NONE, None, held(Held.SUBSCRIBED), []) == HeldList(7, Held.NONE, READ, None, ())
    assert state_read(7, Held.NONE, None, None, []) is None
