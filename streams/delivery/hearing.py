"""What a log entry means for what is held: whose doing it was, and how the list stands now. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from schemas import causes
from schemas.delivery import CallState, Expectation
from schemas.facts import ListEvent, Meaning, SubscriptionEvent, meaning_of
from schemas.mutations import Held, HeldList

DUPLICATE_TYPES: Final = frozenset({"DUPLICATE_UNSUBSCRIPTION", "DUPLICATE_SUBSCRIPTION"})
_TICK: Final = timedelta(seconds=1)
"""Log dates are whole seconds: two within one tick have no known order."""


def log_of(event: ListEvent) -> str:
    """Which log it stands in."""
    return "subscriptions" if isinstance(event, SubscriptionEvent) else "unsubscriptions"


def echoes(events: Sequence[ListEvent], expected: Iterable[Expectation], skew: timedelta) -> dict[int, str]:
    """Event id → op id, for the entries (all of one log) that our own calls wrote.

    A call consumes at most one entry, that came later and fits its time; every other entry is the person's. A call
    that found it done already wrote at most the remark that it was so.
    """
    open_calls: dict[tuple[str, int], list[Expectation]] = {}
    for call in sorted(expected, key=lambda found: (found.position, found.opened_at)):
        open_calls.setdefault((call.mailbox, call.list_id), []).append(call)
    found: dict[int, str] = {}
    for event in sorted(events, key=lambda entry: entry.event_id):
        if event.mailbox is None or event.list_id is None or not _can_be_ours(event.type):
            continue
        calls = open_calls.get((event.mailbox, event.list_id), [])
        match = next((call for call in calls if _fits(call, event, skew)), None)
        if match is not None:
            found[event.event_id] = match.op_id
            calls.remove(match)
    return found


def _can_be_ours(type_: str) -> bool:
    """Our calls neither confirm anything nor use a mail's list header."""
    return not (type_.endswith("_DONE") or type_.startswith(("LIST_UNSUBSCRIBE_HEADER", "PENDING_SUBSCRIPTION")))


def _fits(call: Expectation, event: ListEvent, skew: timedelta) -> bool:
    if call.log != log_of(event) or event.event_id <= call.position:
        return False
    if call.state in (CallState.REFUSED, CallState.UNDONE):
        return False
    if call.state is CallState.DUPLICATE and event.type not in DUPLICATE_TYPES:
        return False
    since = call.opened_at - skew
    until = None if call.ended_at is None else call.ended_at + skew
    return event.occurred_at >= since and (until is None or event.occurred_at <= until)


def state_after(
    event: ListEvent,
    held: HeldList | None,
    *,
    op_id: str | None,
    subscribing: bool,
    skew: timedelta,
    is_history: bool = False,
) -> HeldList | None:
    """How the list is held after this entry; None when that does not change.

    An echo changes nothing: the call itself says how it ended.
    subscribing: a call that can subscribe this mailbox to this list is open, or ended and the log has not been read
    to its end since: no order is known then, so the state is unknown. Likewise between two entries of one second, and
    between an entry and a call of ours that the two clocks do not tell apart. An opt-out that is older than the
    subscription and heard only now is not trusted to be overtaken either, unless the whole log is read from its
    beginning (`is_history`).
    """
    state = _state(event)
    if state is None or event.list_id is None or op_id is not None:
        return None
    after = HeldList(event.list_id, state, causes.event(event.event_id), event.occurred_at)
    if held is not None and held.state is Held.UNKNOWN:
        return None
    if subscribing:
        return _unknown(after, held)
    if held is None or held.state is Held.NONE:
        return after
    if held.state is state:
        return None
    if held.since is None:
        return _unknown(after, held)
    tolerance = max(_TICK, skew) if causes.is_ours(held.cause) else _TICK
    if event.occurred_at >= held.since + tolerance:
        return after
    if event.occurred_at <= held.since - tolerance and (is_history or state is Held.SUBSCRIBED):
        return None
    return _unknown(after, held)


def _unknown(after: HeldList, held: HeldList | None) -> HeldList:
    return HeldList(after.list_id, Held.UNKNOWN, after.cause, after.since, held.claims if held is not None else ())


def _state(event: ListEvent) -> Held | None:
    if "NOT_IN_" in event.type:
        return None  # she was not on the list: an objection, and nothing held changes
    match meaning_of(event):
        case Meaning.SUBSCRIBED:
            return Held.SUBSCRIBED
        case Meaning.UNSUBSCRIBED:
            return Held.UNSUBSCRIBED
    return None


def state_by_dates(subscribed: datetime | None, unsubscribed: datetime | None) -> tuple[Held, datetime | None]:
    """How a list is held by the dates that a recipient shows. Two dates of one second tell nothing: UNKNOWN."""
    if subscribed is None and unsubscribed is None:
        return Held.NONE, None
    if unsubscribed is None:
        return Held.SUBSCRIBED, subscribed
    if subscribed is None or unsubscribed > subscribed:
        return Held.UNSUBSCRIBED, unsubscribed
    if subscribed > unsubscribed:
        return Held.SUBSCRIBED, subscribed
    return Held.UNKNOWN, subscribed


def state_read(
    list_id: int, state: Held, since: datetime | None, held: HeldList | None, events: Iterable[ListEvent]
) -> HeldList | None:
    """How the list is held after reading it; None when that does not change.

    `events`: entries of the unsubscription log for this mailbox, echoes of ours included. One that says the same at
    the same time is the cause, so that what we did ourselves is not taken for the person's word.
    """
    if state is Held.NONE and (held is None or held.state is Held.NONE):
        return None
    if held is not None and held.state is state:
        return None
    cause = causes.READ
    if state is Held.UNSUBSCRIBED and since is not None:
        said = [event for event in events if event.list_id == list_id and abs(event.occurred_at - since) <= _TICK]
        if said:
            newest = max(said, key=lambda event: event.event_id)
            cause = newest.op_id or causes.event(newest.event_id)
            if any(event.op_id is None for event in said):  # in doubt, the person's
                cause = causes.event(max(event.event_id for event in said if event.op_id is None))
    keeps = state in (Held.SUBSCRIBED, Held.UNKNOWN) and held is not None and held.state is not Held.UNSUBSCRIBED
    return HeldList(list_id, state, cause, since, held.claims if keeps and held is not None else ())
