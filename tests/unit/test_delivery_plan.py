"""From what should be and what is held to the fewest calls, and never to a forbidden one."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.delivery import (
    MAILBOX,
    NO_LIST,
    VALUES,
    HeldMailbox,
    Refusal,
    Settled,
    attribute_scope,
    list_scope,
    version_text,
)
from schemas.facts import UnsubscriptionEvent
from schemas.inxmail import Attribute
from schemas.mutations import Cause, Evidence, Held, HeldList, ListWish, Mutation, Outcome, Value, Version, Want
from streams.delivery.means import Means
from streams.delivery.plan import Import, Patch, Plan, Unsubscribe, plan

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
EARLIER = NOON - timedelta(days=30)
LATER = NOON + timedelta(days=30)
OURS = "A" * 32
ATTRIBUTES = {
    "1": Attribute(1, "Vorname", "TEXT", 20),
    "2": Attribute(2, "Nachname", "TEXT", 20),
    "3": Attribute(3, "Umsatz", "FLOATING_POINT_NUMBER"),
}


def means_of(most: int) -> Means:
    return Means(600, 60, 600, 0, 0.05, 3, lambda rows: 5.0, most)


def wish(
    want: Want = Want.SUBSCRIBED, list_id: int = 7, *, proof: datetime | None = EARLIER, rule: str = "member"
) -> ListWish:
    evidence = None if proof is None else Evidence("p", proof, 2)
    return ListWish(list_id, "B", want, rule, ("C",) if want is Want.SUBSCRIBED else (), evidence)


def mutation(
    *lists: ListWish, name: str = "m", values: Mapping[str, Value] | None = None, counter: int = 2
) -> Mutation:
    return Mutation(
        "a", name, Version(1, counter), f"{name}@example.com", "C", ("C",), dict(values or {}), lists, b"h",
        Cause("t", 0, 1, NOON),
    )  # fmt: skip


def held(desired: Mutation | None, *lists: HeldList, **facts: Any) -> HeldMailbox:
    name = desired.mailbox if desired else "m"
    return HeldMailbox(name, f"{name}@example.com", desired, 1, lists={each.list_id: each for each in lists}, **facts)


def known(desired: Mutation | None, *lists: HeldList, **facts: Any) -> HeldMailbox:
    values: dict[str, str | None] = {"1": None, "2": None, "3": None}
    return held(desired, *lists, **{"recipient_id": 9, "remote_email": "M@example.com", "values": values, **facts})


def on(state: Held, list_id: int = 7, **facts: Any) -> HeldList:
    return HeldList(list_id, state, **{"cause": "read", "since": NOON, **facts})


def planned(
    *mailboxes: HeldMailbox,
    busy: set[int] | None = None,
    threshold: int = 20,
    most: int = 1000,
    resting: set[str] | None = None,
) -> Plan:
    return plan(
        mailboxes,
        ATTRIBUTES,
        busy_lists=busy or set(),
        means=means_of(threshold),
        import_rows=most,
        skew=timedelta(seconds=60),
        resting=resting or set(),
    )


def only_import(made: Plan) -> Import:
    [found] = made.imports
    assert not made.calls and not made.reads
    return found


# creating and subscribing


def test_a_new_mailbox_is_created_by_an_import_with_its_list() -> None:
    made = only_import(planned(held(mutation(wish(), values={"1": "Ann", "3": "1.50"}))))

    assert (made.list_id, made.resubscribe, made.columns) == (7, False, ("1", "3"))
    assert [(row.email, row.values, row.claims) for row in made.rows] == [
        ("m@example.com", {"1": "Ann", "3": "1.5"}, ("C",))
    ]


def test_a_wish_to_subscribe_that_is_too_young_rests_and_leaving_does_not() -> None:
    new = held(mutation(wish(), values={"1": "Ann"}))
    both = known(mutation(wish(), wish(Want.UNSUBSCRIBED, 8), name="n"), on(Held.SUBSCRIBED, 8))

    made = planned(new, both, resting={"m", "n"})

    assert not made.imports
    assert not made.settlements
    assert [(call.mailbox, type(call)) for call in made.calls] == [("n", Unsubscribe)]


def test_a_mailbox_wanted_on_two_lists_takes_its_values_along_once() -> None:
    made = planned(held(mutation(wish(), wish(list_id=8), values={"1": "Ann"})))

    assert [(each.list_id, each.columns) for each in made.imports] == [(7, ("1",)), (8, ())]


def test_nobody_is_created_who_is_wanted_nowhere() -> None:
    made = planned(held(mutation(wish(Want.UNSUBSCRIBED), values={"1": "Ann"})))

    assert not made.calls and not made.imports
    assert made.settlements[0].settled.outcome is Outcome.APPLIED


def test_different_columns_become_different_imports_of_one_list_the_largest_first() -> None:
    made = planned(
        held(mutation(wish(), name="a", values={"1": "Ann"})),
        held(mutation(wish(), name="b", values={"1": "Bea"})),
        held(mutation(wish(), name="c", values={"2": "Cox"})),
    )

    assert [[row.mailbox for row in each.rows] for each in made.imports] == [["a", "b"], ["c"]]


def test_an_import_takes_no_more_rows_than_allowed() -> None:
    made = planned(*(held(mutation(wish(), name=name)) for name in "abc"), most=2)

    assert [[row.mailbox for row in each.rows] for each in made.imports] == [["a", "b"], ["c"]]


def test_a_row_that_does_all_there_is_to_do_carries_the_answer() -> None:
    made = only_import(planned(held(mutation(wish(), values={"1": "Ann"}))))
    [row] = made.rows
    later = known(
        mutation(wish(), values={"1": "Ann"}), on(Held.SUBSCRIBED, cause=OURS, claims=row.claims), values=row.values
    )

    assert [row.answer] == [each.settled for each in planned(later).settlements]


def test_a_row_beside_which_something_else_is_to_be_done_carries_none() -> None:
    leaving = known(
        mutation(wish(), wish(Want.UNSUBSCRIBED, list_id=8)), HeldList(8, Held.SUBSCRIBED, OURS, NOON, ("C",))
    )
    twice = held(mutation(wish(), wish(list_id=8)))

    assert [row.answer for each in planned(leaving, twice).imports for row in each.rows] == [None] * 3


def test_a_list_with_an_import_under_way_has_to_wait_and_the_rest_goes_on() -> None:
    made = planned(held(mutation(wish(), wish(list_id=8))), busy={7})

    assert [each.list_id for each in made.imports] == [8]
    assert made.waiting == {"m": 7}
    assert not made.settlements


# resubscribing and the door


def test_someone_withdrawn_by_us_comes_back_by_an_import_that_resubscribes() -> None:
    made = only_import(planned(known(mutation(wish()), on(Held.UNSUBSCRIBED, cause=OURS))))

    assert (made.list_id, made.resubscribe) == (7, True)


def test_resubscribing_is_never_mixed_with_subscribing() -> None:
    made = planned(
        known(mutation(wish(), name="a"), on(Held.UNSUBSCRIBED, cause=OURS)), known(mutation(wish(), name="b"))
    )

    assert [(each.resubscribe, [row.mailbox for row in each.rows]) for each in made.imports] == [
        (False, ["b"]),
        (True, ["a"]),
    ]


@pytest.mark.parametrize(
    ("proof", "allowed"), [pytest.param(EARLIER, False, id="older"), pytest.param(LATER, True, id="newer")]
)
def test_someone_who_left_comes_back_only_with_a_newer_proof(proof: datetime, allowed: bool) -> None:
    made = planned(known(mutation(wish(proof=proof)), on(Held.UNSUBSCRIBED)))

    assert bool(made.imports) is allowed
    assert [each.settled.error for each in made.settlements] == ([] if allowed else ["held_unsubscribed"])


@pytest.mark.parametrize("state", [Held.UNSUBSCRIBED, Held.NONE])
def test_nobody_is_subscribed_without_any_proof(state: Held) -> None:
    made = planned(known(mutation(wish(proof=None)), on(state, cause=OURS)))

    assert not made.imports
    assert made.settlements[0].settled.error == "no_proof"


def test_an_objection_that_was_heard_keeps_a_mailbox_from_being_subscribed_and_the_rest_goes_on() -> None:
    objection = UnsubscriptionEvent("a", 1, "NOT_IN_LIST_UNSUBSCRIPTION", 7, None, None, "m", NOON, NOON)
    made = planned(known(mutation(wish(), wish(list_id=8), values={"1": "Ann"}), events=(objection,)))

    assert [(each.list_id, each.columns) for each in made.imports] == [(8, ("1",))]
    assert made.refused == {"m": "member"}


def test_a_recipient_that_vanished_is_not_brought_back_without_a_newer_proof() -> None:
    gone = held(mutation(wish(), values={"1": "Ann"}), on(Held.NONE), missing_at=NOON)
    back = held(mutation(wish(proof=LATER)), on(Held.NONE), missing_at=NOON)

    assert planned(gone).settlements[0].settled.error == "recipient_missing"
    assert planned(back).imports


# leaving


@pytest.mark.parametrize("state", [Held.SUBSCRIBED, Held.UNKNOWN])
def test_whoever_is_or_may_be_subscribed_and_should_not_be_is_unsubscribed(state: Held) -> None:
    made = planned(known(mutation(wish(Want.UNSUBSCRIBED, rule="withdrawn")), on(state)))

    assert [(call.list_id, call.email, call.was) for call in made.calls if isinstance(call, Unsubscribe)] == [
        (7, "M@example.com", state)
    ]
    assert not made.reads


def test_objections_go_before_withdrawals_and_those_before_attributes() -> None:
    made = planned(
        known(mutation(wish(Want.KEEP), name="a", values={"1": "Ann"}), on(Held.SUBSCRIBED)),
        known(mutation(wish(Want.UNSUBSCRIBED, rule="withdrawn"), name="b"), on(Held.SUBSCRIBED)),
        known(mutation(wish(Want.UNSUBSCRIBED, rule="objected"), name="c"), on(Held.SUBSCRIBED)),
    )

    assert [call.mailbox for call in made.calls] == ["c", "b", "a"]


def test_what_is_to_be_kept_is_left_as_it_is() -> None:
    made = planned(known(mutation(wish(Want.KEEP)), on(Held.SUBSCRIBED, claims=("X",))))

    assert not made.calls and not made.imports
    assert made.settlements[0].claims == {}


# doubt


@pytest.mark.parametrize("want", [Want.SUBSCRIBED, Want.KEEP])
def test_an_unknown_state_is_read_before_anything_else_is_done(want: Want) -> None:
    made = planned(known(mutation(wish(want), values={"1": "Ann"}), on(Held.UNKNOWN)))

    assert made.reads == ("m",)
    assert not made.calls and not made.imports and not made.settlements


def test_an_unknown_state_that_nobody_wants_anything_of_is_read_as_well() -> None:
    assert planned(known(None, on(Held.UNKNOWN))).reads == ("m",)


def test_someone_subscribed_of_whom_no_id_is_known_is_read() -> None:
    assert planned(held(mutation(wish(Want.KEEP)), on(Held.SUBSCRIBED))).reads == ("m",)


def test_a_mailbox_in_an_open_import_is_not_written_and_can_still_leave_other_lists() -> None:
    made = planned(
        known(
            mutation(wish(), wish(Want.UNSUBSCRIBED, 8), values={"1": "Ann"}),
            on(Held.SUBSCRIBED, 8),
            open_lists=frozenset({7}),
        )
    )

    assert [call.list_id for call in made.calls if isinstance(call, Unsubscribe)] == [8]
    assert not made.imports and not made.settlements and not made.reads


@pytest.mark.parametrize("state", [Held.UNKNOWN, Held.NONE])
def test_leaving_a_list_whose_import_is_under_way_waits_for_its_end(state: Held) -> None:
    made = planned(known(mutation(wish(Want.UNSUBSCRIBED)), on(state), open_lists=frozenset({7})))

    assert not made.calls and not made.settlements


# attributes


def test_few_changed_recipients_are_written_singly_and_only_with_what_changed() -> None:
    made = planned(known(mutation(wish(), values={"1": "Ann", "2": None, "3": 2}), on(Held.SUBSCRIBED)))

    assert [(call.recipient_id, call.values) for call in made.calls if isinstance(call, Patch)] == [
        (9, {"1": "Ann", "3": "2"})
    ]


def test_many_changed_recipients_are_written_by_an_import_without_a_list() -> None:
    changed = [
        known(mutation(wish(), name=f"m{number}", values={"1": "Ann"}), on(Held.SUBSCRIBED)) for number in range(3)
    ]

    assert len(planned(*changed, threshold=3).calls) == 3
    made = only_import(planned(*changed, threshold=2))
    assert (made.list_id, made.columns, len(made.rows)) == (None, ("1",), 3)
    assert [row.claims for row in made.rows] == [()] * 3
    assert planned(*changed, threshold=2, busy={NO_LIST}).waiting == {"m0": NO_LIST, "m1": NO_LIST, "m2": NO_LIST}


def test_a_value_that_cannot_be_sent_is_named_and_the_rest_is_sent() -> None:
    made = planned(known(mutation(wish(), values={"1": "x" * 21, "2": "Ann", "99": "?"}), on(Held.SUBSCRIBED)))

    assert [call.values for call in made.calls if isinstance(call, Patch)] == [{"2": "Ann"}]


def test_when_nothing_is_left_to_send_the_answer_names_what_was_rejected() -> None:
    settled = planned(known(mutation(wish(), values={"1": "x" * 21, "99": "?"}), on(Held.SUBSCRIBED))).settlements[0]

    assert settled.settled.outcome is Outcome.APPLIED
    assert settled.settled.rejected_values == {"1": "too_long", "99": "attribute_unknown"}


def test_a_refused_value_is_not_tried_again_before_it_changes() -> None:
    refusals = {attribute_scope("1"): Refusal("attribute_parse_error", "Ann")}
    again = planned(known(mutation(wish(), values={"1": "Ann"}), on(Held.SUBSCRIBED), refusals=refusals))
    other = planned(known(mutation(wish(), values={"1": "Anna"}), on(Held.SUBSCRIBED), refusals=refusals))

    assert again.settlements[0].settled.rejected_values == {"1": "attribute_parse_error"}
    assert other.calls


def test_values_of_which_an_import_refused_one_are_written_by_a_call_that_says_which() -> None:
    refusals = {VALUES: Refusal("attribute_parse_error", version_text(Version(1, 2)))}
    joining = held(mutation(wish(), values={"1": "Ann"}), refusals=refusals)
    joined = known(mutation(wish(), values={"1": "Ann"}), on(Held.SUBSCRIBED), refusals=refusals)
    newer = held(mutation(wish(), values={"1": "Ann"}, counter=3), refusals=refusals)

    [row] = only_import(planned(joining)).rows
    assert (row.values, row.answer) == ({}, None)
    made = planned(joined, threshold=0)
    assert [call.values for call in made.calls if isinstance(call, Patch)] == [{"1": "Ann"}]
    assert not made.imports
    assert only_import(planned(newer)).columns == ("1",)


@pytest.mark.parametrize("scope", [MAILBOX, list_scope(7)])
def test_a_refused_mailbox_or_list_waits_for_a_newer_mutation(scope: str) -> None:
    refusals = {scope: Refusal("blacklisted", version_text(Version(1, 2)))}
    again = planned(held(mutation(wish()), refusals=refusals))
    newer = planned(held(mutation(wish(), counter=3), refusals=refusals))

    settled = again.settlements[0].settled
    assert (settled.outcome, settled.error) == (Outcome.QUARANTINED, "blacklisted")
    assert newer.imports


def test_a_refused_list_does_not_keep_the_others_back() -> None:
    refusals = {list_scope(7): Refusal("list_missing", version_text(Version(1, 2)))}
    made = planned(held(mutation(wish(), wish(list_id=8)), refusals=refusals))

    assert [each.list_id for each in made.imports] == [8]


# settling


def test_what_is_satisfied_says_for_whom_it_is_held() -> None:
    made = planned(
        known(
            mutation(wish(), wish(Want.UNSUBSCRIBED, 8)),
            on(Held.SUBSCRIBED),
            on(Held.UNSUBSCRIBED, 8, claims=("X",)),
        )
    )

    assert made.settlements[0].claims == {7: ("C",), 8: ()}
    assert made.settlements[0].settled.version == Version(1, 2)


def test_what_nobody_wanted_anything_of_keeps_its_answer() -> None:
    before = Settled(error="x")

    assert planned(known(None, on(Held.SUBSCRIBED), settled=before)).settlements[0].settled == before


# whatever comes


wants = st.builds(
    wish,
    st.sampled_from(sorted(Want)),
    st.sampled_from([7, 8]),
    proof=st.sampled_from([None, EARLIER, LATER]),
    rule=st.sampled_from(["member", "objected", "withdrawn"]),
)
states = st.builds(
    on, st.sampled_from(sorted(Held)), st.sampled_from([7, 8]), cause=st.sampled_from(["read", OURS, "event:1"])
)
texts = st.dictionaries(st.sampled_from(["1", "2", "3", "99"]), st.sampled_from(["x", "1", None, "y" * 30]))
histories = st.lists(
    st.builds(
        UnsubscriptionEvent,
        st.just("a"),
        st.integers(1, 9),
        st.sampled_from(["VERIFIED_UNSUBSCRIPTION", "PENDING_UNSUBSCRIPTION", "DUPLICATE_UNSUBSCRIPTION"]),
        st.sampled_from([7, 8, None]),
        st.none(),
        st.none(),
        st.just("m"),
        st.sampled_from([EARLIER, NOON, LATER]),
        st.just(NOON),
        st.sampled_from([None, OURS]),
    ),
    max_size=3,
)


@st.composite
def mailboxes(draw: st.DrawFn) -> HeldMailbox:
    lists = draw(st.lists(wants, max_size=2, unique_by=lambda each: each.list_id))
    desired = draw(st.sampled_from([None, mutation(*lists, values=draw(texts))]))
    mailbox: HeldMailbox = draw(st.sampled_from([held, known]))(
        desired,
        *draw(st.lists(states, max_size=2, unique_by=lambda each: each.list_id)),
        open_lists=frozenset(draw(st.sets(st.sampled_from([NO_LIST, 7, 8]), max_size=1))),
        events=tuple(draw(histories)),
        missing_at=draw(st.sampled_from([None, NOON])),
    )
    return mailbox


@given(mailboxes(), st.sets(st.sampled_from([NO_LIST, 7, 8])), st.sampled_from([0, 20]))
def test_no_plan_ever_holds_a_forbidden_call(mailbox: HeldMailbox, busy: set[int], threshold: int) -> None:
    made = planned(mailbox, busy=busy, threshold=threshold)
    wishes = {each.list_id: each for each in mailbox.desired.lists} if mailbox.desired else {}

    for each in made.imports:
        assert (each.list_id or NO_LIST) not in busy
        for row in each.rows:
            assert set(row.values) == set(each.columns)
        if each.list_id is None:
            assert mailbox.recipient_id is not None and not each.resubscribe
            continue
        state = mailbox.lists.get(each.list_id)
        assert wishes[each.list_id].want is Want.SUBSCRIBED
        assert state is None or state.state in (Held.NONE, Held.UNSUBSCRIBED)
        assert each.resubscribe == (state is not None and state.state is Held.UNSUBSCRIBED)
        proof = wishes[each.list_id].proof
        heard = [
            event.occurred_at
            for event in mailbox.events
            if event.op_id is None and event.list_id in (None, each.list_id) and "DUPLICATE" not in event.type
        ]
        assert all(proof is not None and proof.at > at for at in heard)
        assert proof is not None
        assert not mailbox.open_lists
    for call in made.calls:
        if isinstance(call, Unsubscribe):
            assert wishes[call.list_id].want is Want.UNSUBSCRIBED
        else:
            assert not mailbox.open_lists and set(call.values) <= set(mailbox.desired.values if mailbox.desired else ())


@given(mailboxes(), st.sets(st.sampled_from([NO_LIST, 7, 8])))
def test_every_mailbox_is_settled_or_something_brings_it_back(mailbox: HeldMailbox, busy: set[int]) -> None:
    made = planned(mailbox, busy=busy)

    back = made.calls or made.imports or made.reads or made.waiting or made.refused or mailbox.open_lists
    assert bool(made.settlements) != bool(back)


@given(mailboxes())
def test_a_second_look_after_everything_was_done_does_nothing(mailbox: HeldMailbox) -> None:
    """Carries the plan out as an obedient far side would, until it is settled."""
    mailbox = msgspec.structs.replace(mailbox, open_lists=frozenset())
    for _ in range(8):
        made = planned(mailbox)
        if made.settlements or made.refused:
            break
        lists = dict(mailbox.lists)
        values = dict(mailbox.values)
        recipient_id = mailbox.recipient_id
        for call in made.calls:
            if isinstance(call, Unsubscribe):
                lists[call.list_id] = HeldList(call.list_id, Held.UNSUBSCRIBED, OURS, NOON)
            else:
                values |= call.values
        for each in made.imports:
            values |= each.rows[0].values
            recipient_id = recipient_id or 9
            if each.list_id is not None:
                lists[each.list_id] = HeldList(each.list_id, Held.SUBSCRIBED, OURS, NOON, each.rows[0].claims)
        if made.reads:
            recipient_id = recipient_id or 9
            lists |= {
                list_id: HeldList(list_id, Held.SUBSCRIBED, "read", NOON)
                for list_id, state in lists.items()
                if state.state is Held.UNKNOWN
            }
        mailbox = msgspec.structs.replace(mailbox, lists=lists, values=values, recipient_id=recipient_id)
    else:
        pytest.fail("never settled")
