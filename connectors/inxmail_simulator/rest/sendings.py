"""`/sendings`: mailings on their way, and the protocol of each: what became of every mail."""

from collections.abc import Iterator

from connectors.inxmail_simulator.bodies import Body
from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.mailings import ProtocolEntry, Sending
from connectors.inxmail_simulator.problems import Problem, method_not_allowed, not_found
from connectors.inxmail_simulator.reactions import SendingToMake, make_sending
from connectors.inxmail_simulator.rest.embedded import EmbeddedRecipient
from connectors.inxmail_simulator.world import World


def collection(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            return _read_all(call, world)
        case "POST":
            return _send(call, world)
    raise method_not_allowed("GET", "POST")


def protocol(call: Call, world: World, key: str) -> Answer:
    if call.method != "GET":
        raise method_not_allowed("GET")
    sending = world.account.mailings.sendings.get(number("sendingId", key))
    if sending is None:
        raise not_found()
    embed = EmbeddedRecipient(call, world.account)
    sending.protocol.settle(call.now)

    def show(entry: ProtocolEntry) -> dict[str, object]:
        shown = {
            "id": entry.id,
            "recipientId": entry.recipient_id,
            "state": entry.state,
            "creationDate": timestamp(entry.occurred_at),
        }
        return shown | embed(entry.recipient_id)

    log = sending.protocol
    return page(call, world.behaviour, "protocol-entries", log.after, lambda entry: entry.id, show, log.last_id)


def _body(call: Call, sending: Sending) -> dict[str, object]:
    mailing, path = sending.mailing, f"sendings/{sending.id}"
    return {
        "id": sending.id,
        "mailingId": mailing.id,
        "mailingName": mailing.name,
        "listId": mailing.list_id,
        "state": sending.state,
        "startDate": timestamp(sending.started_at),
        "endDate": timestamp(sending.finished_at),
        "_links": {"self": call.link(path), "inx:protocol": call.link(f"{path}/protocol")},
    }


def _read_all(call: Call, world: World) -> Answer:
    log = world.account.mailings.sending_log
    mailings, lists = call.numbers("mailingIds", "mailingId"), call.numbers("listIds", "listId")
    start, end = call.moment("sendingsFinishedAfterDate"), call.moment("sendingsFinishedBeforeDate")

    def matches(after: int) -> Iterator[Sending]:
        return (
            sending
            for sending in log.after(after)
            if (mailings is None or sending.mailing.id in mailings)
            and (lists is None or sending.mailing.list_id in lists)
            and (start is None or sending.finished_at >= start)
            and (end is None or sending.finished_at < end)
        )

    return page(
        call,
        world.behaviour,
        "sendings",
        matches,
        lambda sending: sending.id,
        lambda sending: _body(call, sending),
        log.last_id,
    )


def _send(call: Call, world: World) -> Answer:
    """Send an approved mailing to the members of its list at once."""
    body = Body(call.document())
    id_ = body.number("mailingId", required=True)
    body.check()
    mailing = world.account.mailings.mailings.get(id_ or 0)
    if mailing is None:
        raise not_found()
    if not mailing.approved or mailing.sendings or mailing.list_id not in world.account.lists:
        raise Problem(400, "unresolvable-request", detail="the mailing is not approved, sent already or without a list")
    made = make_sending(world.account, SendingToMake(mailing.id), call.now)
    return Answer(201, _body(call, made), {"Location": f"{call.base_url}/sendings/{made.id}"})
