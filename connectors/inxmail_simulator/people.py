"""What people do at Inxmail itself, and what a test changes behind the pipeline's back."""

from typing import Literal

import msgspec

from connectors.inxmail_simulator import registrations
from connectors.inxmail_simulator.blacklist import is_address
from connectors.inxmail_simulator.clock import instant, timestamp
from connectors.inxmail_simulator.state import Account, MailingList, Recipient
from connectors.inxmail_simulator.subscription import Permission, State
from connectors.inxmail_simulator.values import Value, from_json

Deed = Literal[
    "subscribe",
    "confirm-opt-in",
    "time-out-opt-in",
    "bounce-opt-in",
    "unsubscribe-by-link",
    "unsubscribe-by-header",
    "unsubscribe-by-user",
    "request-unsubscription",
    "confirm-opt-out",
    "time-out-opt-out",
]

_LEAVING = {
    "unsubscribe-by-link": "VERIFIED_UNSUBSCRIPTION",
    "unsubscribe-by-header": "LIST_UNSUBSCRIBE_HEADER_UNSUBSCRIPTION",
    "unsubscribe-by-user": "MANUAL_UNSUBSCRIPTION",
}


class Act(msgspec.Struct, forbid_unknown_fields=True):
    """One person, one list, one deed. `occurred_at` and `delay_ms` are for the unsubscribe deeds."""

    action: Deed
    list_id: int
    email: str
    attributes: dict[str, object] = {}
    tracking_permission: Permission | None = None
    occurred_at: str | None = None
    delay_ms: float | None = None


class MembershipChange(msgspec.Struct, forbid_unknown_fields=True):
    list_id: int
    state: State
    tracking_permission: Permission | None = None


class RecipientChange(msgspec.Struct, forbid_unknown_fields=True):
    """Only what is given changes; no event is written."""

    email: str | None = None
    attributes: dict[str, object] = {}
    memberships: list[MembershipChange] = []


def act(account: Account, deed: Act, now: float) -> dict[str, object]:
    """Carry out what a person does.  Raises: ValueError, when list, address or attribute make no sense; Problem, when
    the list refuses."""
    mailing_list = _list(account, deed.list_id)
    if not is_address(deed.email):
        raise ValueError("email is no address")
    if (deed.occurred_at or deed.delay_ms is not None) and deed.action not in _LEAVING:
        raise ValueError(f"occurred_at and delay_ms are for {', '.join(_LEAVING)}")
    email = deed.email
    result: str | bool
    match deed.action:
        case "subscribe":
            values = _values(account, deed.attributes)
            result = registrations.subscribe(account, mailing_list, email, values, deed.tracking_permission, now)
        case "confirm-opt-in":
            result = registrations.confirm_subscription(account, mailing_list, email, now)
        case "time-out-opt-in":
            result = registrations.end_subscription(account, mailing_list, email, "SUBSCRIPTION_TIMED_OUT", now)
        case "bounce-opt-in":
            type_ = "SUBSCRIPTION_VERIFICATION_BOUNCED"
            result = registrations.end_subscription(account, mailing_list, email, type_, now)
        case "request-unsubscription":
            result = registrations.unsubscribe(account, mailing_list, email, now)
        case "confirm-opt-out":
            result = registrations.confirm_unsubscription(account, mailing_list, email, now)
        case "time-out-opt-out":
            result = registrations.end_unsubscription(account, mailing_list, email, "UNSUBSCRIPTION_TIMED_OUT", now)
        case "unsubscribe-by-link" | "unsubscribe-by-header" | "unsubscribe-by-user":
            result = _LEAVING[deed.action]
            registrations.leave(
                account,
                mailing_list,
                email,
                result,
                now,
                occurred_at=instant(deed.occurred_at) if deed.occurred_at else None,
                delay_seconds=None if deed.delay_ms is None else deed.delay_ms / 1000,
            )
    return {"result": result}


def put_recipient(account: Account, change: RecipientChange, known: Recipient | None, now: float) -> Recipient:
    """Create or change a recipient with memberships.  Raises: ValueError."""
    values = _values(account, change.attributes)
    email = change.email or (known.email if known else "")
    if not is_address(email):
        raise ValueError("email is no address")
    holder = account.find(email)
    if holder is not None and holder is not known:
        raise ValueError("the address is taken")
    lists = [(_list(account, wanted.list_id), wanted) for wanted in change.memberships]
    if known is None:
        known = account.add_recipient(email, values, now)
    else:
        account.change_recipient(known, values, now, email)
    for mailing_list, wanted in lists:
        account.enter(mailing_list, known, wanted.state, wanted.tracking_permission, now, log_permission=False)
    return known


def recipient_state(account: Account, recipient: Recipient) -> dict[str, object]:
    """Everything known of a recipient, as the dump shows it."""
    memberships = []
    for id_, mailing_list in account.lists.items():
        membership = mailing_list.members.get(recipient.id)
        if membership is not None:
            memberships.append(
                {
                    "list_id": id_,
                    "state": membership.state,
                    "tracking_permission": membership.permission,
                    "subscribed_at": _moment(membership.subscribed_at),
                    "unsubscribed_at": _moment(membership.unsubscribed_at),
                }
            )
    return {
        "id": recipient.id,
        "email": recipient.email,
        "attributes": {known.name: recipient.value(known.position) for known in account.attributes.values()},
        "created_at": timestamp(recipient.created_at),
        "modified_at": timestamp(recipient.modified_at),
        "memberships": memberships,
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else timestamp(at)


def _list(account: Account, id_: int) -> MailingList:
    if id_ not in account.lists:
        raise ValueError(f"there is no list {id_}")
    return account.lists[id_]


def _values(account: Account, given: dict[str, object]) -> dict[int, Value]:
    values: dict[int, Value] = {}
    for name, value in given.items():
        attribute = account.attribute_names.get(name)
        if attribute is None:
            raise ValueError(f"there is no attribute '{name}'")
        values[attribute.position] = from_json(attribute.type, attribute.max_length, value)
    return values
