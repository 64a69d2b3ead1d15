from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.demo.comparison import Entry, Kind, counts, differences, same, scalar, status_differences

ANN = Entry("a", 7, "ann@example.org", "subscribed", {"Vorname": "Ann", "Umsatz": 1.5}, "A" * 32)


def entry(**changes: object) -> Entry:
    fields = {name: getattr(ANN, name) for name in ANN.__struct_fields__} | changes
    return Entry(**fields)


@pytest.mark.parametrize(
    ("expected", "actual", "kinds"),
    [
        pytest.param([ANN], [ANN], [], id="nothing differs"),
        pytest.param([ANN], [], [Kind.MISSING], id="Inxmail does not have it"),
        pytest.param([], [ANN], [Kind.EXTRA], id="the CRM does not ask for it"),
        pytest.param([ANN], [entry(state="unsubscribed")], [Kind.WRONG_STATE], id="left, and should be there"),
        pytest.param([entry(state="unsubscribed")], [ANN], [Kind.WRONG_STATE], id="there, and should have left"),
        pytest.param([ANN], [entry(values={"Vorname": "Anna", "Umsatz": 1.5})], [Kind.WRONG_VALUE], id="a value"),
        pytest.param([ANN], [entry(values={"Vorname": "Ann"})], [Kind.WRONG_VALUE], id="a value is not there"),
        pytest.param(
            [ANN],
            [entry(state="unsubscribed", values={})],
            [Kind.WRONG_STATE] + [Kind.WRONG_VALUE] * 2,
            id="everything",
        ),
        pytest.param([ANN], [entry(list_id=8)], [Kind.MISSING, Kind.EXTRA], id="on another list"),
        pytest.param([ANN], [entry(client="b")], [Kind.MISSING, Kind.EXTRA], id="in another client"),
    ],
)
def test_each_way_to_differ_has_its_kind(expected: list[Entry], actual: list[Entry], kinds: list[Kind]) -> None:
    assert [difference.kind for difference in differences(expected, actual)] == kinds


def test_values_that_the_crm_does_not_map_are_not_compared() -> None:
    held = entry(values={**ANN.values, "Ort": "Ulm"})

    assert differences([ANN], [held]) == []


def test_a_difference_tells_names_and_never_values() -> None:
    found = differences([ANN], [entry(values={"Vorname": "Geheim", "Umsatz": 1.5})])

    assert found[0].detail == "Vorname"
    assert "Geheim" not in repr(found)


def test_who_left_needs_nobody_to_expect_them() -> None:
    assert differences([], [entry(state="unsubscribed")]) == []


def test_the_status_in_the_crm_must_say_what_inxmail_says() -> None:
    left = entry(state="unsubscribed")

    assert status_differences([ANN], [ANN]) == []
    assert status_differences([left], []) == []
    assert status_differences([left], [left]) == []
    assert [difference.kind for difference in status_differences([ANN], [left])] == [Kind.WRONG_STATUS]
    assert [difference.kind for difference in status_differences([left], [ANN])] == [Kind.WRONG_STATUS]
    assert [difference.kind for difference in status_differences([], [ANN])] == [Kind.WRONG_STATUS]


def test_one_of_several_who_share_a_mailbox_may_have_been_taken_off() -> None:
    assert status_differences([ANN, entry(state="withdrawn", recipient="B" * 32)], [ANN]) == []


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        pytest.param("", None, True, id="empty text is no value"),
        pytest.param("  Ann ", "Ann", True, id="blanks around"),
        pytest.param("Mu\u0308ller", "M\u00fcller", True, id="composed and decomposed"),
        pytest.param(1, 1.0, True, id="numbers are numbers"),
        pytest.param(0.1 + 0.2, 0.3, True, id="the last bit of a float"),
        pytest.param(1, True, False, id="one is not true"),
        pytest.param("1", 1, False, id="text is not a number"),
        pytest.param("ann", "Ann", False, id="case counts"),
        pytest.param(None, 0, False, id="nothing is not zero"),
    ],
)
def test_values_are_the_same_or_not(one: object, other: object, equal: bool) -> None:
    assert same(one, other) is equal  # type: ignore[arg-type]
    assert same(other, one) is equal  # type: ignore[arg-type]


def test_columns_are_shown_as_inxmail_shows_them() -> None:
    berlin = timezone(timedelta(hours=1))

    assert scalar(date(1980, 2, 29)) == "1980-02-29"
    assert scalar(datetime(2026, 1, 1, 0, 30, 15, 999000, berlin)) == "2025-12-31T23:30:15Z"
    assert scalar(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"
    assert scalar(Decimal("12.5000")) == 12.5
    assert scalar(True) is True


entries = st.builds(
    Entry,
    client=st.sampled_from("ab"),
    list_id=st.integers(7, 8),
    email=st.sampled_from(["x@example.org", "y@example.org", "z@example.org"]),
    state=st.sampled_from(["subscribed", "unsubscribed"]),
    values=st.dictionaries(st.sampled_from(["n", "m"]), st.none() | st.integers(0, 2)),
)


@given(st.lists(entries))
def test_what_is_compared_with_itself_never_differs(side: list[Entry]) -> None:
    assert differences(side, side) == []


@given(st.lists(entries), st.lists(entries))
def test_nothing_that_differs_is_passed_over(expected: list[Entry], actual: list[Entry]) -> None:
    wanted = {(e.client, e.list_id, e.email): e for e in expected}
    held = {(e.client, e.list_id, e.email): e for e in actual}
    counted = counts(differences(expected, actual))

    assert counted.get("missing", 0) == len(wanted.keys() - held.keys())
    assert counted.get("extra", 0) == sum(held[p].state == "subscribed" for p in held.keys() - wanted.keys())
    assert counted.get("wrong_state", 0) == sum(wanted[p].state != held[p].state for p in wanted.keys() & held.keys())
