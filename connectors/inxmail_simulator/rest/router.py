"""Which function answers which path. Trailing and double slashes have been dropped before."""

from connectors.inxmail_simulator.call import Answer, Call
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import CURIES
from connectors.inxmail_simulator.problems import Problem, method_not_allowed, not_found, not_simulated, undocumented
from connectors.inxmail_simulator.rest import (
    attributes,
    blacklist,
    events,
    imports,
    lists,
    mailings,
    permissions,
    reactions,
    recipients,
    sendings,
    target_groups,
)
from connectors.inxmail_simulator.world import World

_LATER = frozenset(
    {
        "split-test-mailings",
        "action-mailings",
        "trigger-mailings",
        "subscription-mailings",
        "links",
        "operations",
        "test-profiles",
        "text-modules",
        "test-mail-groups",
    }
)


def answer(call: Call, world: World) -> Answer:
    """Carry out one request.

    Raises: Problem, for everything that is not a success.
    """
    if not _acceptable(call.headers.get("Accept")):
        raise Problem(406)
    match call.segments:
        case ():
            return _root(call)
        case ("serverinfo",):
            return _server_info(call)
        case ("recipients",):
            return recipients.collection(call, world)
        case ("recipients", key):
            return recipients.one(call, world, key)
        case ("recipients", key, "lists"):
            return recipients.lists_of(call, world, key)
        case ("attributes",):
            return attributes.collection(call, world)
        case ("attributes", key):
            return attributes.one(call, world, key)
        case ("lists",):
            return lists.collection(call, world)
        case ("lists", key):
            return lists.one(call, world, key)
        case ("lists", key, "count"):
            return lists.size(call, world, key)
        case ("lists", key, "settings"):
            return lists.settings(call, world, key)
        case ("lists", key, "settings", name):
            return lists.setting(call, world, key, name)
        case ("lists", key, "memberships"):
            return lists.memberships(call, world, key, None)
        case ("lists", key, "memberships", recipient):
            return lists.memberships(call, world, key, recipient)
        case ("events", "subscriptions"):
            return events.subscriptions(call, world)
        case ("events", "unsubscriptions"):
            return events.unsubscriptions(call, world)
        case ("events", "tracking-permissions"):
            return events.tracking_permissions(call, world)
        case ("tracking-permissions",):
            return permissions.collection(call, world)
        case ("imports", "recipients"):
            return imports.collection(call, world)
        case ("imports", "recipients", key):
            return imports.one(call, world, key)
        case ("imports", "recipients", key, "files"):
            return imports.files(call, world, key)
        case ("imports", "recipients", key, "files", file, "errors"):
            return imports.errors(call, world, key, file)
        case ("imports", "recipients", _, "files", _, *_):
            raise undocumented("Single import files and their source preview")
        case ("imports", *_):
            raise undocumented("Advanced imports and import templates")
        case ("blacklist-entries",):
            return blacklist.collection(call, world)
        case ("blacklist-entries", "preview"):
            raise undocumented("The preview of blacklist entries")
        case ("blacklist-entries", key):
            return blacklist.one(call, world, key)
        case ("target-groups",):
            return target_groups.collection(call, world)
        case ("target-groups", key):
            return target_groups.one(call, world, key)
        case (first, *_) if first in _LATER:
            raise not_simulated(first)
        case _:
            return _mailings(call, world)


def _mailings(call: Call, world: World) -> Answer:
    """Paths about mailings and what came of them."""
    match call.segments:
        case ("mailings",):
            return mailings.collection(call, world)
        case ("mailings", key):
            return mailings.one(call, world, key)
        case ("regular-mailings",):
            return mailings.collection(call, world, regular=True)
        case ("regular-mailings", key):
            return mailings.one(call, world, key, regular=True)
        case ("mailings" | "regular-mailings", _, "links" | "renderedContent" | "approvals" | "schedule" as part):
            raise not_simulated(part)
        case ("statistics", ("responses" | "sendings") as kind):
            return mailings.statistics(call, world, kind)
        case ("sendings",):
            return sendings.collection(call, world)
        case ("sendings", _):
            raise undocumented("One sending alone")
        case ("sendings", key, "protocol"):
            return sendings.protocol(call, world, key)
        case ("bounces",):
            return reactions.bounces(call, world)
        case ("clicks",):
            return reactions.clicks(call, world)
        case ("web-beacon-hits",):
            return reactions.web_beacon_hits(call, world)
    raise not_found()


def _acceptable(header: str | None) -> bool:
    return header is None or any(kind in header for kind in ("json", "*/*", "application/*"))


def _root(call: Call) -> Answer:
    """Only links, and exactly those that were seen on a real server."""
    if call.method != "GET":
        raise method_not_allowed("GET")
    targets = {
        "attributes": "attributes",
        "recipients": "recipients",
        "lists": "lists",
        "recipient-imports": "imports/recipients",
        "subscription-events": "events/subscriptions",
        "unsubscription-events": "events/unsubscriptions",
        "bounces": "bounces",
    }
    links: dict[str, object] = {f"inx:{relation}": call.link(path) for relation, path in targets.items()}
    return Answer(body={"_links": links | {"curies": CURIES}})


def _server_info(call: Call) -> Answer:
    if call.method != "GET":
        raise method_not_allowed("GET")
    return Answer(
        body={
            "version": "4.8.73",
            "product": "Verteiler Inxmail simulator",
            "currentDate": timestamp(call.now),
            "_links": {"self": {"href": call.href()}},
        }
    )
