"""People coming and going: the decisions of `subscription` carried out on an account, with their events."""

from collections.abc import Mapping

from connectors.inxmail_simulator.problems import Problem
from connectors.inxmail_simulator.state import Account, MailingList, PendingSubscription, Recipient
from connectors.inxmail_simulator.subscription import Permission, State, on_subscription, on_unsubscription
from connectors.inxmail_simulator.values import Value


def subscribe(
    account: Account,
    mailing_list: MailingList,
    email: str,
    values: Mapping[int, Value],
    permission: Permission | None,
    now: float,
) -> str:
    """A form or the REST API asks for a subscription. Gives the result token.

    Raises: Problem, when the address is blacklisted or the list takes no subscriptions.
    """
    if mailing_list.type in ("DYNAMIC", "SYSTEM"):
        raise Problem(400, "subscription-error", detail=f"lists of type {mailing_list.type} take no subscriptions")
    if account.blacklist.blocks(email):
        raise Problem(400, "blacklisted")
    recipient = account.find(email)
    state = account.state_of(mailing_list, recipient)
    step = on_subscription(state, mailing_list.opt_in)
    if step.pending:
        mailing_list.subscribing[email.lower()] = PendingSubscription(email, dict(values), permission, now)
        account.changes += 1
    elif state is not State.SUBSCRIBED:
        recipient = _join(account, mailing_list, email, values, permission, now)
    elif recipient and account.behaviour.duplicate_subscription_applies_attributes:
        account.change_recipient(recipient, values, now)
        account.enter(mailing_list, recipient, state, permission, now)
    account.log(account.subscriptions, step.result, mailing_list, recipient or email, now)
    return step.result


def unsubscribe(account: Account, mailing_list: MailingList, email: str, now: float) -> str:
    """A form or the REST API asks to leave. Gives the result token.

    Raises: Problem, when the address is not on the list, unless the option says to answer that with a result.
    """
    recipient = account.find(email)
    pending = email.lower() in mailing_list.subscribing
    step = on_unsubscription(
        account.state_of(mailing_list, recipient), mailing_list.opt_out, subscription_pending=pending
    )
    if step is None:
        if account.behaviour.unsubscribe_non_member == "refuse":
            raise Problem(400, "unsubscription-error", detail="the address is not on the list")
        result = "NOT_IN_LIST_UNSUBSCRIPTION" if recipient else "NOT_IN_SYSTEM_UNSUBSCRIPTION"
    else:
        result = step.result
        if mailing_list.subscribing.pop(email.lower(), None):
            account.changes += 1
        if step.pending and recipient:
            mailing_list.unsubscribing[recipient.id] = now
            account.changes += 1
        elif step.state is State.UNSUBSCRIBED and recipient:
            account.enter(mailing_list, recipient, State.UNSUBSCRIBED, None, now)
    account.log(account.unsubscriptions, result, mailing_list, recipient or email, now)
    if recipient and step and step.state is State.UNSUBSCRIBED:
        _delete_when_left(account, mailing_list, recipient)
    return result


def leave(
    account: Account,
    mailing_list: MailingList,
    email: str,
    type_: str,
    now: float,
    *,
    occurred_at: float | None = None,
    delay_seconds: float | None = None,
) -> None:
    """A person leaves at once, whatever the list's process: by link, by list header, by a user's hand."""
    recipient = account.find(email)
    if account.state_of(mailing_list, recipient) is State.SUBSCRIBED and recipient:
        account.enter(mailing_list, recipient, State.UNSUBSCRIBED, None, now)
    account.log(
        account.unsubscriptions,
        type_,
        mailing_list,
        recipient or email,
        now,
        occurred_at=occurred_at,
        delay_seconds=delay_seconds,
    )
    if recipient:
        _delete_when_left(account, mailing_list, recipient)


def confirm_subscription(account: Account, mailing_list: MailingList, email: str, now: float) -> bool:
    """The person clicks the confirmation. False when nothing is pending (the log then says so too)."""
    pending = mailing_list.subscribing.pop(email.lower(), None)
    if pending is None or account.blacklist.blocks(email):
        account.log(account.subscriptions, "SUBSCRIPTION_ID_NOT_VALID", mailing_list, account.find(email) or email, now)
        return False
    recipient = _join(account, mailing_list, pending.email, pending.values, pending.permission, now)
    account.log(account.subscriptions, "PENDING_SUBSCRIPTION_DONE", mailing_list, recipient, now)
    return True


def end_subscription(account: Account, mailing_list: MailingList, email: str, type_: str, now: float) -> bool:
    """A pending subscription comes to nothing: timed out, confirmation bounced. False when none was pending."""
    pending = mailing_list.subscribing.pop(email.lower(), None)
    if pending is None:
        return False
    account.changes += 1
    account.log(account.subscriptions, type_, mailing_list, account.find(email) or email, now)
    return True


def confirm_unsubscription(account: Account, mailing_list: MailingList, email: str, now: float) -> bool:
    """The person confirms leaving. False when nothing is pending."""
    recipient = account.find(email)
    if recipient is None or mailing_list.unsubscribing.pop(recipient.id, None) is None:
        account.log(account.unsubscriptions, "UNSUBSCRIPTION_ID_NOT_VALID", mailing_list, recipient or email, now)
        return False
    account.enter(mailing_list, recipient, State.UNSUBSCRIBED, None, now)
    account.log(account.unsubscriptions, "PENDING_UNSUBSCRIPTION_DONE", mailing_list, recipient, now)
    _delete_when_left(account, mailing_list, recipient)
    return True


def end_unsubscription(account: Account, mailing_list: MailingList, email: str, type_: str, now: float) -> bool:
    """A pending unsubscription lapses: the person stays subscribed. False when none was pending."""
    recipient = account.find(email)
    if recipient is None or mailing_list.unsubscribing.pop(recipient.id, None) is None:
        return False
    account.changes += 1
    account.log(account.unsubscriptions, type_, mailing_list, recipient, now)
    return True


def lapse(account: Account, now: float) -> None:
    """Let everything time out that has waited longer than the option allows."""
    oldest = now - account.behaviour.opt_in_timeout_hours * 3600
    for mailing_list in account.lists.values():
        while mailing_list.subscribing:  # in the order of their start
            email, pending = next(iter(mailing_list.subscribing.items()))
            if pending.started_at > oldest:
                break
            end_subscription(account, mailing_list, email, "SUBSCRIPTION_TIMED_OUT", now)
        while mailing_list.unsubscribing:
            id_, started_at = next(iter(mailing_list.unsubscribing.items()))
            if started_at > oldest:
                break
            end_unsubscription(account, mailing_list, account.recipients[id_].email, "UNSUBSCRIPTION_TIMED_OUT", now)


def _join(
    account: Account,
    mailing_list: MailingList,
    email: str,
    values: Mapping[int, Value],
    permission: Permission | None,
    now: float,
) -> Recipient:
    recipient = account.find(email)
    if recipient is None:
        recipient = account.add_recipient(email, values, now)
    else:
        account.change_recipient(recipient, values, now)
    account.enter(mailing_list, recipient, State.SUBSCRIBED, permission, now)
    return recipient


def _delete_when_left(account: Account, mailing_list: MailingList, recipient: Recipient) -> None:
    if not mailing_list.delete_when_left or recipient.id not in account.recipients:
        return
    states = (known.members.get(recipient.id) for known in account.lists.values())
    if not any(membership is not None and membership.state is State.SUBSCRIBED for membership in states):
        account.delete_recipient(recipient)
