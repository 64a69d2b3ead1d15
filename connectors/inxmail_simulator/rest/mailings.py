"""`/mailings`, `/regular-mailings` and `/statistics`: what was written, and how it fared."""

from collections.abc import Iterator

from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.mailings import Mailing, MailingType, response_statistics, sending_statistics
from connectors.inxmail_simulator.problems import Problem, invalid_parameter, method_not_allowed, not_found
from connectors.inxmail_simulator.world import World

_STATISTICS = ("inx:response-statistics", "inx:sending-statistics")


def collection(call: Call, world: World, *, regular: bool = False) -> Answer:
    """All mailings, or only the regular ones, which tell their state."""
    if call.method != "GET":
        raise method_not_allowed("GET")
    mailings = world.account.mailings.mailings
    show = _Shown(call, regular)
    return page(
        call,
        world.behaviour,
        "regular-mailings" if regular else "mailings",
        _Matches(call, mailings, regular),
        lambda mailing: mailing.id,
        show,
        max(mailings, default=0),
    )


def one(call: Call, world: World, key: str, *, regular: bool = False) -> Answer:
    if call.method != "GET":
        raise method_not_allowed("GET")
    mailing = world.account.mailings.mailings.get(number("id", key))
    if mailing is None or (regular and mailing.type is not MailingType.REGULAR_MAILING):
        raise not_found()
    return Answer(body=_Shown(call, regular)(mailing))


def statistics(call: Call, world: World, kind: str) -> Answer:
    """`/statistics/responses` and `/statistics/sendings` of one mailing."""
    if call.method != "GET":
        raise method_not_allowed("GET")
    id_ = call.number("mailingId")
    if id_ is None:
        raise Problem(400, "missing-parameter", detail="mailingId")
    mailing = world.account.mailings.mailings.get(id_)
    if mailing is None:
        raise not_found()
    shown = response_statistics(mailing) if kind == "responses" else sending_statistics(mailing)
    return Answer(body={"mailingId": id_, **shown, "_links": {"self": {"href": call.href()}}})


class _Matches:
    """The mailings that pass every filter of the request, in ascending id."""

    def __init__(self, call: Call, mailings: dict[int, Mailing], regular: bool) -> None:
        self._mailings = mailings
        self._lists = call.numbers("listIds", "listId")
        self._types = (MailingType.REGULAR_MAILING,) if regular else call.names("types")
        self._states = call.names("mailingStates") if regular else None
        self._ready, self._approved = call.choice("readyToSend"), call.choice("isApproved")
        self._sent = call.choice("hasSending")
        self._created = (call.moment("createdAfter"), call.moment("createdBefore"))
        self._modified = (call.moment("modifiedAfter"), call.moment("modifiedBefore"))
        self._sent_between = (call.moment("sentAfter"), call.moment("sentBefore") if regular else None)

    def __call__(self, after: int) -> Iterator[Mailing]:
        return (mailing for id_, mailing in self._mailings.items() if id_ > after and self._passes(mailing))

    def _passes(self, mailing: Mailing) -> bool:
        sent = bool(mailing.sendings)
        return (
            (self._lists is None or mailing.list_id in self._lists)
            and (self._types is None or mailing.type in self._types)
            and (self._states is None or mailing.state in self._states)
            and self._ready in (None, mailing.approved and not sent)
            and self._approved in (None, mailing.approved)
            and self._sent in (None, sent)
            and _within(mailing.created_at, *self._created)
            and _within(mailing.modified_at, *self._modified)
            and _within(mailing.sent_at, *self._sent_between)
        )


def _within(at: float | None, start: float | None, end: float | None) -> bool:
    """What never happened is within no bounds."""
    if at is None:
        return start is None and end is None
    return (start is None or at >= start) and (end is None or at < end)


class _Shown:
    """How a mailing looks in the answer to one request.  Raises: Problem, when something else is to be embedded."""

    def __init__(self, call: Call, regular: bool) -> None:
        self._call = call
        self._regular = regular
        self._embedded = call.names("embedded") or ()
        if not set(self._embedded) <= set(_STATISTICS):
            raise invalid_parameter("embedded", f"only {' and '.join(_STATISTICS)} can be embedded")

    def __call__(self, mailing: Mailing) -> dict[str, object]:
        shown: dict[str, object] = {
            "id": mailing.id,
            "type": mailing.type,
            "listId": mailing.list_id,
            "name": mailing.name,
            "subject": mailing.subject,
            "creationDate": timestamp(mailing.created_at),
            "modificationDate": timestamp(mailing.modified_at),
        }
        if self._regular:
            shown["state"] = mailing.state
        embedded: dict[str, object] = {}
        if _STATISTICS[0] in self._embedded:
            embedded[_STATISTICS[0]] = response_statistics(mailing)
        if _STATISTICS[1] in self._embedded:
            embedded[_STATISTICS[1]] = sending_statistics(mailing)
        if embedded:
            shown["_embedded"] = embedded
        shown["_links"] = {"self": self._call.link(f"{'regular-' if self._regular else ''}mailings/{mailing.id}")}
        return shown
