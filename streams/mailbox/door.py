"""The last question before a call that can subscribe: does what we have heard meanwhile still allow it? Pure.

Decide has judged the wish already, from everything on record. This is asked again of the objections that the client
worker itself has heard, directly before the call, so that an opt-out still on its way through Kafka counts.
"""

from collections.abc import Iterable
from datetime import timedelta

from schemas.facts import ListEvent, Meaning, meaning_of
from schemas.mutations import Evidence, Held, HeldList, ListWish, Want
from streams.mailbox.evidence import ALWAYS, beats

_AGAINST = frozenset({Meaning.UNSUBSCRIBED, Meaning.LEAVING, Meaning.UNKNOWN})
"""She left; she tried to; or an entry of the unsubscription log that we cannot read."""


def may_subscribe(wish: ListWish, heard: Iterable[Evidence], skew: timedelta) -> bool:
    """Whether a call that may newly subscribe this mailbox to this list can be made now.

    `heard`: every objection heard for the mailbox, on this list or for the whole client. Within `skew`, by which two
    clocks may differ, the objection wins. Where nothing was heard, the wish's own judgement stands.
    """
    if wish.want is not Want.SUBSCRIBED:
        return False
    proof = wish.proof
    return all(beats(proof, objection, skew) for objection in heard)


def may_resubscribe(wish: ListWish, heard: Iterable[Evidence], skew: timedelta) -> bool:
    """Whether a call may override that the mailbox stands as unsubscribed: never without a proof."""
    return wish.proof is not None and may_subscribe(wish, heard, skew)


def objections(
    list_id: int, events: Iterable[ListEvent], held: HeldList | None, *, is_ours: bool = False
) -> list[Evidence]:
    """What counts against subscribing to `list_id`.

    `events`: entries of the unsubscription log for this mailbox. `held`: how the client holds the list; that it holds
    it unsubscribed is an objection unless the call was ours (`is_ours`), also where the log no longer says why.
    """
    found = [
        Evidence(f"unsubscriptions:{event.event_id}", event.occurred_at)
        for event in events
        if event.op_id is None and meaning_of(event) in _AGAINST and _concerns(event, list_id)
    ]
    if held is not None and held.state is Held.UNSUBSCRIBED and not is_ours:
        found.append(Evidence(held.cause or "held", held.since or ALWAYS))
    return found


def _concerns(event: ListEvent, list_id: int) -> bool:
    return event.list_id in (None, list_id) or event.type == "NOT_IN_SYSTEM_UNSUBSCRIPTION"
