"""The last question before a call that can subscribe."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.facts import UnsubscriptionEvent
from schemas.mutations import Evidence, Held, HeldList, ListWish, Want
from streams.mailbox.door import may_resubscribe, may_subscribe, objections

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SKEW = timedelta(seconds=60)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def wish(proof_at: datetime | None, want: Want = Want.SUBSCRIBED) -> ListWish:
    return ListWish(7, "B", want, "member", ("C",), Evidence("p", proof_at, 2) if proof_at else None)


def event(
    type_: str = "VERIFIED_UNSUBSCRIPTION", *, list_id: int | None = 7, op_id: str | None = None
) -> UnsubscriptionEvent:
    return UnsubscriptionEvent("a", 1, type_, list_id, 9, None, "m", NOON, NOON, op_id)


@pytest.mark.parametrize(
    ("proof", "heard", "allowed"),
    [
        pytest.param(at(0), [], True, id="nothing was heard"),
        pytest.param(None, [], True, id="nothing was heard, and the list asks for no proof"),
        pytest.param(at(61), [Evidence("o", at(0))], True, id="the proof is newer than the skew"),
        pytest.param(at(60), [Evidence("o", at(0))], False, id="within the skew the objection wins"),
        pytest.param(at(-99), [Evidence("o", at(0))], False, id="the proof is older"),
        pytest.param(None, [Evidence("o", at(0))], False, id="an objection and no proof"),
        pytest.param(at(500), [Evidence("o", at(0)), Evidence("o", at(499))], False, id="the newest objection counts"),
    ],
)
def test_a_subscription_needs_a_proof_that_beats_what_was_heard(
    proof: datetime | None, heard: list[Evidence], allowed: bool
) -> None:
    assert may_subscribe(wish(proof), heard, SKEW) is allowed


@pytest.mark.parametrize("want", [Want.UNSUBSCRIBED, Want.KEEP])
def test_only_a_wish_to_subscribe_passes(want: Want) -> None:
    assert not may_subscribe(wish(at(0), want), [], SKEW)


def test_nobody_is_resubscribed_without_a_proof() -> None:
    assert not may_resubscribe(wish(None), [], SKEW)
    assert may_resubscribe(wish(at(0)), [], SKEW)


@given(st.integers(-10_000, 10_000), st.lists(st.integers(-10_000, 10_000), min_size=1))
def test_what_passes_is_newer_than_every_objection(proof: int, heard: list[int]) -> None:
    allowed = may_subscribe(wish(at(proof)), [Evidence("o", at(each)) for each in heard], SKEW)

    assert allowed == (proof > max(heard) + 60)


@pytest.mark.parametrize(
    ("heard", "counts"),
    [
        pytest.param(event(), True, id="she left this list"),
        pytest.param(event(list_id=8), False, id="she left another list"),
        pytest.param(event(list_id=None), True, id="no list is named"),
        pytest.param(event("NOT_IN_SYSTEM_UNSUBSCRIPTION", list_id=8), True, id="she left the client as a whole"),
        pytest.param(event("NOT_IN_LIST_UNSUBSCRIPTION"), True, id="she left before she was on it"),
        pytest.param(event("PENDING_UNSUBSCRIPTION"), True, id="she tried to leave"),
        pytest.param(event("NEVER_HEARD_OF"), True, id="an entry that nobody can read"),
        pytest.param(event("DUPLICATE_UNSUBSCRIPTION"), False, id="she had left already"),
        pytest.param(event(op_id="A" * 32), False, id="it was our own call"),
    ],
)
def test_entries_of_the_log_count_against_a_list(heard: UnsubscriptionEvent, counts: bool) -> None:
    assert bool(objections(7, [heard], None)) is counts


def test_being_held_as_unsubscribed_counts_unless_it_was_ours() -> None:
    held = HeldList(7, Held.UNSUBSCRIBED, "read", at(-5))

    assert objections(7, [], held) == [Evidence("read", at(-5))]
    assert objections(7, [], held, is_ours=True) == []
    assert objections(7, [], HeldList(7, Held.SUBSCRIBED, "read", at(-5))) == []


def test_an_objection_of_unknown_time_is_never_beaten() -> None:
    [objection] = objections(7, [], HeldList(7, Held.UNSUBSCRIBED, "read", None))

    assert not may_subscribe(wish(datetime(9999, 1, 1, tzinfo=UTC)), [objection], SKEW)
