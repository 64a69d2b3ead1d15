"""`/recipients`: the collection with its filters, one recipient, merge-patch."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby

from connectors.inxmail_simulator.bodies import Body
from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.keyset import Keyset
from connectors.inxmail_simulator.problems import (
    Problem,
    invalid_parameter,
    method_not_allowed,
    not_found,
    type_mismatch,
    undocumented,
)
from connectors.inxmail_simulator.rest.lists import list_body
from connectors.inxmail_simulator.state import Account, Attribute, Membership, Recipient
from connectors.inxmail_simulator.subscription import State
from connectors.inxmail_simulator.values import Value, from_text
from connectors.inxmail_simulator.world import World

_SCATTER = 2_654_435_761
"""Spreads neighbouring ids evenly (Knuth's multiplicative hash), so that the same ids always wait the same time."""
_SCAN_ABOVE = 50_000
"""With more candidates than this, walking the ids beats sorting the candidates for every page."""


def collection(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            return _read_all(call, world)
        case "POST":
            return _create(call, world)
    raise method_not_allowed("GET", "POST")


def one(call: Call, world: World, key: str) -> Answer:
    account = world.account
    match call.method:
        case "GET":
            recipient = _named(account, key, by_email=account.behaviour.recipient_by_email)
            show = _Shown(call, account, all_attributes=call.flag("allAttributes"))
            return Answer(body=show(recipient))
        case "PATCH":
            document = call.document("application/merge-patch+json")
            return _patch(call, account, _named(account, key, by_email=True), Body(document))
        case "DELETE":
            account.delete_recipient(_named(account, key, by_email=account.behaviour.recipient_by_email))
            return Answer(204)
    raise method_not_allowed("GET", "PATCH", "DELETE")


def lists_of(call: Call, world: World, key: str) -> Answer:
    """The lists of one recipient; form unknown."""
    if "recipient-lists" not in world.behaviour.undocumented:
        raise undocumented("The lists of one recipient")
    recipient = _named(world.account, key, by_email=False)
    joined = [known for _, known in sorted(world.account.lists.items()) if recipient.id in known.subscribed]
    return page(
        call,
        world.behaviour,
        "lists",
        lambda after: (known for known in joined if known.id > after),
        lambda known: known.id,
        lambda known: list_body(call, known),
        max(world.account.lists),
    )


def _read_all(call: Call, world: World) -> Answer:
    account = world.account
    shows = _visible(call, account)
    newest_first = account.recipient_ids.descending()
    highest = next((id_ for id_ in newest_first if shows(account.recipients[id_])), 0)
    return page(
        call,
        account.behaviour,
        "recipients",
        _Matches(call, account, shows),
        lambda recipient: recipient.id,
        _Shown(call, account),
        highest,
    )


def _visible(call: Call, account: Account) -> Callable[[Recipient], bool]:
    """Whether the collection shows a recipient yet; with jitter, one created later may be there sooner."""
    since = call.now - account.behaviour.recipient_delay_ms / 1000
    jitter = account.behaviour.recipient_delay_jitter_ms / 1000
    if not jitter:
        return lambda recipient: recipient.created_at <= since
    return lambda recipient: recipient.created_at + jitter * (recipient.id * _SCATTER % 2**32) / 2**32 <= since


class _Matches:
    """The recipients that pass every filter of the request, from any id on, in ascending id."""

    def __init__(self, call: Call, account: Account, shows: Callable[[Recipient], bool]) -> None:
        self._account = account
        self._shows = shows
        self._since = call.moment("lastModifiedSince")
        self._emails = call.names("email")
        self._attributes: list[tuple[int, Value]] = [
            _condition(account, name.removeprefix("attributes."), value)
            for name, value in call.query
            if name.startswith("attributes.")
        ]
        subscribed_to = call.number("subscribedTo")
        wanted: list[tuple[tuple[int, ...], State]] = []
        if subscribed_to is not None:
            wanted.append(((subscribed_to,), State.SUBSCRIBED))
        for name, state in (("subscribedToAny", State.SUBSCRIBED), ("unsubscribedFromAny", State.UNSUBSCRIBED)):
            ids = call.numbers(name)
            if ids is not None:
                wanted.append((ids, state))
        self._lists = [[_keyset(account, id_, state) for id_ in ids] for ids, state in wanted]

    def __call__(self, after: int) -> Iterator[Recipient]:
        recipients = self._account.recipients
        for id_ in self._candidates(after):
            recipient = recipients.get(id_)
            if recipient is not None and self._passes(recipient):
                yield recipient

    def _candidates(self, after: int) -> Iterable[int]:
        """Ids in ascending order from the narrowest index there is."""
        account = self._account
        if self._emails is not None:
            found = (account.find(email) for email in self._emails)
            return sorted({recipient.id for recipient in found if recipient and recipient.id > after})
        for position, value in self._attributes:
            holders = account.holders(position, value)
            if len(holders) <= _SCAN_ABOVE:
                return sorted(id_ for id_ in holders if id_ > after)
        if self._since is not None:
            modified = account.modifications.since(self._since)
            if len(modified) <= _SCAN_ABOVE:
                return sorted(id_ for id_ in modified if id_ > after)
        if self._lists:
            walks = [keyset.after(after) for keyset in self._lists[0]]
            return walks[0] if len(walks) == 1 else (id_ for id_, _ in groupby(heapq.merge(*walks)))
        return account.recipient_ids.after(after)

    def _passes(self, recipient: Recipient) -> bool:
        return (
            self._shows(recipient)
            and (self._since is None or recipient.modified_at >= self._since)
            and all(any(recipient.id in keyset for keyset in keysets) for keysets in self._lists)
            and all(recipient.value(position) == value for position, value in self._attributes)
        )


def _keyset(account: Account, list_id: int, state: State) -> Keyset:
    known = account.lists.get(list_id)
    if known is None:
        return Keyset()
    return known.subscribed if state is State.SUBSCRIBED else known.unsubscribed


def _condition(account: Account, name: str, text: str) -> tuple[int, Value]:
    attribute = account.attribute_names.get(name)
    if attribute is None:
        raise invalid_parameter(f"attributes.{name}", "there is no such attribute")
    try:
        return attribute.position, from_text(attribute.type, None, text) if text else None
    except ValueError as error:
        raise invalid_parameter(f"attributes.{name}", str(error)) from None


class _Shown:
    """How a recipient looks in the answer to one request."""

    def __init__(self, call: Call, account: Account, *, all_attributes: bool = False) -> None:
        self._base = f"{call.base_url}/recipients/"
        names = call.names("attributes")
        chosen: Iterable[Attribute] | None = None
        if all_attributes:
            chosen = account.attributes.values()
        elif names is not None:
            chosen = chosen_attributes(account, "attributes", names)
        self._attributes = None if chosen is None else [(known.name, known.position) for known in chosen]
        self._permissions = self._per_list(account, call.numbers("trackingPermissionsForLists"))
        self._subscribed = self._per_list(account, call.numbers("subscriptionDatesForLists"))
        self._unsubscribed = self._per_list(account, call.numbers("unsubscriptionDatesForLists"))

    @staticmethod
    def _per_list(account: Account, ids: tuple[int, ...] | None) -> list[tuple[int, Mapping[int, Membership]]] | None:
        if ids is None:
            return None
        return [(id_, account.lists[id_].members) for id_ in ids if id_ in account.lists]

    def __call__(self, recipient: Recipient) -> dict[str, object]:
        shown: dict[str, object] = {"id": recipient.id, "email": recipient.email}
        if self._attributes is not None:
            values = recipient.values
            width = len(values)
            shown["attributes"] = {
                name: values[position] if position < width else None for name, position in self._attributes
            }
        shown["lastModified"] = timestamp(recipient.modified_at)
        id_ = recipient.id
        if self._permissions is not None:
            shown["trackingPermissions"] = [
                {"listId": list_id, "trackingPermission": members[id_].permission}
                for list_id, members in self._permissions
                if id_ in members
            ]
        if self._subscribed is not None:
            shown["subscriptionDates"] = _dates(id_, self._subscribed, "subscribed_at")
        if self._unsubscribed is not None:
            shown["unsubscriptionDates"] = _dates(id_, self._unsubscribed, "unsubscribed_at")
        shown["_links"] = {"self": {"href": f"{self._base}{id_}"}}
        return shown


def _dates(id_: int, lists: Iterable[tuple[int, Mapping[int, Membership]]], field: str) -> list[dict[str, object]]:
    found = ((list_id, getattr(members.get(id_), field, None)) for list_id, members in lists)
    return [{"listId": list_id, "date": timestamp(at)} for list_id, at in found if at is not None]


def chosen_attributes(account: Account, parameter: str, names: Iterable[str]) -> list[Attribute]:
    """Raises: Problem, for a name that does not exist, unless the option says to overlook it."""
    chosen = []
    for name in names:
        attribute = account.attribute_names.get(name)
        if attribute is not None:
            chosen.append(attribute)
        elif account.behaviour.unknown_attribute_names == "reject":
            raise invalid_parameter(parameter, f"there is no attribute '{name}'")
    return chosen


def _create(call: Call, world: World) -> Answer:
    account = world.account
    body = Body(call.document())
    email = body.email()
    values = body.values(account.attribute_names, required=True)
    body.check()
    _refuse_blocked_or_taken(account, email, None)
    recipient = account.add_recipient(email, values, call.now)
    shown = _Shown(call, account, all_attributes=True)(recipient)
    return Answer(201, shown, {"Location": f"{call.base_url}/recipients/{recipient.id}"})


def _patch(call: Call, account: Account, recipient: Recipient, body: Body) -> Answer:
    email = ""
    if "email" in body:
        email = body.email()
    values = body.values(account.attribute_names)
    body.check()
    if email:
        _refuse_blocked_or_taken(account, email, recipient)
    account.change_recipient(recipient, values, call.now, email)
    return Answer(body=_Shown(call, account, all_attributes=True)(recipient))


def _refuse_blocked_or_taken(account: Account, email: str, owner: Recipient | None) -> None:
    if account.blacklist.blocks(email):
        raise Problem(400, "blacklisted")
    holder = account.find(email)
    if holder is not None and holder is not owner:
        raise Problem(409, "duplicate-resource", detail="the address is taken")


def _named(account: Account, key: str, *, by_email: bool) -> Recipient:
    if "@" in key:
        if not by_email:
            raise type_mismatch("id")
        recipient = account.find(key)
    else:
        recipient = account.recipients.get(number("id", key))
    if recipient is None:
        raise not_found()
    return recipient
