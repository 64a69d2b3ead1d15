"""Whatever is written when, a log shows what is due, in ascending id, and nothing else."""

from hypothesis import example, given
from hypothesis import strategies as st

from connectors.inxmail_simulator.event_log import Event, EventLog

_TIMES = st.integers(0, 20)
_WRITES = st.lists(st.tuples(st.booleans(), st.lists(_TIMES, max_size=150), _TIMES), max_size=12)
"""Batches: whether ids are given at creation, when each event becomes readable, until when the log then settles."""


def _event(marker: int) -> Event:
    return Event(str(marker), 7, None, None, 0.0)


@given(_WRITES)
@example([(True, [9] * 150, 0), (True, [5], 5), (False, [9] * 150, 9)]).via("many come behind one")
def test_a_log_shows_what_is_due_in_ascending_id(writes: list[tuple[bool, list[int], int]]) -> None:
    log: EventLog[Event] = EventLog()
    due_at: dict[str, int] = {}
    settled = -1
    for at_creation, times, until in writes:
        events = [_event(len(due_at) + index) for index in range(len(times))]
        due_at |= {event.type: at for event, at in zip(events, times, strict=True)}
        log.write(events, [float(at) for at in times], id_at_creation=at_creation)
        settled = max(settled, until)
        log.settle(settled)
        shown = list(log.after(0))

        assert {event.type for event in shown} == {marker for marker, at in due_at.items() if at <= settled}
        assert [event.id for event in shown] == sorted({event.id for event in shown})
        assert log.last_id == max((event.id for event in shown), default=0)
        assert (len(log), log.buffered) == (len(shown), len(due_at) - len(shown))


@given(_WRITES, st.integers(0, 3))
def test_with_ids_in_order_of_visibility_nothing_ever_appears_behind_a_reader(
    writes: list[tuple[bool, list[int], int]], lag: int
) -> None:
    log: EventLog[Event] = EventLog()
    seen: list[int] = []
    now = written = 0
    for _, times, pause in writes:
        log.write([_event(0) for _ in times], [float(now + at) for at in times])
        written += len(times)
        now += pause // (lag + 1)
        log.settle(now)
        seen += [event.id for event in log.after(seen[-1] if seen else 0)]
    log.settle(10_000)
    seen += [event.id for event in log.after(seen[-1] if seen else 0)]

    assert seen == list(range(1, written + 1))


@given(st.lists(_TIMES, min_size=1, max_size=50))
def test_events_become_readable_in_the_order_of_their_times(times: list[int]) -> None:
    log: EventLog[Event] = EventLog()
    log.write([_event(at) for at in times[::2]], [float(at) for at in times[::2]])
    for at in times[1::2]:
        log.write([_event(at)], [float(at)])
    log.settle(20)

    assert [int(event.type) for event in log.after(0)] == sorted(times)
