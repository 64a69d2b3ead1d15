"""The control API: what a test or an operator may do that no Inxmail client could. Every route is in
docs/inxmail-simulator.md."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import msgspec
from pydantic import ValidationError

from connectors.inxmail_simulator.clock import instant, timestamp
from connectors.inxmail_simulator.faults import Plan
from connectors.inxmail_simulator.imports import Script
from connectors.inxmail_simulator.people import Act, RecipientChange, act, put_recipient, recipient_state
from connectors.inxmail_simulator.problems import Problem
from connectors.inxmail_simulator.rest.lists import recount
from connectors.inxmail_simulator.state import Account, Recipient
from connectors.inxmail_simulator.subscription import Permission, Process
from connectors.inxmail_simulator.world import World

CONTROL_PREFIX = "_control"
_MOST = 10_000
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Reply(msgspec.Struct):
    """A JSON body, or `lines` of newline-delimited JSON."""

    body: object = None
    status: int = 200
    lines: Iterable[bytes] | None = None


class Refusal(Exception):
    """A control request that makes no sense; the message says why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ClockChange(msgspec.Struct, forbid_unknown_fields=True):
    set: str | None = None
    advance_seconds: float = 0.0
    freeze: bool | None = None


class EventToAppend(msgspec.Struct, forbid_unknown_fields=True):
    list_id: int
    type: str = ""
    email: str | None = None
    recipient_id: int | None = None
    occurred_at: str | None = None
    delay_ms: float | None = None
    tracking_permission: Permission | None = None


class ListChange(msgspec.Struct, forbid_unknown_fields=True):
    opt_in: Process | None = None
    opt_out: Process | None = None
    type: str | None = None
    detached: bool | None = None
    delete_when_left: bool | None = None


class Step(msgspec.Struct, forbid_unknown_fields=True):
    rows: int = 0
    finish: bool = False


class Reset(msgspec.Struct, forbid_unknown_fields=True):
    keep_options: bool = False


def control(world: World, method: str, segments: tuple[str, ...], query: dict[str, str], body: bytes) -> Reply:
    """Carry out one control request. What is wrong with it is told in `{"error": …}`."""
    try:
        return _routed(world, method, segments, query, body)
    except Problem as problem:
        return Reply(problem.body, problem.http_status)
    except Refusal as refusal:
        return Reply({"error": str(refusal)}, refusal.status)
    except (msgspec.DecodeError, ValueError) as error:
        return Reply({"error": str(error)}, 400)


def _routed(world: World, method: str, segments: tuple[str, ...], query: dict[str, str], body: bytes) -> Reply:
    account = world.account
    match (method, *segments):
        case ("GET",) | ("GET", "state"):
            return Reply(_summary(world))
        case ("GET", "options"):
            return Reply(world.behaviour.model_dump(mode="json"))
        case ("PATCH", "options"):
            try:
                account.behaviour = world.behaviour.changed(_decoded(body, dict[str, Any]))
            except ValidationError as error:
                faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
                raise Refusal("; ".join(faults)) from None
            return Reply(world.behaviour.model_dump(mode="json"))
        case ("GET", "clock"):
            return Reply(_clock(world))
        case ("POST", "clock"):
            _set_clock(world, _decoded(body, ClockChange))
            return Reply(_clock(world))
        case ("POST", "events", log):
            return _append_event(world, log, _decoded(body, EventToAppend))
        case ("POST", "people"):
            return Reply(act(account, _decoded(body, Act), world.clock.now()))
        case (_, "recipients", *rest):
            return _recipients(world, method, rest, query, body)
        case ("GET", "dump"):
            return Reply(lines=_dump(account))
        case ("PATCH", "lists", key):
            changed = _found(account.lists.get(int(key)), "list")
            for name, value in msgspec.structs.asdict(_decoded(body, ListChange)).items():
                if value is not None:
                    setattr(changed, name, value)
            return Reply(_list(changed.id, account))
        case ("POST", "lists", key, "recount"):
            recount(_found(account.lists.get(int(key)), "list"), world.clock.now())
            return Reply(_list(int(key), account))
        case (_, "faults", *rest):
            return _faults(world, method, rest, body)
        case (_, "imports", *rest):
            return _imports(world, method, rest, body)
        case ("GET", "requests"):
            return _requests(world, query)
        case ("GET", "counters"):
            return Reply(_counters(world))
        case ("POST", "reset"):
            world.reset(keep_options=_decoded(body or b"{}", Reset).keep_options)
            return Reply(_summary(world))
    raise Refusal("there is no such control route; see docs/inxmail-simulator.md", 404)


def _decoded(body: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(body, type=kind)


def _one_or_several(body: bytes, kind: type[T]) -> list[T]:
    if body.lstrip()[:1] == b"[":
        return msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type]
    return [_decoded(body, kind)]


def _found(thing: T | None, what: str) -> T:
    if thing is None:
        raise Refusal(f"there is no such {what}", 404)
    return thing


def _summary(world: World) -> dict[str, object]:
    account = world.account
    imports: dict[str, int] = {}
    for known in world.imports.imports.values():
        imports[known.state] = imports.get(known.state, 0) + 1
    return {
        "base_path": world.options.base_path,
        "clock": timestamp(world.clock.now()),
        "recipients": len(account.recipients),
        "last_recipient_id": account.recipient_ids.last,
        "attributes": [
            {"id": known.id, "name": known.name, "type": known.type, "max_length": known.max_length}
            for known in account.attributes.values()
        ],
        "lists": [_list(id_, account) for id_ in sorted(account.lists)],
        "events": {
            name: {"visible": len(log), "buffered": log.buffered, "last_id": log.last_id}
            for name, log in zip(
                ("subscriptions", "unsubscriptions", "tracking-permissions"), account.logs(), strict=True
            )
        },
        "imports": imports,
        "blacklist": [entry.pattern for entry in account.blacklist.entries.values()],
        "changes": account.changes,
    }


def _list(id_: int, account: Account) -> dict[str, object]:
    shown = account.lists[id_]
    return {
        "id": shown.id,
        "name": shown.name,
        "type": shown.type,
        "opt_in": shown.opt_in,
        "opt_out": shown.opt_out,
        "detached": shown.detached,
        "delete_when_left": shown.delete_when_left,
        "subscribed": len(shown.subscribed),
        "unsubscribed": len(shown.unsubscribed),
        "pending_subscriptions": len(shown.subscribing),
        "pending_unsubscriptions": len(shown.unsubscribing),
    }


def _clock(world: World) -> dict[str, object]:
    now = world.clock.now()
    return {"now": timestamp(now), "epoch_seconds": now, "frozen": world.clock.frozen}


def _set_clock(world: World, change: ClockChange) -> None:
    if change.freeze is True:
        world.clock.freeze()
    if change.set is not None:
        world.clock.set(instant(change.set))
    if change.advance_seconds:
        world.clock.advance(change.advance_seconds)
    if change.freeze is False:
        world.clock.resume()
    world.settle(0)


def _append_event(world: World, name: str, wanted: EventToAppend) -> Reply:
    """Only the log changes; people's actions, which change the state too, are `people`."""
    account = world.account
    logs = dict(zip(("subscriptions", "unsubscriptions", "tracking-permissions"), account.logs(), strict=True))
    log = _found(logs.get(name), "log")
    mailing_list = _found(account.lists.get(wanted.list_id), "list")
    if name == "tracking-permissions" and wanted.tracking_permission is None:
        raise Refusal("tracking_permission is missing")
    if name != "tracking-permissions" and not wanted.type:
        raise Refusal("type is missing")
    who: Recipient | str = wanted.email or ""
    if wanted.recipient_id is not None:
        who = _found(account.recipients.get(wanted.recipient_id), "recipient")
    elif wanted.email and (known := account.find(wanted.email)) is not None:
        who = known
    account.log(
        log,
        wanted.type,
        mailing_list,
        who,
        world.clock.now(),
        occurred_at=instant(wanted.occurred_at) if wanted.occurred_at else None,
        delay_seconds=None if wanted.delay_ms is None else wanted.delay_ms / 1000,
        permission=wanted.tracking_permission if name == "tracking-permissions" else None,
    )
    log.settle(world.clock.now())
    return Reply({"last_visible_id": log.last_id, "buffered": log.buffered}, 201)


def _recipients(world: World, method: str, rest: list[str], query: dict[str, str], body: bytes) -> Reply:
    account, now = world.account, world.clock.now()
    match (method, *rest):
        case ("GET",):
            after, most = int(query.get("after_id", 0)), min(int(query.get("limit", 1000)), _MOST)
            ids = account.recipient_ids.after(after)
            if "list_id" in query:
                members = _found(account.lists.get(int(query["list_id"])), "list").members
                ids = (id_ for id_ in ids if id_ in members)
            found = list(islice(ids, most + 1))
            shown = [recipient_state(account, account.recipients[id_]) for id_ in found[:most]]
            return Reply({"recipients": shown, "next_after_id": found[most - 1] if len(found) > most else None})
        case ("POST",):
            made = [put_recipient(account, change, None, now) for change in _one_or_several(body, RecipientChange)]
            return Reply({"ids": [recipient.id for recipient in made]}, 201)
        case (_, key):
            known = _found(account.find(key) if "@" in key else account.recipients.get(int(key)), "recipient")
            if method == "PATCH":
                put_recipient(account, _decoded(body, RecipientChange), known, now)
            elif method == "DELETE":
                account.delete_recipient(known)
                return Reply({"deleted": known.id})
            elif method != "GET":
                raise Refusal("method not allowed", 405)
            return Reply(recipient_state(account, known))
    raise Refusal("there is no such control route; see docs/inxmail-simulator.md", 404)


def _dump(account: Account) -> Iterator[bytes]:
    """Every recipient, a line each, a thousand lines at a time; what changes meanwhile may be in either state."""
    after = 0
    while ids := list(islice(account.recipient_ids.after(after), 1000)):
        after = ids[-1]
        yield b"".join(_encode(recipient_state(account, account.recipients[id_])) + b"\n" for id_ in ids)


def _faults(world: World, method: str, rest: list[str], body: bytes) -> Reply:
    match (method, *rest):
        case ("GET",):
            return Reply({"faults": world.faults.plans})
        case ("POST",):
            made = [world.faults.add(plan) for plan in _one_or_several(body, Plan)]
            return Reply({"faults": made}, 201)
        case ("DELETE",):
            world.faults.plans.clear()
            return Reply({"faults": []})
        case ("DELETE", key):
            if not world.faults.remove(int(key)):
                raise Refusal("there is no such fault", 404)
            return Reply({"faults": world.faults.plans})
    raise Refusal("there is no such control route; see docs/inxmail-simulator.md", 404)


def _imports(world: World, method: str, rest: list[str], body: bytes) -> Reply:
    desk = world.imports
    match (method, *rest):
        case ("GET", "scripts"):
            return Reply({"scripts": desk.scripts})
        case ("POST", "scripts"):
            desk.scripts.append(_decoded(body, Script))
            return Reply({"scripts": desk.scripts}, 201)
        case ("DELETE", "scripts"):
            desk.scripts.clear()
            return Reply({"scripts": []})
        case ("POST", key, "step"):
            step = _decoded(body, Step)
            _found(desk.imports.get(int(key)), "import")
            moved = desk.step(world.account, int(key), 10**12 if step.finish else step.rows, world.clock.now())
            return Reply({"id": moved.id, "state": moved.state, "rows": moved.row})
    raise Refusal("there is no such control route; see docs/inxmail-simulator.md", 404)


def _requests(world: World, query: dict[str, str]) -> Reply:
    after, most = int(query.get("after_id", 0)), min(int(query.get("limit", 1000)), _MOST)
    method, route, only_writes = query.get("method"), query.get("route"), query.get("writes_only") in ("", "true")
    entries = (
        entry
        for entry in world.log.since(after)
        if (method is None or entry.method == method)
        and (route is None or entry.route == route)
        and (entry.write or not only_writes)
    )
    return Reply({"requests": list(islice(entries, most)), "last_id": world.log.last_id})


def _counters(world: World) -> dict[str, object]:
    log = world.log
    return {
        "requests": log.requests,
        "writes": log.writes,
        "changes": world.account.changes,
        "last_id": log.last_id,
        "by_route": dict(log.by_route),
        "by_status": dict(log.by_status),
        "by_credential": dict(log.by_credential),
    }
