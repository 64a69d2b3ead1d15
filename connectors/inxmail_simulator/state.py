"""One account in memory: recipients, attributes, lists, memberships, logs. Time comes in as an argument."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from connectors.inxmail_simulator.blacklist import Blacklist
from connectors.inxmail_simulator.event_log import E, Event, EventLog
from connectors.inxmail_simulator.journal import Journal
from connectors.inxmail_simulator.keyset import Keyset
from connectors.inxmail_simulator.mailings import Mailings
from connectors.inxmail_simulator.options import Behaviour, SimulatorOptions
from connectors.inxmail_simulator.subscription import Permission, Process, State
from connectors.inxmail_simulator.target_groups import TargetGroups
from connectors.inxmail_simulator.value_index import ValueIndex
from connectors.inxmail_simulator.values import AttributeType, Value
from connectors.inxmail_simulator.write_buffer import buffered_write


class Attribute(msgspec.Struct):
    id: int
    name: str
    type: AttributeType
    max_length: int | None
    position: int
    created_at: float
    modified_at: float


class Recipient(msgspec.Struct, gc=False):
    """Values lie packed, at the positions of their attributes: as objects they would take four times the memory."""

    id: int
    email: str
    packed: bytes
    created_at: float
    modified_at: float

    @property
    def values(self) -> tuple[Value, ...]:
        """A tuple that is too short means null for the rest."""
        return _unpack(self.packed)

    def value(self, position: int) -> Value:
        values = self.values
        return values[position] if position < len(values) else None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[Value, ...]).decode


class Membership(msgspec.Struct, gc=False):
    """What one list knows of one recipient. State NONE remains only to carry a permission of a detached list."""

    id: int
    list_id: int
    recipient_id: int
    state: State
    permission: Permission
    subscribed_at: float | None = None
    unsubscribed_at: float | None = None


class PendingSubscription(msgspec.Struct):
    """A double opt-in that awaits its confirmation; what it brings takes effect only then."""

    email: str
    values: dict[int, Value]
    permission: Permission | None
    started_at: float


class MailingList(msgspec.Struct):
    id: int
    name: str
    type: str
    opt_in: Process
    opt_out: Process
    created_at: float
    description: str | None = None
    sender_address: str | None = None
    sender_name: str | None = None
    reply_to_address: str | None = None
    reply_to_name: str | None = None
    detached: bool = False
    delete_when_left: bool = False
    members: dict[int, Membership] = msgspec.field(default_factory=dict)
    subscribed: Keyset = msgspec.field(default_factory=Keyset)
    unsubscribed: Keyset = msgspec.field(default_factory=Keyset)
    membership_ids: Keyset = msgspec.field(default_factory=Keyset)
    subscribing: dict[str, PendingSubscription] = msgspec.field(default_factory=dict)
    unsubscribing: dict[int, float] = msgspec.field(default_factory=dict)
    counted: int = 0
    counted_at: float = 0.0
    count_due_at: float | None = None


class Account:
    """The state model. Every method keeps the indexes in step; none checks what a caller may do."""

    def __init__(self, options: SimulatorOptions, now: float) -> None:
        self.behaviour: Behaviour = options.behaviour
        self.draw = Random(options.seed)
        self.recipients: dict[int, Recipient] = {}
        self.recipient_ids = Keyset()
        self.by_email: dict[str, Recipient] = {}
        self.modifications = Journal()
        self._value_index = ValueIndex()
        self.attributes: dict[int, Attribute] = {}
        self.attribute_names: dict[str, Attribute] = {}
        self.lists: dict[int, MailingList] = {}
        self.memberships: dict[int, Membership] = {}
        self.membership_ids = Keyset()
        self.subscriptions: EventLog[Event] = EventLog()
        self.unsubscriptions: EventLog[Event] = EventLog()
        self.permission_events: EventLog[Event] = EventLog()
        self.mailings = Mailings()
        self.target_groups = TargetGroups()
        self.blacklist = Blacklist()
        self.changes = 0
        """How often anything changed: does not move while a converged pipeline is idle."""
        self._next_recipient = options.first_recipient_id
        self._next_attribute = options.first_attribute_id
        self._next_list = options.first_list_id
        self._next_membership = 1
        if options.system_list:
            self.lists[1] = MailingList(1, "System", "SYSTEM", Process.SINGLE, Process.SINGLE, now, counted_at=now)
        for kind in options.attributes:
            self.add_attribute(kind.name, kind.type, kind.max_length, now)
        for seed in options.lists:
            added = self.add_list(seed.name, now, seed.opt_in, seed.opt_out, type_=seed.type, id_=seed.id)
            added.detached, added.delete_when_left = seed.detached, seed.delete_when_left
            added.sender_address = "absender@verteiler.example"

    # attributes and lists

    def add_attribute(self, name: str, kind: AttributeType, max_length: int | None, now: float) -> Attribute:
        if kind is AttributeType.TEXT and max_length is None:
            max_length = 255
        attribute = Attribute(self._next_attribute, name, kind, max_length, len(self.attributes), now, now)
        self._next_attribute += 1
        self.attributes[attribute.id] = self.attribute_names[name] = attribute
        self.changes += 1
        return attribute

    def add_list(
        self,
        name: str,
        now: float,
        opt_in: Process,
        opt_out: Process,
        *,
        type_: str = "STANDARD",
        id_: int | None = None,
    ) -> MailingList:
        added = MailingList(id_ or self._next_list, name, type_, opt_in, opt_out, now, counted_at=now)
        self._next_list = max(self._next_list, added.id + 1)
        self.lists[added.id] = added
        self.changes += 1
        return added

    def remove_list(self, gone: MailingList) -> None:
        for membership in gone.members.values():
            del self.memberships[membership.id]
            self.membership_ids.remove(membership.id)
        del self.lists[gone.id]
        self.target_groups.drop_list(gone.id)
        self.changes += 1

    def list_named(self, name: str) -> MailingList | None:
        folded = name.lower()
        return next((known for known in self.lists.values() if known.name.lower() == folded), None)

    # recipients

    def find(self, email: str) -> Recipient | None:
        """By address, upper and lower case alike; that is all the equality this system knows."""
        return self.by_email.get(email.lower())

    def holders(self, position: int, value: Value) -> set[int]:
        """Ids of the recipients that have this value in this attribute."""
        everybody = ((recipient.id, recipient.values) for recipient in self.recipients.values())
        return self._value_index.ids(position, value, everybody)

    def add_recipient(self, email: str, values: Mapping[int, Value], now: float) -> Recipient:
        """A new recipient under a new id, also when the same address was here before: there are no tombstones."""
        held = _with((), values)
        recipient = Recipient(self._next_recipient, email, _pack(held), now, now)
        self._next_recipient += 1
        self.recipients[recipient.id] = recipient
        self.recipient_ids.add(recipient.id)
        self.by_email[_key(email)] = recipient
        self._value_index.moved(recipient.id, None, held)
        self.modifications.note(recipient.id, now)
        self.changes += 1
        return recipient

    def change_recipient(self, recipient: Recipient, values: Mapping[int, Value], now: float, email: str = "") -> None:
        """Give new values and, when not empty, a new address. The time moves only when something became different."""
        before = recipient.values
        changed = _with(before, values)
        email = email or recipient.email
        if changed == before and email == recipient.email:
            return
        if email != recipient.email:
            del self.by_email[recipient.email.lower()]
            self.by_email[_key(email)] = recipient
            recipient.email = email
        self._value_index.moved(recipient.id, before, changed)
        recipient.packed = _pack(changed)
        recipient.modified_at = now
        self.modifications.note(recipient.id, now)
        self.changes += 1

    def delete_recipient(self, recipient: Recipient) -> None:
        for mailing_list in self.lists.values():
            membership = mailing_list.members.get(recipient.id)
            if membership is not None:
                self._drop(mailing_list, membership)
            mailing_list.unsubscribing.pop(recipient.id, None)
        self._value_index.moved(recipient.id, recipient.values, None)
        del self.recipients[recipient.id]
        del self.by_email[recipient.email.lower()]
        self.recipient_ids.remove(recipient.id)
        self.changes += 1

    def block(self, pattern: str, description: str | None, now: float) -> int:
        """Blacklist a pattern and silently delete who matches. Gives the entry's id."""
        entry = self.blacklist.add(pattern, description, now)
        if "*" in pattern:
            self.delete_blocked()
        elif (known := self.find(pattern)) is not None:
            self.delete_recipient(known)
        self.changes += 1
        return entry.id

    def delete_blocked(self) -> None:
        for recipient in [known for email, known in self.by_email.items() if self.blacklist.blocks(email)]:
            self.delete_recipient(recipient)
        self.changes += 1

    # memberships

    def state_of(self, mailing_list: MailingList, recipient: Recipient | None) -> State:
        membership = mailing_list.members.get(recipient.id) if recipient else None
        return membership.state if membership else State.NONE

    def enter(
        self,
        mailing_list: MailingList,
        recipient: Recipient,
        state: State,
        permission: Permission | None,
        now: float,
        *,
        log_permission: bool = True,
    ) -> None:
        """Bring a membership into a state. A permission of None leaves it as it is, but a change of state denies it."""
        membership = mailing_list.members.get(recipient.id)
        if membership is None:
            if state is State.NONE and (permission is not Permission.GRANTED or not mailing_list.detached):
                return
            membership = Membership(self._next_membership, mailing_list.id, recipient.id, State.NONE, Permission.DENIED)
            self._next_membership += 1
            mailing_list.members[recipient.id] = self.memberships[membership.id] = membership
            mailing_list.membership_ids.add(membership.id)
            self.membership_ids.add(membership.id)
        before = membership.permission
        if state is not membership.state:
            self._move(mailing_list, membership, state, now)
            membership.permission = Permission.DENIED
        if permission is not None and (state is State.SUBSCRIBED or mailing_list.detached):
            membership.permission = permission
        if membership.permission is not before:
            self.changes += 1
            if log_permission:
                self.log(self.permission_events, "", mailing_list, recipient, now, permission=membership.permission)
        if state is State.NONE and membership.permission is Permission.DENIED:
            self._drop(mailing_list, membership)
        if state is not State.NONE:
            mailing_list.subscribing.pop(recipient.email.lower(), None)
        if state is not State.SUBSCRIBED:
            mailing_list.unsubscribing.pop(recipient.id, None)

    def log(
        self,
        log: EventLog[Event],
        type_: str,
        mailing_list: MailingList,
        who: Recipient | str,
        now: float,
        *,
        occurred_at: float | None = None,
        delay_seconds: float | None = None,
        permission: Permission | None = None,
    ) -> None:
        """Write an event into the buffer of a log; without a delay of its own it takes the account's."""
        recipient_id, email = (None, who) if isinstance(who, str) else (who.id, who.email)
        event = Event(type_, mailing_list.id, recipient_id, email, occurred_at or now, permission)
        self.write(log, [event], now, delay_seconds)

    def write(self, log: EventLog[E], events: Sequence[E], now: float, delay_seconds: float | None = None) -> None:
        """Write any events into the buffer of their log."""
        buffered_write(log, events, now, self.behaviour, self.draw, delay_seconds=delay_seconds)

    def logs(self) -> dict[str, EventLog[Any]]:
        """Every log of the account by its name in the control API; protocols belong to their sendings."""
        mailings = self.mailings
        return {
            "subscriptions": self.subscriptions,
            "unsubscriptions": self.unsubscriptions,
            "tracking-permissions": self.permission_events,
            "sendings": mailings.sending_log,
            "bounces": mailings.bounces,
            "clicks": mailings.clicks,
            "web-beacon-hits": mailings.web_beacon_hits,
        }

    def _move(self, mailing_list: MailingList, membership: Membership, state: State, now: float) -> None:
        who = membership.recipient_id
        if membership.state is State.SUBSCRIBED:
            mailing_list.subscribed.remove(who)
        elif membership.state is State.UNSUBSCRIBED:
            mailing_list.unsubscribed.remove(who)
        if state is State.SUBSCRIBED:
            mailing_list.subscribed.add(who)
            membership.subscribed_at, membership.unsubscribed_at = now, None
        elif state is State.UNSUBSCRIBED:
            mailing_list.unsubscribed.add(who)
            membership.unsubscribed_at = now
        membership.state = state
        self.changes += 1

    def _drop(self, mailing_list: MailingList, membership: Membership) -> None:
        if membership.state is not State.NONE:
            self._move(mailing_list, membership, State.NONE, 0)
        del mailing_list.members[membership.recipient_id]
        del self.memberships[membership.id]
        mailing_list.membership_ids.remove(membership.id)
        self.membership_ids.remove(membership.id)


def _key(email: str) -> str:
    """In lower case, and the same object where it is so already."""
    lower = email.lower()
    return email if lower == email else lower


def _with(values: tuple[Value, ...], changes: Mapping[int, Value]) -> tuple[Value, ...]:
    if not changes:
        return values
    changed = list(values)
    changed.extend([None] * (max(changes) + 1 - len(changed)))
    for position, value in changes.items():
        changed[position] = value
    return tuple(changed)
