"""What happens to mailings: made, sent to the members of a list, opened, clicked, returned; thousands at a time."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from connectors.inxmail_simulator.clock import instant
from connectors.inxmail_simulator.mailings import (
    ARRIVED,
    BOUNCED,
    BounceCategory,
    Link,
    LinkType,
    Mailing,
    MailingType,
    ProtocolEntry,
    ProtocolState,
    Reaction,
    Sending,
)
from connectors.inxmail_simulator.state import Account
from connectors.inxmail_simulator.subscription import Permission

ReactionKind = Literal["web-beacon-hits", "clicks", "bounces"]
_MOST_AT_ONCE = 1_000_000


class MailingToMake(msgspec.Struct, forbid_unknown_fields=True):
    list_id: int
    name: str = "Mailing"
    subject: str = "Mailing"
    type: MailingType = MailingType.REGULAR_MAILING
    approved: bool = True


class SendingToMake(msgspec.Struct, forbid_unknown_fields=True):
    """`states`: how many of the mails, drawn at random, end in another state than SENT."""

    mailing_id: int
    states: dict[ProtocolState, int] = {}
    delay_ms: float | None = None


class ReactionsToMake(msgspec.Struct, forbid_unknown_fields=True):
    """Who reacts: the `recipients` (ids or addresses), or `count` drawn at random, or everybody once.

    The same person may be drawn more than once. They react at `occurred_at` (now when absent), spread over
    `spread_seconds` after it.
    """

    sending_id: int
    count: int | None = None
    recipients: list[int | str] | None = None
    occurred_at: str | None = None
    spread_seconds: float = 0.0
    delay_ms: float | None = None
    url: str = "https://verteiler.example/"
    link_type: LinkType = LinkType.CONTENT
    category: BounceCategory = BounceCategory.HARD


def make_mailing(account: Account, wanted: MailingToMake, now: float) -> Mailing:
    """Raises: ValueError, when there is no such list."""
    if wanted.list_id not in account.lists:
        raise ValueError(f"there is no list {wanted.list_id}")
    account.changes += 1
    return account.mailings.add(
        wanted.list_id, wanted.name, wanted.subject, now, type_=wanted.type, approved=wanted.approved
    )


def make_sending(account: Account, wanted: SendingToMake, now: float) -> Sending:
    """Raises: ValueError, when there is no such mailing, no such list any more, or fewer members than states."""
    mailing = account.mailings.mailings.get(wanted.mailing_id)
    if mailing is None:
        raise ValueError(f"there is no mailing {wanted.mailing_id}")
    if mailing.list_id not in account.lists:
        raise ValueError("the list of the mailing is gone")
    members = account.lists[mailing.list_id].subscribed.copy()
    entries = [ProtocolEntry(id_, ProtocolState.SENT, now) for id_ in members]
    changed = [state for state, how_many in wanted.states.items() for _ in range(how_many)]
    if len(changed) > len(entries):
        raise ValueError(f"the list has only {len(entries)} members")
    for entry, state in zip(account.draw.sample(entries, len(changed)), changed, strict=True):
        entry.state = state
    return send(account, mailing, entries, now, None if wanted.delay_ms is None else wanted.delay_ms / 1000)


def send(
    account: Account, mailing: Mailing, entries: Sequence[ProtocolEntry], now: float, delay_seconds: float | None = None
) -> Sending:
    """Send a mailing; the sending and its protocol become readable like every other event."""
    made = account.mailings.add_sending(mailing, entries, now)
    account.write(account.mailings.sending_log, [made], now, delay_seconds)
    account.write(made.protocol, entries, now, delay_seconds)
    account.changes += 1
    return made


def react(account: Account, kind: ReactionKind, wanted: ReactionsToMake, now: float) -> int:
    """Let recipients of a sending react; gives how often.  Raises: ValueError.

    Whether a reaction may be tied to the person follows from her tracking permission for the list as it is now.
    """
    sending = account.mailings.sendings.get(wanted.sending_id)
    if sending is None:
        raise ValueError(f"there is no sending {wanted.sending_id}")
    entries = _reacting(account, sending, wanted)
    started_at = instant(wanted.occurred_at) if wanted.occurred_at else now
    spread, draw = wanted.spread_seconds, account.draw.random
    times = [started_at + spread * draw() for _ in entries] if spread else [started_at] * len(entries)
    mailing, mails = sending.mailing, account.mailings
    mailing_list = account.lists.get(mailing.list_id)
    members = mailing_list.members if mailing_list else {}
    who = [entry.recipient_id for entry in entries]
    tracked = [id_ in members and members[id_].permission is Permission.GRANTED for id_ in who]
    together = zip(who, times, tracked, strict=True)
    match kind:
        case "web-beacon-hits":
            log = mails.web_beacon_hits
            made = [Reaction(sending, id_, at, allowed) for id_, at, allowed in together]
            mailing.opening.update(who)
        case "clicks":
            log, link = mails.clicks, Link(wanted.url, wanted.link_type)
            made = [Reaction(sending, id_, at, allowed, link) for id_, at, allowed in together]
            mailing.clicking.update(who)
            mailing.unsubscribe_clicks += len(who) if link.type is LinkType.UNSUBSCRIBE else 0
        case "bounces":
            log, category = mails.bounces, wanted.category
            made = [Reaction(sending, id_, at, True, None, category) for id_, at, _ in together]
            mailing.bounces += len(who)
            for entry in entries:
                sending.delivered -= entry.state is ProtocolState.SENT
                entry.state = BOUNCED[category]
    account.write(log, made, now, None if wanted.delay_ms is None else wanted.delay_ms / 1000)
    account.changes += 1
    return len(made)


def _reacting(account: Account, sending: Sending, wanted: ReactionsToMake) -> list[ProtocolEntry]:
    if wanted.recipients is not None:
        known = [who if isinstance(who, int) else account.find(who) for who in wanted.recipients]
        found = [sending.entry_of(who if isinstance(who, int) else who.id) for who in known if who is not None]
        entries = [entry for entry in found if entry is not None and entry.state in ARRIVED]
        if len(entries) < len(wanted.recipients):
            raise ValueError("not every recipient named got a mail of this sending")
        return entries
    arrived = [entry for entry in sending.entries if entry.state in ARRIVED]
    if wanted.count is None:
        return arrived
    if not arrived or not 0 <= wanted.count <= _MOST_AT_ONCE:
        raise ValueError(f"count must be between 0 and {_MOST_AT_ONCE:,}, and somebody must have got the mail")
    return account.draw.choices(arrived, k=wanted.count)
