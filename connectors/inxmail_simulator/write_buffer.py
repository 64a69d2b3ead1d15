"""How late the events of an account become readable, when they get their ids, and which come twice."""

import copy
from collections.abc import Sequence
from random import Random

from connectors.inxmail_simulator.event_log import E, EventLog
from connectors.inxmail_simulator.options import Behaviour


def buffered_write(
    log: EventLog[E],
    events: Sequence[E],
    now: float,
    behaviour: Behaviour,
    draw: Random,
    *,
    delay_seconds: float | None = None,
) -> None:
    """Write events as the options say; `delay_seconds` overrides their delay and jitter for these events."""
    share = behaviour.event_duplicate_share
    if share:
        twice = [event for event in events if draw.random() < share]
        if behaviour.event_duplicate_ids == "new":
            twice = [copy.copy(event) for event in twice]
        events = [*events, *twice]
    delay = behaviour.event_delay_ms / 1000 if delay_seconds is None else delay_seconds
    jitter = behaviour.event_delay_jitter_ms / 1000 if delay_seconds is None else 0.0
    visible_at = [now + delay + jitter * draw.random() for _ in events] if jitter else [now + delay] * len(events)
    log.write(events, visible_at, id_at_creation=behaviour.event_ids == "creation")
