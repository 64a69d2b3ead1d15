"""`/tracking-permissions`: the current permission of every (list, recipient)."""

from collections.abc import Iterable, Iterator

from connectors.inxmail_simulator.call import Answer, Call
from connectors.inxmail_simulator.collection import page
from connectors.inxmail_simulator.problems import method_not_allowed
from connectors.inxmail_simulator.state import Account, Membership
from connectors.inxmail_simulator.world import World


def collection(call: Call, world: World) -> Answer:
    if call.method != "GET":
        raise method_not_allowed("GET")
    account = world.account
    lists, recipients = call.numbers("listIds"), call.numbers("recipientIds")
    return page(
        call,
        account.behaviour,
        "tracking-permissions",
        lambda after: _matches(account, lists, recipients, after),
        lambda membership: membership.id,
        lambda membership: {
            "recipientId": membership.recipient_id,
            "listId": membership.list_id,
            "trackingPermission": membership.permission,
        },
        account.membership_ids.last,
    )


def _matches(
    account: Account, lists: tuple[int, ...] | None, recipients: tuple[int, ...] | None, after: int
) -> Iterator[Membership]:
    if recipients is not None:
        found = (known.members.get(id_) for known in account.lists.values() for id_ in set(recipients))
        ids: Iterable[int] = sorted(membership.id for membership in found if membership and membership.id > after)
    elif lists is not None and len(lists) == 1:
        only = account.lists.get(lists[0])
        ids = only.membership_ids.after(after) if only else ()
    else:
        ids = account.membership_ids.after(after)
    memberships = (account.memberships[id_] for id_ in ids)
    return (membership for membership in memberships if lists is None or membership.list_id in lists)
