"""`/attributes`: the definitions of recipient attributes."""

from connectors.inxmail_simulator.bodies import Body
from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.problems import Problem, method_not_allowed, not_found
from connectors.inxmail_simulator.state import Attribute
from connectors.inxmail_simulator.values import AttributeType
from connectors.inxmail_simulator.world import World

_RESERVED = ("email", "trackingpermission")
"""Columns of the import that are no attributes."""


def collection(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            return _read_all(call, world)
        case "POST":
            return _create(call, world)
    raise method_not_allowed("GET", "POST")


def one(call: Call, world: World, key: str) -> Answer:
    attribute = world.account.attributes.get(number("id", key))
    if attribute is None:
        raise not_found()
    if call.method != "GET":
        raise method_not_allowed("GET")
    return Answer(body=_body(call, attribute))


def _body(call: Call, attribute: Attribute) -> dict[str, object]:
    body: dict[str, object] = {"id": attribute.id, "name": attribute.name, "type": attribute.type}
    if attribute.type is AttributeType.TEXT:
        body["maxLength"] = attribute.max_length
    body["creationDate"] = timestamp(attribute.created_at)
    body["modificationDate"] = timestamp(attribute.modified_at)
    body["_links"] = {"self": call.link(f"attributes/{attribute.id}")}
    return body


def _read_all(call: Call, world: World) -> Answer:
    attributes = world.account.attributes
    since = None if world.behaviour.if_modified_since == "ignore" else call.modified_since()
    fresh = [known for known in attributes.values() if since is None or int(known.modified_at) > since]
    if since is not None and not fresh and world.behaviour.if_modified_since == "not-modified":
        return Answer(304)
    return page(
        call,
        world.behaviour,
        "attributes",
        lambda after: (known for known in fresh if known.id > after),
        lambda known: known.id,
        lambda known: _body(call, known),
        max(attributes, default=0),
    )


def _create(call: Call, world: World) -> Answer:
    account = world.account
    body = Body(call.document())
    name = body.text("name", required=True)
    kind: AttributeType | None = body.choice("type", AttributeType.__members__, required=True)
    longest = body.number("maxLength")
    if longest is not None and not (kind is AttributeType.TEXT and 1 <= longest <= 255):
        body.problem("maxLength", "must be between 1 and 255 inclusive, for TEXT only")
    if name is not None and (name.lower() in _RESERVED or set(name) & set(";,\"'\r\n")):
        body.problem("name", "is not allowed")
    body.check()
    if name is None or kind is None or name.lower() in {known.lower() for known in account.attribute_names}:
        raise Problem(409, "duplicate-resource", detail="there is an attribute of this name")
    added = account.add_attribute(name, kind, longest, call.now)
    return Answer(201, _body(call, added), {"Location": f"{call.base_url}/attributes/{added.id}"})
