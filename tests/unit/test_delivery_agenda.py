"""Which mailboxes are looked at next."""

from hypothesis import given
from hypothesis import strategies as st

from streams.delivery.agenda import Agenda


def test_mailboxes_come_in_the_order_of_their_arrival_and_each_once() -> None:
    agenda = Agenda()
    agenda.add(["b", "a", "b"])

    assert agenda.take(1) == ["b"]
    assert agenda.take(9) == ["a"]
    assert agenda.take(9) == []


def test_a_mailbox_in_hand_is_looked_at_when_its_last_call_has_ended() -> None:
    agenda = Agenda()
    agenda.hold("a")
    agenda.hold("a")
    agenda.add(["a"])

    assert agenda.take(9) == []
    agenda.put_down("a")
    assert agenda.take(9) == []
    agenda.put_down("a")
    assert agenda.take(9) == ["a"]


def test_a_mailbox_that_is_let_go_is_looked_at_only_when_something_new_came() -> None:
    agenda = Agenda()
    agenda.hold("a")
    agenda.let_go("a")
    assert not agenda.has_pending

    agenda.hold("a")
    agenda.add(["a"])
    agenda.let_go("a")
    assert agenda.take(9) == ["a"]


def test_what_waits_for_a_list_comes_back_when_it_is_free() -> None:
    agenda = Agenda()
    agenda.wait_for_list(7, ["a", "b"])
    agenda.wait_for_list(8, ["c"])
    assert len(agenda) == 3

    agenda.list_is_free(7)
    assert agenda.take(9) == ["a", "b"]

    agenda.every_list_is_free()
    assert agenda.take(9) == ["c"]


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
            taken = agenda.take(9)
            assert not [each for each in taken if holds[each]]
            owed -= set(taken)
    for name, count in holds.items():
        for _ in range(count):
            agenda.let_go(name)

    assert owed <= set(agenda.take(9))
