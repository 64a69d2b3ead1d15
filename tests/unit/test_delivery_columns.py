"""Rows with many different sets of columns become few imports, and none ever has a cell that was not meant."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.delivery import NO_LIST, OpenRow, Settled
from schemas.mutations import Lane, Version
from streams.delivery.columns import FEW, holding, widest
from streams.delivery.gathering import Gathering
from streams.delivery.plan import Import

ANSWER = Settled(error="x")


def row(name: str, columns: tuple[str, ...]) -> OpenRow:
    return OpenRow(name, f"{name}@example.com", dict.fromkeys(columns, name), Version(1, 1), (), ANSWER, 1)


def delivered(changes: dict[str, tuple[str, ...]], list_id: int, most: int) -> list[Import]:
    """Every import until nothing is left, one after the other, by what an obedient far side would do."""
    gathering, left = Gathering(), dict(changes)

    def gather(name: str, into: int) -> None:
        columns = left[name]
        gathering.put(Import(into or None, False, columns, (row(name, columns),)), Lane.BULK, 0.0)

    for name in left:
        gather(name, list_id)
    made = []
    while found := gathering.take(most, 0.0, busy=(), has_more=False, more_bulk=False):
        made.append(found[1])
        for each in found[1].rows:
            left[each.mailbox] = tuple(column for column in left[each.mailbox] if column not in each.values)
            assert (each.answer is None) == bool(left[each.mailbox])
            if left[each.mailbox]:
                gather(each.mailbox, NO_LIST)
    return made


@given(
    st.dictionaries(
        st.integers(0, 400).map(str),
        st.sets(st.sampled_from("abcdef"), min_size=1).map(lambda found: tuple(sorted(found))),
        max_size=80,
    ),
    st.sampled_from([NO_LIST, 7]),
    st.sampled_from([5, 1000]),
)
def test_every_change_is_sent_once_and_nothing_else_ever(
    changes: dict[str, tuple[str, ...]], list_id: int, most: int
) -> None:
    sent: dict[str, list[str]] = {name: [] for name in changes}
    for each in delivered(changes, list_id, most):
        assert 0 < len(each.rows) <= most
        for found in each.rows:
            assert tuple(sorted(found.values)) == each.columns
            sent[found.mailbox] += found.values

    assert {name: tuple(sorted(columns)) for name, columns in sent.items()} == changes


@pytest.mark.parametrize("list_id", [NO_LIST, 7])
def test_thousands_of_sets_become_a_few_dozen_imports(list_id: int) -> None:
    draw = random.Random(1)
    columns = "abcdefghijkl"
    changes = {
        str(number): tuple(column for column in columns if draw.random() < 0.7) or ("a",) for number in range(3000)
    }
    assert len(set(changes.values())) > 1000

    assert len(delivered(changes, list_id, 20_000)) < 40


def test_few_sets_are_sent_as_they_are() -> None:
    changes = {str(number): ("a", "bcdefghi"[number]) for number in range(FEW)}

    assert sorted(each.columns for each in delivered(changes, 7, 1000)) == sorted(changes.values())


def test_the_import_that_writes_most_cells_goes_first() -> None:
    sets = {("a", "b", "c"): 10, ("a", "b"): 10, ("c",): 5, ("d",): 30}

    assert widest(sets, 1000, alone=0) == ("a", "b")
    assert widest(sets, 10, alone=0) == ("a", "b", "c")
    assert widest({("a",): 1, ("b",): 1, (): 20}, 1000, alone=1) == ()
    assert holding(("a", "b"), sets) == [("a", "b"), ("a", "b", "c")]
