"""Which mailboxes are looked at next."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.mutations import Lane
from streams.delivery.agenda import Agenda

LANES = st.sampled_from(list(Lane))


def taken(agenda: Agenda, most: int = 9) -> list[str]:
    return agenda.take(most)[1]


def test_mailboxes_come_in_the_order_of_their_arrival_and_each_once() -> None:
    agenda = Agenda()
    agenda.add(["b", "a", "b"])

    assert taken(agenda, 1) == ["b"]
    assert taken(agenda) == ["a"]
    assert taken(agenda) == []


def test_a_mailbox_in_hand_is_looked_at_when_its_last_call_has_ended() -> None:
    agenda = Agenda()
    agenda.hold("a")
    agenda.hold("a")
    agenda.add(["a"])

    assert taken(agenda) == []
    agenda.put_down("a")
    assert taken(agenda) == []
    agenda.put_down("a")
    assert taken(agenda) == ["a"]


def test_a_mailbox_that_is_let_go_is_looked_at_only_when_something_new_came() -> None:
    agenda = Agenda()
    agenda.hold("a")
    agenda.let_go("a")
    assert not agenda.has_pending

    agenda.hold("a")
    agenda.add(["a"])
    agenda.let_go("a")
    assert taken(agenda) == ["a"]


def test_what_waits_for_a_list_comes_back_when_there_is_room_and_no_more_than_that() -> None:
    agenda = Agenda()
    agenda.wait_for_list(7, ["a", "b", "c"])
    agenda.wait_for_list(8, ["d"])
    assert len(agenda) == 4

    agenda.release(lambda list_id: list_id == 7, 2)
    assert taken(agenda) == ["a", "b"]

    agenda.release(lambda list_id: True, 9)
    assert taken(agenda) == ["c", "d"]


def test_a_better_lane_goes_first_and_lanes_are_not_mixed() -> None:
    agenda = Agenda()
    agenda.add(["bulk"], Lane.BULK)
    agenda.add(["normal"], Lane.NORMAL)
    agenda.add(["first"], Lane.PRIORITY)

    assert [agenda.take(9) for _ in range(4)] == [
        (Lane.PRIORITY, ["first"]),
        (Lane.NORMAL, ["normal"]),
        (Lane.BULK, ["bulk"]),
        (Lane.BULK, []),
    ]


@given(LANES, LANES)
def test_a_mailbox_stands_once_in_the_best_lane_in_which_it_came(first: Lane, second: Lane) -> None:
    agenda = Agenda()
    agenda.add(["a"], first)
    agenda.add(["a"], second)

    assert agenda.take(9) == (min(first, second, key=list(Lane).index), ["a"])
    assert not agenda.has_pending


def test_a_mailbox_keeps_its_lane_while_it_is_in_hand() -> None:
    agenda = Agenda()
    agenda.hold("a", Lane.BULK)
    assert (agenda.count(Lane.NORMAL), agenda.count(Lane.BULK)) == (0, 1)

    agenda.put_down("a")
    assert agenda.take(9) == (Lane.BULK, ["a"])
    assert len(agenda) == 0


def test_what_rests_comes_when_its_time_has_come() -> None:
    agenda = Agenda()
    agenda.add_at(5.0, ["later"], Lane.NORMAL)
    agenda.add_at(3.0, ["sooner"], Lane.BULK)
    assert (agenda.next_time, len(agenda)) == (3.0, 2)

    agenda.awake(3.5)
    assert taken(agenda) == ["sooner"]
    agenda.awake(5.0)
    assert taken(agenda) == ["later"]
    assert agenda.next_time is None


@given(st.lists(st.tuples(st.sampled_from(["add", "hold", "down", "go", "take"]), st.sampled_from("abc"))))
def test_nothing_that_was_added_is_ever_lost(steps: list[tuple[str, str]]) -> None:
    agenda, holds, owed = Agenda(), {"a": 0, "b": 0, "c": 0}, set[str]()
    for step, name in steps:
        if step == "add":
            agenda.add([name])
            owed.add(name)
        elif step == "hold":
            agenda.hold(name)
            holds[name] += 1
        elif step in ("down", "go") and holds[name]:
            holds[name] -= 1
            if step == "go":
                agenda.let_go(name)
            else:
                agenda.put_down(name)
                owed |= set() if holds[name] else {name}
        elif step == "take":
            _, found = agenda.take(9)
            assert not [each for each in found if holds[each]]
            owed -= set(found)
    for name, count in holds.items():
        for _ in range(count):
            agenda.let_go(name)

    assert owed <= set(taken(agenda))
