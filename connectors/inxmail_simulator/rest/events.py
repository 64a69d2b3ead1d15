"""`/events/…`: starting a subscription or unsubscription, and the logs of what happened."""

from collections.abc import Iterator

from connectors.inxmail_simulator.bodies import Body
from connectors.inxmail_simulator.call import Answer, Call
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.event_log import Event, EventLog
from connectors.inxmail_simulator.problems import method_not_allowed, not_found
from connectors.inxmail_simulator.registrations import subscribe, unsubscribe
from connectors.inxmail_simulator.rest.embedded import EmbeddedRecipient
from connectors.inxmail_simulator.state import Account, MailingList
from connectors.inxmail_simulator.subscription import Permission
from connectors.inxmail_simulator.world import World


def subscriptions(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            list_id = call.number("listId")
            return _read(call, world, world.account.subscriptions, "subscription-events", _only(list_id))
        case "POST":
            return _subscribe(call, world)
    raise method_not_allowed("GET", "POST")


def unsubscriptions(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            ids = call.numbers("listIds")
            return _read(call, world, world.account.unsubscriptions, "unsubscription-events", ids)
        case "POST":
            return _unsubscribe(call, world)
    raise method_not_allowed("GET", "POST")


def tracking_permissions(call: Call, world: World) -> Answer:
    if call.method != "GET":
        raise method_not_allowed("GET")
    return _read(call, world, world.account.permission_events, "tracking-permission-events", call.numbers("listIds"))


def _only(list_id: int | None) -> tuple[int, ...] | None:
    return None if list_id is None else (list_id,)


def _subscribe(call: Call, world: World) -> Answer:
    account = world.account
    body = Body(call.document())
    list_id = body.number("listId", required=True)
    email = body.email()
    permission: Permission | None = body.choice("trackingPermission", Permission.__members__)
    values = body.values(account.attribute_names, coerce_text=account.behaviour.subscription_coerces_text)
    body.check()
    result = subscribe(account, _list(account, list_id), email, values, permission, call.now)
    answer: dict[str, object] = {"result": result}
    recipient = account.find(email)
    if account.behaviour.subscription_recipient_id and recipient is not None:
        answer[account.behaviour.subscription_recipient_id] = recipient.id
    return Answer(body=answer)


def _unsubscribe(call: Call, world: World) -> Answer:
    account = world.account
    body = Body(call.document())
    list_id = body.number("listId", required=True)
    email = body.email()
    body.check()
    return Answer(body={"result": unsubscribe(account, _list(account, list_id), email, call.now)})


def _list(account: Account, list_id: int | None) -> MailingList:
    mailing_list = account.lists.get(list_id or 0)
    if mailing_list is None:
        raise not_found()
    return mailing_list


def _read(call: Call, world: World, log: EventLog[Event], relation: str, list_ids: tuple[int, ...] | None) -> Answer:
    account = world.account
    types = call.names("types")
    start, end = call.moment("startDate"), call.moment("endDate")
    embed = EmbeddedRecipient(call, account)

    def matches(after: int) -> Iterator[Event]:
        return (
            event
            for event in log.after(after)
            if (list_ids is None or event.list_id in list_ids)
            and (types is None or event.type in types)
            and (start is None or event.occurred_at >= start)
            and (end is None or event.occurred_at < end)
        )

    def show(event: Event) -> dict[str, object]:
        shown: dict[str, object] = {"id": event.id, "listId": event.list_id, "recipientId": event.recipient_id}
        if event.permission is None:
            shown |= {"type": event.type, "email": event.email}
        else:
            shown["trackingPermission"] = event.permission
        shown["creationDate"] = timestamp(event.occurred_at)
        return shown | embed(event.recipient_id)

    return page(call, account.behaviour, relation, matches, lambda event: event.id, show, log.last_id)
