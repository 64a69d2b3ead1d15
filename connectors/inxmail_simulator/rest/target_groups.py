"""`/target-groups`: named groups of a list's recipients. Nothing is known of a way to read who belongs to one."""

from connectors.inxmail_simulator.bodies import Body
from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.problems import Problem, method_not_allowed, not_found
from connectors.inxmail_simulator.target_groups import TargetGroup
from connectors.inxmail_simulator.world import World


def collection(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            return _read_all(call, world)
        case "POST":
            list_id, name, description = _read(call, world, None)
            made = world.account.target_groups.add(list_id, name, description, call.now)
            world.account.changes += 1
            return Answer(201, _body(call, made), {"Location": f"{call.base_url}/target-groups/{made.id}"})
    raise method_not_allowed("GET", "POST")


def one(call: Call, world: World, key: str) -> Answer:
    groups = world.account.target_groups.groups
    group = groups.get(number("id", key))
    if group is None:
        raise not_found()
    match call.method:
        case "GET":
            return Answer(body=_body(call, group))
        case "PUT":
            group.list_id, group.name, group.description = _read(call, world, group)
            group.modified_at = call.now
            world.account.changes += 1
            return Answer(body=_body(call, group))
        case "DELETE":
            del groups[group.id]
            world.account.changes += 1
            return Answer(204)
    raise method_not_allowed("GET", "PUT", "DELETE")


def _read(call: Call, world: World, changed: TargetGroup | None) -> tuple[int, str, str | None]:
    """List, name and description from the body; without `listId` a group stays with its list."""
    body = Body(call.document())
    list_id = body.number("listId", required=changed is None)
    name = body.text("name", required=True) or ""
    description = body.text("description")
    body.check()
    wanted = changed.list_id if list_id is None and changed else list_id or 0
    if wanted not in world.account.lists:
        raise not_found()
    if world.account.target_groups.named(wanted, name) not in (None, changed):
        raise Problem(409, "duplicate-resource", detail="the list has a target group of this name")
    return wanted, name, description


def _body(call: Call, group: TargetGroup) -> dict[str, object]:
    return {
        "id": group.id,
        "listId": group.list_id,
        "name": group.name,
        "description": group.description,
        "creationDate": timestamp(group.created_at),
        "modificationDate": timestamp(group.modified_at),
        "_links": {"self": call.link(f"target-groups/{group.id}")},
    }


def _read_all(call: Call, world: World) -> Answer:
    groups = world.account.target_groups
    list_id, how = call.number("listId"), world.behaviour.if_modified_since
    since = None if how == "ignore" else call.modified_since()
    found = [
        group
        for group in groups.groups.values()
        if list_id in (None, group.list_id) and (since is None or int(group.modified_at) > since)
    ]
    if since is not None and not found and how == "not-modified":
        return Answer(304)
    return page(
        call,
        world.behaviour,
        "target-groups",
        lambda after: (group for group in found if group.id > after),
        lambda group: group.id,
        lambda group: _body(call, group),
        groups.last_id,
    )
