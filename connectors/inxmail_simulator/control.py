"""The control API: what a test or an operator may do that no Inxmail client could. Every route is in
docs/inxmail-simulator.md."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar, get_args

import msgspec
from pydantic import ValidationError

from connectors.inxmail_simulator.clock import instant
from connectors.inxmail_simulator.faults import Plan, Scenario
from connectors.inxmail_simulator.imports import Script
from connectors.inxmail_simulator.inspection import MOST, clock_shown, counters, dump, list_shown, requests, summary
from connectors.inxmail_simulator.people import Act, RecipientChange, act, put_recipient, recipient_state
from connectors.inxmail_simulator.problems import Problem
from connectors.inxmail_simulator.reactions import (
    MailingToMake,
    ReactionKind,
    ReactionsToMake,
    SendingToMake,
    make_mailing,
    make_sending,
    react,
)
from connectors.inxmail_simulator.rest.lists import recount
from connectors.inxmail_simulator.state import Recipient
from connectors.inxmail_simulator.subscription import Permission, Process
from connectors.inxmail_simulator.world import World

CONTROL_PREFIX = "_control"
_MEMBERSHIP_LOGS = frozenset({"subscriptions", "unsubscriptions", "tracking-permissions"})
T = TypeVar("T")


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


class Release(msgspec.Struct, forbid_unknown_fields=True):
    """Whose events; everybody's when no address is given."""

    emails: frozenset[str] | None = None


class ListChange(msgspec.Struct, forbid_unknown_fields=True):
    opt_in: Process | None = None
    opt_out: Process | None = None
    type: str | None = None
    detached: bool | None = None
    delete_when_left: bool | None = None


class Step(msgspec.Struct, forbid_unknown_fields=True):
    rows: int = 0
    finish: bool = False


class SecretChange(msgspec.Struct, forbid_unknown_fields=True):
    secret: str


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
            return Reply(summary(world))
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
            return Reply(clock_shown(world))
        case ("POST", "clock"):
            _set_clock(world, _decoded(body, ClockChange))
            return Reply(clock_shown(world))
        case ("POST", "events", log):
            return _append_event(world, log, _decoded(body, EventToAppend))
        case ("POST", "events", log, "release"):
            return _release(world, log, _decoded(body, Release))
        case ("POST", "people"):
            return Reply(act(account, _decoded(body, Act), world.clock.now()))
        case (_, "recipients", *rest):
            return _recipients(world, method, rest, query, body)
        case ("GET", "dump"):
            return Reply(lines=dump(account))
        case ("PATCH", "lists", key):
            changed = _found(account.lists.get(int(key)), "list")
            for name, value in msgspec.structs.asdict(_decoded(body, ListChange)).items():
                if value is not None:
                    setattr(changed, name, value)
            return Reply(list_shown(changed.id, account))
        case ("POST", "lists", key, "recount"):
            recount(_found(account.lists.get(int(key)), "list"), world.clock.now())
            return Reply(list_shown(int(key), account))
        case ("POST", "mailings"):
            return Reply({"id": make_mailing(account, _decoded(body, MailingToMake), world.clock.now()).id}, 201)
        case ("POST", "sendings"):
            made = make_sending(account, _decoded(body, SendingToMake), world.clock.now())
            return Reply({"id": made.id, "recipients": len(made.entries), "delivered": made.delivered}, 201)
        case ("POST", "reactions", kind):
            return _react(world, kind, _decoded(body, ReactionsToMake))
        case (_, "credentials", *rest):
            return _credentials(world, method, rest, body)
        case (_, "faults", *rest):
            return _faults(world, method, rest, body)
        case (_, "imports", *rest):
            return _imports(world, method, rest, body)
        case ("GET", "requests"):
            return Reply(requests(world, query))
        case ("GET", "counters"):
            return Reply(counters(world))
        case ("POST", "reset"):
            world.reset(keep_options=_decoded(body or b"{}", Reset).keep_options)
            return Reply(summary(world))
    raise Refusal("there is no such control route; see docs/inxmail-simulator.md", 404)


def _decoded(body: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(body, type=kind)


def _one_or_several(body: bytes, kind: type[T]) -> list[T]:
    if body.lstrip()[:1] == b"[":
        return msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type] # a type chosen at run time
    return [_decoded(body, kind)]


def _found(thing: T | None, what: str) -> T:
    if thing is None:
        raise Refusal(f"there is no such {what}", 404)
    return thing


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


def _release(world: World, name: str, wanted: Release) -> Reply:
    """Make readable now what waits in the write buffer of a membership log."""
    log = _found(world.account.logs().get(name) if name in _MEMBERSHIP_LOGS else None, "log")
    emails = wanted.emails
    released = log.release(lambda event: emails is None or event.email in emails)
    return Reply({"released": released, "last_visible_id": log.last_id, "buffered": log.buffered})


def _append_event(world: World, name: str, wanted: EventToAppend) -> Reply:
    """Only the log changes; people's actions, which change the state too, are `people`."""
    account = world.account
    log = _found(account.logs().get(name) if name in _MEMBERSHIP_LOGS else None, "log")
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


def _react(world: World, kind: str, wanted: ReactionsToMake) -> Reply:
    known: ReactionKind = _found(next((known for known in get_args(ReactionKind) if known == kind), None), "reaction")
    made = react(world.account, known, wanted, world.clock.now())
    world.settle(0)
    log = world.account.logs()[kind]
    return Reply({"reactions": made, "last_visible_id": log.last_id, "buffered": log.buffered}, 201)


def _credentials(world: World, method: str, rest: list[str], body: bytes) -> Reply:
    """No secret is ever told; a new one takes the place of the old, as when somebody regenerates it at Inxmail."""
    match (method, *rest):
        case ("GET",):
            pass
        case ("PUT", user):
            secret = _decoded(body, SecretChange).secret
            if not secret:
                raise Refusal("the secret is empty")
            world.credentials.give(user, secret)
        case ("DELETE", user):
            if not world.credentials.revoke(user):
                raise Refusal("there is no such credential", 404)
        case _:
            raise Refusal("there is no such control route; see docs/inxmail-simulator.md", 404)
    return Reply({"users": world.credentials.users})


def _recipients(world: World, method: str, rest: list[str], query: dict[str, str], body: bytes) -> Reply:
    account, now = world.account, world.clock.now()
    match (method, *rest):
        case ("GET",):
            after, most = int(query.get("after_id", 0)), min(int(query.get("limit", 1000)), MOST)
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


def _faults(world: World, method: str, rest: list[str], body: bytes) -> Reply:
    match (method, *rest):
        case ("GET",):
            return Reply({"faults": world.faults.plans})
        case ("POST",):
            made = [world.faults.add(plan) for plan in _one_or_several(body, Plan)]
            return Reply({"faults": made}, 201)
        case ("PUT",):
            world.faults.replace(_decoded(body, Scenario))
            return Reply({"faults": world.faults.plans})
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
