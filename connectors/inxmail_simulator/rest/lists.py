"""`/lists`: mailing lists, their cached size, their settings, and memberships where a test asks for them."""

from connectors.inxmail_simulator.bodies import Body
from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.problems import Problem, invalid_body, method_not_allowed, not_found, undocumented
from connectors.inxmail_simulator.state import Account, MailingList
from connectors.inxmail_simulator.subscription import State
from connectors.inxmail_simulator.world import World

_DETACHED = "TrackingPermissionDetachedFromMembership"


def list_body(call: Call, shown: MailingList) -> dict[str, object]:
    return {
        "id": shown.id,
        "creationDate": timestamp(shown.created_at),
        "name": shown.name,
        "description": shown.description,
        "type": shown.type,
        "senderAddress": shown.sender_address,
        "senderName": shown.sender_name,
        "replyToAddress": shown.reply_to_address,
        "replyToName": shown.reply_to_name,
        "_links": {"self": call.link(f"lists/{shown.id}")},
    }


def collection(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            return _read_all(call, world)
        case "POST":
            return _create(call, world)
    raise method_not_allowed("GET", "POST")


def one(call: Call, world: World, key: str) -> Answer:
    shown = named(world.account, key)
    match call.method:
        case "GET":
            return Answer(body=list_body(call, shown))
        case "PUT":
            _fill(shown, call, world.account)
            return Answer(body=list_body(call, shown))
        case "DELETE":
            if shown.type == "SYSTEM":
                raise Problem(400, "locked-resource", detail="the system list cannot be deleted")
            world.account.remove_list(shown)
            return Answer(204)
    raise method_not_allowed("GET", "PUT", "DELETE")


def size(call: Call, world: World, key: str) -> Answer:
    """A cached figure: reading an old one starts a new count, which a later reading sees."""
    if call.method != "GET":
        raise method_not_allowed("GET")
    counted, behaviour = named(world.account, key), world.behaviour
    if counted.count_due_at is not None and counted.count_due_at <= call.now:
        recount(counted, counted.count_due_at)
    if counted.count_due_at is None and call.now - counted.counted_at >= behaviour.count_refresh_seconds:
        counted.count_due_at = call.now + behaviour.count_delay_ms / 1000
    return Answer(
        body={
            "id": counted.id,
            "count": counted.counted,
            "lastCalculatedAt": timestamp(counted.counted_at),
            "_links": {"self": call.link(f"lists/{counted.id}/count")},
        }
    )


def recount(counted: MailingList, now: float) -> None:
    counted.counted, counted.counted_at, counted.count_due_at = len(counted.subscribed), now, None


def settings(call: Call, world: World, key: str) -> Answer:
    """All settings at once; form unknown."""
    shown = named(world.account, key)
    if "list-settings" not in world.behaviour.undocumented:
        raise undocumented("Reading and patching the settings of a list")
    if call.method != "GET":
        raise method_not_allowed("GET")
    return Answer(body={_DETACHED: {"value": str(shown.detached).lower()}, "_links": {"self": {"href": call.href()}}})


def setting(call: Call, world: World, key: str, name: str) -> Answer:
    shown = named(world.account, key)
    if name != _DETACHED:
        raise not_found()
    if call.method != "PUT":
        raise undocumented("Reading one setting of a list")
    value = call.document().get("value")
    if value not in ("true", "false"):
        raise invalid_body(("value", 'must be the text "true" or "false"'))
    shown.detached = value == "true"
    world.account.changes += 1
    return Answer(body={"name": name, "value": value, "_links": {"self": {"href": call.href()}}})


def memberships(call: Call, world: World, key: str, recipient_key: str | None) -> Answer:
    """Adding to and removing from a list; form unknown. A removed recipient leaves no barrier."""
    if "memberships" not in world.behaviour.undocumented:
        raise undocumented("Adding recipients to a list and removing them")
    account, mailing_list = world.account, named(world.account, key)
    if call.method == "POST" and recipient_key is None:
        ids = call.document().get("recipientIds")
        if not isinstance(ids, list) or any(not isinstance(id_, int) or id_ not in account.recipients for id_ in ids):
            raise invalid_body(("recipientIds", "must name existing recipients"))
        for id_ in ids:
            recipient = account.recipients[id_]
            if account.state_of(mailing_list, recipient) is State.NONE:
                account.enter(mailing_list, recipient, State.SUBSCRIBED, None, call.now)
        return Answer(204)
    if call.method == "DELETE" and recipient_key is not None:
        member = account.recipients.get(number("recipientId", recipient_key))
        if member is None or account.state_of(mailing_list, member) is State.NONE:
            raise not_found()
        account.enter(mailing_list, member, State.NONE, None, call.now)
        return Answer(204)
    raise method_not_allowed("POST", "DELETE")


def named(account: Account, key: str) -> MailingList:
    """Raises: Problem, 400 for what is no number, 404 for an unknown list."""
    found = account.lists.get(number("id", key))
    if found is None:
        raise not_found()
    return found


def _read_all(call: Call, world: World) -> Answer:
    lists = world.account.lists
    after, before = call.moment("createdAfter"), call.moment("createdBefore")
    domain = call.text("senderDomain")

    def passes(known: MailingList) -> bool:
        sender = (known.sender_address or "").lower()
        return (
            (after is None or known.created_at >= after)
            and (before is None or known.created_at < before)
            and (domain is None or sender.endswith(f"@{domain.lower()}"))
        )

    return page(
        call,
        world.behaviour,
        "lists",
        lambda start: (lists[id_] for id_ in sorted(lists) if id_ > start and passes(lists[id_])),
        lambda known: known.id,
        lambda known: list_body(call, known),
        max(lists, default=0),
    )


def _create(call: Call, world: World) -> Answer:
    behaviour = world.behaviour
    document = call.document()
    created = MailingList(0, "", "STANDARD", behaviour.opt_in, behaviour.opt_out, call.now)
    body = Body(document)
    kind = body.text("type", required=True)
    if kind is not None and kind != "STANDARD":
        body.problem("type", "only lists of type STANDARD can be created")
    fields = _read(body, created, world.account)
    added = world.account.add_list(fields["name"] or "", call.now, behaviour.opt_in, behaviour.opt_out)
    _apply(added, fields)
    return Answer(201, list_body(call, added), {"Location": f"{call.base_url}/lists/{added.id}"})


def _fill(changed: MailingList, call: Call, account: Account) -> None:
    _apply(changed, _read(Body(call.document()), changed, account))
    account.changes += 1


def _read(body: Body, itself: MailingList, account: Account) -> dict[str, str | None]:
    fields = {
        "name": body.text("name", required=True),
        "sender_address": body.email("senderAddress"),
        "sender_name": body.text("senderName"),
        "reply_to_address": body.email("replyToAddress", required=False) or None,
        "reply_to_name": body.text("replyToName"),
        "description": body.text("description"),
    }
    body.check()
    holder = account.list_named(fields["name"] or "")
    if holder is not None and holder is not itself:
        raise Problem(409, "duplicate-resource", detail="there is a list of this name")
    return fields


def _apply(changed: MailingList, fields: dict[str, str | None]) -> None:
    for name, value in fields.items():
        setattr(changed, name, value)
