"""Whatever happens to an account, its indexes agree with what a look at everybody would find."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from connectors.inxmail_simulator.blacklist import Blacklist, is_address
from connectors.inxmail_simulator.options import SimulatorOptions
from connectors.inxmail_simulator.state import Account
from connectors.inxmail_simulator.subscription import Permission, Process, State, on_subscription, on_unsubscription
from connectors.inxmail_simulator.values import AttributeType, from_json, from_text

_EMAILS = [f"{name}@verteiler.example" for name in "abcd"]
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(_EMAILS), st.sampled_from(["Ulm", "Bonn", None])),
        st.tuples(st.just("rename"), st.sampled_from(_EMAILS), st.sampled_from(_EMAILS)),
        st.tuples(st.just("delete"), st.sampled_from(_EMAILS), st.none()),
        st.tuples(
            st.just("enter"), st.sampled_from(_EMAILS), st.tuples(st.sampled_from([7, 8]), st.sampled_from(State))
        ),
        st.tuples(st.just("detach"), st.just(""), st.booleans()),
    ),
    max_size=40,
)


def _account() -> Account:
    return Account(SimulatorOptions(credentials={"u": SecretStr("s")}, control_token=SecretStr("t")), 0.0)


@settings(deadline=None)
@given(_OPERATIONS)
def test_indexes_agree_with_a_look_at_everybody(operations: list[tuple[str, str, object]]) -> None:
    account = _account()
    city = account.attribute_names["Ort"].position
    account.holders(city, None)  # from here on the index is kept in step
    for now, (verb, email, argument) in enumerate(operations, start=1):
        known = account.find(email)
        match verb, argument:
            case "put", _ if known is None:
                account.add_recipient(email, {city: argument}, now)  # type: ignore[dict-item]
            case "put", _ if known is not None:
                account.change_recipient(known, {city: argument}, now)  # type: ignore[dict-item]
            case "rename", str(new) if known is not None and account.find(new) is None:
                account.change_recipient(known, {}, now, new.upper())
            case "delete", _ if known is not None:
                account.delete_recipient(known)
            case "enter", (int(list_id), State() as state) if known is not None:
                account.enter(account.lists[list_id], known, state, Permission.GRANTED, now)
            case "detach", bool(detached):
                account.lists[7].detached = detached

    everybody = account.recipients.values()
    assert list(account.recipient_ids.after(0)) == sorted(account.recipients)
    assert {email: r.id for email, r in account.by_email.items()} == {r.email.lower(): r.id for r in everybody}
    for value in ("Ulm", "Bonn", None):
        assert account.holders(city, value) == {r.id for r in everybody if r.value(city) == value}
    assert {r.id for r in everybody if r.modified_at >= 5} <= account.modifications.since(5)
    for known_list in account.lists.values():
        members = known_list.members.values()
        for keyset, state in ((known_list.subscribed, State.SUBSCRIBED), (known_list.unsubscribed, State.UNSUBSCRIBED)):
            assert list(keyset.after(0)) == sorted(m.recipient_id for m in members if m.state is state)
        assert list(known_list.membership_ids.after(0)) == sorted(m.id for m in members)
        assert all(m.recipient_id in account.recipients for m in members)
        assert all(
            m.state is State.SUBSCRIBED or m.permission is Permission.DENIED or known_list.id == 7 for m in members
        )
    assert sorted(account.memberships) == list(account.membership_ids.after(0))


@given(st.sampled_from(State), st.sampled_from(Process))
def test_nobody_becomes_subscribed_by_asking_where_a_confirmation_is_due(state: State, process: Process) -> None:
    step = on_subscription(state, process)

    assert step.pending is (process is Process.DOUBLE and state is not State.SUBSCRIBED)
    assert (step.state is State.SUBSCRIBED) is (state is State.SUBSCRIBED or process is Process.SINGLE)


@given(st.sampled_from(State), st.sampled_from(Process), st.booleans())
def test_leaving_never_subscribes_anybody(state: State, process: Process, pending: bool) -> None:
    step = on_unsubscription(state, process, subscription_pending=pending)

    assert step is not None or (state is State.NONE and not pending)
    assert step is None or step.state is not State.SUBSCRIBED or state is State.SUBSCRIBED


@given(st.text(), st.text())
def test_a_pattern_is_nothing_but_text_and_stars(before: str, after: str) -> None:
    blacklist = Blacklist()
    blacklist.add(f"{before}*{after}", None, 0.0)

    assert blacklist.blocks(before.lower() + "anything" + after.lower())


def test_an_address_may_have_umlauts_and_a_plus_and_nothing_between_dots() -> None:
    good = ["ä.ö+x@über.example", "a@b.example", "A_B-c@sub.b.example"]
    bad = ["a..b@x.example", ".a@x.example", "a.@x.example", "a@.example", "a@x", "a@b@x.example", "a b@x.example", ""]

    assert [is_address(text) for text in good] == [True] * len(good)
    assert [is_address(text) for text in bad] == [False] * len(bad)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)


@given(st.sampled_from(AttributeType), _JSON, st.booleans())
@example(AttributeType.FLOATING_POINT_NUMBER, 10**400, False)
@example(AttributeType.DATE_AND_TIME, "0001-01-01T00:00:00+14:00", False)
@example(AttributeType.INTEGER, "9" * 30, True)
def test_any_json_is_a_value_of_its_type_or_a_problem_in_words(
    kind: AttributeType, given: object, coerce: bool
) -> None:
    try:
        value = from_json(kind, 10, given, coerce_text=coerce)
    except ValueError as problem:
        assert str(problem)
    else:
        assert from_json(kind, 10, value) == value


def test_a_moment_is_kept_in_utc() -> None:
    assert from_text(AttributeType.DATE_AND_TIME, None, "0900-02-03T01:00:00+02:00") == "0900-02-02T23:00:00Z"
