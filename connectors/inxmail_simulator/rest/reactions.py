"""`/bounces`, `/clicks`, `/web-beacon-hits`: how the recipients of a sending reacted."""

from collections.abc import Iterator

from connectors.inxmail_simulator.call import Answer, Call
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.event_log import EventLog
from connectors.inxmail_simulator.mailings import Reaction
from connectors.inxmail_simulator.problems import method_not_allowed
from connectors.inxmail_simulator.rest.embedded import EmbeddedRecipient
from connectors.inxmail_simulator.world import World


def bounces(call: Call, world: World) -> Answer:
    return _read(call, world, world.account.mailings.bounces, "bounces")


def clicks(call: Call, world: World) -> Answer:
    return _read(call, world, world.account.mailings.clicks, "clicks")


def web_beacon_hits(call: Call, world: World) -> Answer:
    return _read(call, world, world.account.mailings.web_beacon_hits, "web-beacon-hits")


def _read(call: Call, world: World, log: EventLog[Reaction], relation: str) -> Answer:
    if call.method != "GET":
        raise method_not_allowed("GET")
    embed = EmbeddedRecipient(call, world.account)
    anonymous = world.behaviour.untracked_reactions == "anonymous"

    def show(reaction: Reaction) -> dict[str, object]:
        sending = reaction.sending
        recipient_id = reaction.recipient_id if reaction.tracked or not anonymous else None
        shown: dict[str, object] = {
            "id": reaction.id,
            "sendingId": sending.id,
            "mailingId": sending.mailing.id,
            "listId": sending.mailing.list_id,
            "recipientId": recipient_id,
            "creationDate": timestamp(reaction.occurred_at),
        }
        if reaction.link is not None:
            shown |= {"url": reaction.link.url, "linkType": reaction.link.type}
        if reaction.category is not None:
            shown["bounceCategory"] = reaction.category
        return shown | embed(recipient_id)

    return page(call, world.behaviour, relation, _Matches(call, log), lambda reaction: reaction.id, show, log.last_id)


class _Matches:
    """The reactions that pass every filter of the request, in ascending id."""

    def __init__(self, call: Call, log: EventLog[Reaction]) -> None:
        self._log = log
        self._sendings = call.numbers("sendingIds", "sendingId")
        self._mailings = call.numbers("mailingIds", "mailingId")
        self._lists = call.numbers("listIds", "listId")
        self._categories = call.names("bounceCategory")
        self._tracked_only = call.flag("trackedOnly")
        self._start, self._end = call.moment("startDate"), call.moment("endDate")
        self._plain = not self._tracked_only and all(
            wanted is None
            for wanted in (self._sendings, self._mailings, self._lists, self._categories, self._start, self._end)
        )

    def __call__(self, after: int) -> Iterator[Reaction]:
        found = self._log.after(after)
        return found if self._plain else (reaction for reaction in found if self._passes(reaction))

    def _passes(self, reaction: Reaction) -> bool:
        sending = reaction.sending
        return (
            (reaction.tracked or not self._tracked_only)
            and (self._sendings is None or sending.id in self._sendings)
            and (self._mailings is None or sending.mailing.id in self._mailings)
            and (self._lists is None or sending.mailing.list_id in self._lists)
            and (self._categories is None or reaction.category in self._categories)
            and (self._start is None or reaction.occurred_at >= self._start)
            and (self._end is None or reaction.occurred_at < self._end)
        )
