"""`/blacklist-entries`: an entry silently deletes whom it matches and keeps them out."""

from connectors.inxmail_simulator.blacklist import Entry
from connectors.inxmail_simulator.bodies import Body
from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.problems import Problem, method_not_allowed, not_found
from connectors.inxmail_simulator.world import World


def collection(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            return _read_all(call, world)
        case "POST":
            pattern, description = _read(call)
            blacklist = world.account.blacklist
            if blacklist.has(pattern):
                raise Problem(409, "duplicate-resource", detail="there is such an entry")
            id_ = world.account.block(pattern, description, call.now)
            return Answer(
                201, _body(call, blacklist.entries[id_]), {"Location": f"{call.base_url}/blacklist-entries/{id_}"}
            )
    raise method_not_allowed("GET", "POST")


def one(call: Call, world: World, key: str) -> Answer:
    blacklist = world.account.blacklist
    entry = blacklist.entries.get(number("id", key))
    if entry is None:
        raise not_found()
    match call.method:
        case "GET":
            return Answer(body=_body(call, entry))
        case "PUT":
            blacklist.change(entry, *_read(call), call.now)
            world.account.delete_blocked()
            return Answer(body=_body(call, entry))
        case "DELETE":
            blacklist.remove(entry.id)
            world.account.changes += 1
            return Answer(204)
    raise method_not_allowed("GET", "PUT", "DELETE")


def _read(call: Call) -> tuple[str, str | None]:
    body = Body(call.document())
    pattern = body.text("pattern", required=True)
    description = body.text("description")
    body.check()
    return pattern or "", description


def _body(call: Call, entry: Entry) -> dict[str, object]:
    return {
        "id": entry.id,
        "pattern": entry.pattern,
        "description": entry.description,
        "creationDate": timestamp(entry.created_at),
        "modificationDate": timestamp(entry.modified_at),
        "_links": {"self": call.link(f"blacklist-entries/{entry.id}")},
    }


def _read_all(call: Call, world: World) -> Answer:
    entries = world.account.blacklist.entries
    since = call.moment("lastModifiedSince")
    part = (call.text("patternContainsIgnoreCase") or "").lower()
    return page(
        call,
        world.behaviour,
        "blacklist-entries",
        lambda after: (
            entry
            for id_, entry in entries.items()
            if id_ > after and (since is None or entry.modified_at >= since) and part in entry.pattern.lower()
        ),
        lambda entry: entry.id,
        lambda entry: _body(call, entry),
        max(entries, default=0),
    )
