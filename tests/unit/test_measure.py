from streams.demo.comparison import Entry
from streams.demo.course import EDITS, UNSUBSCRIPTIONS, chosen
from streams.demo.measure import Latency, Race, latency


def test_percentiles_are_times_that_were_measured() -> None:
    hundred = [n / 1000 for n in range(1, 101)]

    assert latency(hundred) == Latency(50.0, 99.0)
    assert latency([0.2]) == Latency(200.0, 200.0)
    assert latency([0.3, 0.1]) == Latency(100.0, 300.0)


def test_nothing_measured_is_not_a_time_of_zero() -> None:
    assert latency([]) == Latency(None, None)


def test_what_sets_out_and_does_not_arrive_stays_under_way() -> None:
    race = Race()
    race.begin("one", 10.0)
    race.begin("two", 11.0)
    race.arrive("one", 10.5)
    race.arrive("one", 99.0)
    race.arrive("stranger", 12.0)

    assert race.took == [0.5]
    assert race.under_way == {"two"}
    assert race.begun == 2


def _people(count: int) -> list[Entry]:
    return [
        Entry("ab"[n % 7 > 3], 7 + n % 3, f"p{n}@example.org", "subscribed", {"Ort": "Ulm"}, f"{n:032X}")
        for n in range(count)
    ]


def test_who_is_edited_does_not_leave_as_well() -> None:
    edits, leaving = chosen(_people(1000))

    assert (len(edits), len(leaving)) == (EDITS, UNSUBSCRIPTIONS)
    assert not {entry.email for entry in edits} & {entry.email for entry in leaving}
    assert {entry.client for entry in edits} == {"a", "b"}


def test_a_small_crm_is_edited_less() -> None:
    edits, leaving = chosen(_people(40))

    assert (len(edits), len(leaving)) == (26, 14)


def test_a_person_or_a_mailbox_is_chosen_once() -> None:
    ann = Entry("a", 7, "ann@example.org", "subscribed", {"Ort": "Ulm"}, "A" * 32)
    again = [ann, Entry("b", 7, "ann@example.org", "subscribed", {"Ort": "Ulm"}, "A" * 32)]
    other_mailbox = Entry("b", 8, "work@example.org", "subscribed", {"Ort": "Ulm"}, "A" * 32)
    edits, leaving = chosen([*again, other_mailbox, *_people(10)])

    assert sum(entry.recipient == "A" * 32 for entry in edits + leaving) == 1
