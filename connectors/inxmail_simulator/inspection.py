"""What the control API shows of a running simulator: its state, its recipients, its clock, what was asked of it."""

from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec

from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.people import recipient_state
from connectors.inxmail_simulator.state import Account
from connectors.inxmail_simulator.world import World

MOST = 10_000
"""Entries or recipients in one answer."""
_encode = msgspec.json.Encoder().encode


def summary(world: World) -> dict[str, object]:
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
        "lists": [list_shown(id_, account) for id_ in sorted(account.lists)],
        "events": {
            name: {"visible": len(log), "buffered": log.buffered, "last_id": log.last_id}
            for name, log in account.logs().items()
        },
        "mailings": len(account.mailings.mailings),
        "target_groups": len(account.target_groups.groups),
        "imports": imports,
        "blacklist": [entry.pattern for entry in account.blacklist.entries.values()],
        "changes": account.changes,
    }


def list_shown(id_: int, account: Account) -> dict[str, object]:
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


def clock_shown(world: World) -> dict[str, object]:
    now = world.clock.now()
    return {"now": timestamp(now), "epoch_seconds": now, "frozen": world.clock.frozen}


def dump(account: Account) -> Iterator[bytes]:
    """Every recipient, a line each, a thousand lines at a time; what changes meanwhile may be in either state."""
    after = 0
    while ids := list(islice(account.recipient_ids.after(after), 1000)):
        after = ids[-1]
        yield b"".join(_encode(recipient_state(account, account.recipients[id_])) + b"\n" for id_ in ids)


def requests(world: World, query: Mapping[str, str]) -> dict[str, object]:
    after, most = int(query.get("after_id", 0)), min(int(query.get("limit", 1000)), MOST)
    method, route, only_writes = query.get("method"), query.get("route"), query.get("writes_only") in ("", "true")
    entries = (
        entry
        for entry in world.log.since(after)
        if (method is None or entry.method == method)
        and (route is None or entry.route == route)
        and (entry.write or not only_writes)
    )
    return {"requests": list(islice(entries, most)), "last_id": world.log.last_id}


def counters(world: World) -> dict[str, object]:
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
