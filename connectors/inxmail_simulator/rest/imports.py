"""`/imports/recipients`: starting an import, watching it, reading what went wrong."""

from typing import TypeVar, get_args

from connectors.inxmail_simulator.call import Answer, Call, number
from connectors.inxmail_simulator.collection import CURIES, page
from connectors.inxmail_simulator.imports import FILE_STATES, Failure, Import, Order, unpacked
from connectors.inxmail_simulator.options import ConflictMode, PermissionConflictMode
from connectors.inxmail_simulator.problems import Problem, invalid_parameter, method_not_allowed, not_found
from connectors.inxmail_simulator.world import World

M = TypeVar("M", bound=str)


def collection(call: Call, world: World) -> Answer:
    match call.method:
        case "GET":
            imports = world.imports.imports
            return page(
                call,
                world.behaviour,
                "recipient-imports",
                lambda after: (imports[id_] for id_ in range(after + 1, len(imports) + 1)),
                lambda known: known.id,
                lambda known: _body(call, known),
                len(imports),
            )
        case "POST":
            return _start(call, world)
    raise method_not_allowed("GET", "POST")


def one(call: Call, world: World, key: str) -> Answer:
    return Answer(body=_body(call, _named(call, world, key)))


def files(call: Call, world: World, key: str) -> Answer:
    shown = _named(call, world, key)
    path = f"imports/recipients/{shown.id}/files"
    return page(
        call,
        world.behaviour,
        "files",
        lambda after: [shown] if shown.file_id > after else [],
        lambda known: known.file_id,
        lambda known: {
            "id": known.file_id,
            "name": known.file_name,
            "state": FILE_STATES[known.state],
            "successCount": known.success_count,
            "failCount": known.fail_count,
            "_links": {
                "self": call.link(f"{path}/{known.file_id}"),
                "inx:errors": call.link(f"{path}/{known.file_id}/errors"),
            },
        },
        shown.file_id,
    )


def errors(call: Call, world: World, key: str, file_key: str) -> Answer:
    shown = _named(call, world, key)
    if number("fileId", file_key) != shown.file_id:
        raise not_found()

    def show(failure: Failure) -> dict[str, object]:
        return {"id": failure.id, "error": failure.error, "value": failure.value}

    failures = shown.errors
    return page(call, world.behaviour, "errors", lambda after: failures[after:], lambda f: f.id, show, len(failures))


def _start(call: Call, world: World) -> Answer:
    if call.parts is None:
        raise Problem(415)
    behaviour = world.behaviour
    order = Order(
        call.number("listId"),
        call.flag("resubscribe"),
        call.flag("truncate"),
        _mode(call, "importConflictMode", get_args(ConflictMode), behaviour.import_conflict_mode),
        _mode(
            call,
            "trackingPermissionConflictMode",
            get_args(PermissionConflictMode),
            behaviour.import_permission_conflict_mode,
        ),
    )
    part = call.parts.get("file")
    if part is None:
        raise Problem(400, "missing-request-part", detail="file")
    if order.list_id is not None:
        mailing_list = world.account.lists.get(order.list_id)
        if mailing_list is None:
            raise not_found()
        if mailing_list.type in ("DYNAMIC", "SYSTEM"):
            raise Problem(400, "unresolvable-request", detail=f"lists of type {mailing_list.type} take no imports")
        if behaviour.import_busy_list == "lock" and world.imports.busy(order.list_id):
            raise Problem(400, "locked-resource", detail="another import works on this list")
    accepted = world.imports.accept(part.file_name, unpacked(part.data, compressed=part.gzip), order, call.now)
    return Answer(201, _body(call, accepted), {"Location": f"{call.base_url}/imports/recipients/{accepted.id}"})


def _mode(call: Call, name: str, allowed: tuple[M, ...], default: M) -> M:
    value = call.text(name)
    if value is None:
        return default
    if value not in allowed:
        raise invalid_parameter(name, f"must be one of {', '.join(allowed)}")
    return next(mode for mode in allowed if mode == value)


def _body(call: Call, shown: Import) -> dict[str, object]:
    path = f"imports/recipients/{shown.id}"
    return {
        "id": shown.id,
        "successCount": shown.success_count,
        "failCount": shown.fail_count,
        "state": shown.state,
        "_links": {"self": call.link(path), "inx:files": call.link(f"{path}/files"), "curies": CURIES},
    }


def _named(call: Call, world: World, key: str) -> Import:
    if call.method != "GET":
        raise method_not_allowed("GET")
    found = world.imports.imports.get(number("importId", key))
    if found is None:
        raise not_found()
    return found
