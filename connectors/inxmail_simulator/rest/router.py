"""Which function answers which path. Trailing and double slashes have been dropped before."""

from connectors.inxmail_simulator.call import Answer, Call
from connectors.inxmail_simulator.clock import timestamp
from connectors.inxmail_simulator.collection import CURIES
from connectors.inxmail_simulator.problems import Problem, method_not_allowed, not_found, not_simulated, undocumented
from connectors.inxmail_simulator.rest import attributes, blacklist, events, imports, lists, permissions, recipients
from connectors.inxmail_simulator.world import World

_LATER = frozenset(
    {
        "mailings",
        "regular-mailings",
        "split-test-mailings",
        "action-mailings",
        "trigger-mailings",
        "subscription-mailings",
        "links",
        "operations",
        "sendings",
        "bounces",
        "clicks",
        "web-beacon-hits",
        "statistics",
        "test-profiles",
        "text-modules",
        "test-mail-groups",
        "target-groups",
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
        case (first, *_) if first in _LATER:
            raise not_simulated(first)
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
