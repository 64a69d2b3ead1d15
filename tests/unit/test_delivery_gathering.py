"""Which rows go together in an import, and when it begins."""

from collections.abc import Container

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.delivery import NO_LIST, OpenRow
from schemas.mutations import Lane, Version
from streams.delivery.gathering import LONGEST_IN_BACKLOG_SECONDS, LONGEST_SECONDS, Gathering
from streams.delivery.plan import Import


def rows(*names: str, list_id: int | None = 7, columns: tuple[str, ...] = ()) -> Import:
    made = tuple(OpenRow(name, f"{name}@example.com", {}, Version(1, 1)) for name in names)
    return Import(list_id, False, columns, made)


def taken(
    gathering: Gathering,
    now: float = 0.0,
    *,
    most: int = 9,
    busy: Container[int] = (),
    has_more: bool = False,
    more_bulk: bool = False,
    longest: float = LONGEST_SECONDS,
) -> list[str] | None:
    found = gathering.take(most, now, busy=busy, has_more=has_more, more_bulk=more_bulk, longest_seconds=longest)
    return None if found is None else [row.mailbox for row in found[1].rows]


def test_rows_of_several_plans_go_together() -> None:
    gathering = Gathering()
    gathering.put(rows("a", "b"), Lane.NORMAL, 0.0)
    gathering.put(rows("c"), Lane.NORMAL, 0.1)
    gathering.put(rows("d", columns=("1",)), Lane.NORMAL, 0.2)

    assert [taken(gathering, 0.3) for _ in range(3)] == [["a", "b", "c"], ["d"], None]
    assert gathering.count(Lane.BULK) == 0


def test_while_more_is_on_its_way_an_import_waits_until_it_is_full_or_old() -> None:
    gathering = Gathering()
    gathering.put(rows("a", "b", "c"), Lane.NORMAL, 0.0)

    assert taken(gathering, 0.5, has_more=True) is None
    assert taken(gathering, 0.5, has_more=True, most=2) == ["a", "b"]
    assert gathering.next_time(()) == LONGEST_SECONDS
    assert gathering.next_time((), LONGEST_IN_BACKLOG_SECONDS) == LONGEST_IN_BACKLOG_SECONDS
    assert taken(gathering, LONGEST_SECONDS, has_more=True, longest=LONGEST_IN_BACKLOG_SECONDS) is None
    assert taken(gathering, LONGEST_SECONDS, has_more=True) == ["c"]


def test_bulk_rows_also_wait_for_those_that_rest() -> None:
    gathering = Gathering()
    gathering.put(rows("bulk"), Lane.BULK, 0.0)
    gathering.put(rows("normal", list_id=8), Lane.NORMAL, 0.0)

    assert taken(gathering, more_bulk=True) == ["normal"]
    assert taken(gathering, more_bulk=True) is None
    assert taken(gathering) == ["bulk"]


def test_a_list_with_an_import_under_way_waits_however_full_it_is() -> None:
    gathering = Gathering()
    gathering.put(rows("a", "b"), Lane.NORMAL, 0.0)
    gathering.put(rows("c", list_id=None), Lane.NORMAL, 0.0)

    assert taken(gathering, 99.0, most=1, busy={7}) == ["c"]
    assert taken(gathering, 99.0, most=1, busy={7}) is None
    assert (gathering.rows_for(7), gathering.rows_for(NO_LIST), gathering.next_time({7})) == (2, 0, None)


@pytest.mark.parametrize(("later", "first"), [(5.0, "normal"), (15.0, "bulk")])
def test_bulk_goes_after_the_others_unless_it_has_waited_for_long(later: float, first: str) -> None:
    gathering = Gathering()
    gathering.put(rows("bulk"), Lane.BULK, 0.0)
    gathering.put(rows("normal"), Lane.NORMAL, later)

    assert taken(gathering, later) == [first]


def test_who_is_planned_anew_leaves_every_import_she_was_gathered_for() -> None:
    gathering = Gathering()
    gathering.put(rows("a", "b"), Lane.NORMAL, 0.0)
    gathering.put(rows("a", list_id=8), Lane.NORMAL, 0.0)
    gathering.drop(["a", "unknown"])

    assert [taken(gathering) for _ in range(2)] == [["b"], None]


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "take"]), st.sampled_from("abcd"), st.sampled_from([7, 8]))))
def test_what_was_gathered_is_sent_or_planned_anew_and_never_both(steps: list[tuple[str, str, int]]) -> None:
    gathering, kept = Gathering(), set[tuple[str, int]]()
    for now, (step, name, list_id) in enumerate(steps):
        if step == "put" and (name, list_id) not in kept:
            gathering.put(rows(name, list_id=list_id), Lane.NORMAL, now)
            kept.add((name, list_id))
        elif step == "drop":
            gathering.drop([name])
            kept -= {(name, 7), (name, 8)}
        elif step == "take" and (found := gathering.take(2, now, busy=(), has_more=False, more_bulk=False)):
            sent = {(row.mailbox, found[1].list_id or NO_LIST) for row in found[1].rows}
            assert sent <= kept
            kept -= sent

    assert gathering.count(Lane.NORMAL) == len(kept)
