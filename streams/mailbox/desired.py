"""The whole desired state of one mailbox in one client, from all that is known of it. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from schemas.mutations import DeliveryResult, Held, HeldList, Lane, ListWish, Value, Version, Want
from schemas.smartwe import FieldMapping
from streams.mailbox import evidence
from streams.mailbox.claims import Claim, Standing
from streams.mailbox.evidence import Record, Scope
from streams.mailbox.rule import Ruling, ruling_on
from streams.mailbox.structure import Structure


class MailboxView(msgspec.Struct, frozen=True):
    """All that is known of one mailbox in one client. Every claim on it is here, whatever it asks for."""

    client: str
    mailbox: str
    email: str
    claims: tuple[Claim, ...]
    record: Record
    held: DeliveryResult | None


class Desired(msgspec.Struct, frozen=True):
    """What should be. `rulings` by list id; `wanted`: somebody may be subscribed somewhere."""

    email: str
    leader: str | None
    claims: tuple[str, ...]
    values: dict[str, Value]
    rulings: dict[int, Ruling]

    @property
    def lists(self) -> tuple[ListWish, ...]:
        """The wishes, in list order."""
        return tuple(self.rulings[list_id].wish for list_id in sorted(self.rulings))

    @property
    def wanted(self) -> bool:
        """Whether a recipient may be made for this."""
        return any(wish.want is Want.SUBSCRIBED for wish in self.lists)


def desired_mailbox(view: MailboxView, structure: Structure, *, at: datetime, skew: timedelta) -> Desired:
    """The desired state. A function of what survives, not of the path to it; `at` is the cause's commit time."""
    held = {state.list_id: state for state in view.held.lists} if view.held else {}
    by_list: dict[int, list[Claim]] = {}
    for claim in view.claims:
        binding = structure.bindings.get((claim.recipient.distribution_gguid, view.client))
        if binding is not None and binding.inxmail_list_id is not None:
            by_list.setdefault(binding.inxmail_list_id, []).append(claim)
    rulings = {}
    for list_id in by_list.keys() | held.keys() | _spoken_of(view, structure):
        binding = structure.lists.get((view.client, list_id))
        if binding is not None:
            claims = by_list.get(list_id, [])
            rulings[list_id] = ruling_on(binding, claims, view.record, held.get(list_id), structure, at=at, skew=skew)
    leader = leading(view, structure, at=at)
    return Desired(
        email=view.email,
        leader=leader.gguid if leader else None,
        claims=tuple(sorted(claim.gguid for claim in view.claims if claim.standing is Standing.MEMBER)),
        values=values_of(leader, structure.mappings.get(view.client, ())) if leader else {},
        rulings=rulings,
    )


def _spoken_of(view: MailboxView, structure: Structure) -> set[int]:
    """Lists of this client that an entry of its logs names for this mailbox."""
    return {event.list_id for event in view.record.events if event.list_id is not None} & {
        list_id for client, list_id in structure.lists if client == view.client
    }


def leading(view: MailboxView, structure: Structure, *, at: datetime) -> Claim | None:
    """The claim whose values the recipient shows: a function of the set of claims, never of arrival.

    Pin, then higher proof level, then the older row, then the smaller GGUID.
    """
    candidates = [claim for claim in view.claims if claim.standing is Standing.MEMBER]
    if len(candidates) < 2:
        return candidates[0] if candidates else None

    def rank(claim: Claim) -> tuple[bool, int, datetime, str]:
        row = claim.recipient
        return (
            not row.pin_leading,
            -proof_level(view, claim, structure, at=at),
            row.inserttimestamp or datetime.max.replace(tzinfo=at.tzinfo),
            row.gguid,
        )

    return min(candidates, key=rank)


def proof_level(view: MailboxView, claim: Claim, structure: Structure, *, at: datetime) -> int:
    """The best proof that this claim's own person has given for this mailbox and list; 0 for none."""
    binding = structure.bindings.get((claim.recipient.distribution_gguid, view.client))
    if binding is None:
        return 0
    own = tuple(row for row in view.record.consents if row.address_gguid == claim.recipient.address_gguid)
    found = evidence.proofs(Record(consents=own), Scope.of(binding), at=at)
    return max((proof.level for proof in found), default=0)


def values_of(claim: Claim, mappings: Sequence[FieldMapping]) -> dict[str, Value]:
    """Attribute id → value of the mapped column; an empty column appears only where the mapping says `clear`."""
    sources: dict[str, Mapping[str, Any]] = {
        "address": claim.person.columns,
        "distribution_recipient": claim.columns,
        "address_profile": claim.person.profile_columns.get(claim.recipient.profile_gguid or "", {}),
    }
    values: dict[str, Value] = {}
    for mapping in mappings:
        value = plain_value(sources.get(mapping.crm_table, {}).get(mapping.crm_field))
        if value is not None or mapping.null_policy == "clear":
            values[str(mapping.inxmail_attribute_id)] = value
    return values


def plain_value(value: Any) -> Value:
    """A column's value as it may travel: text trimmed, empty text is null, pick lists joined by the pipe."""
    match value:
        case str():
            return value.strip() or None
        case list():
            return "|".join(str(part) for part in value) or None
        case None | bool() | int() | float():
            return value
    return str(value)


def hash_of(desired: Desired) -> bytes:
    """32 bytes that change exactly when something is to be sent or served otherwise; evidence is not part of it."""
    content = (
        desired.email,
        desired.leader,
        desired.claims,
        sorted(desired.values.items()),
        [(wish.list_id, wish.want, wish.claims) for wish in desired.lists if wish.want is not Want.KEEP],
    )
    return hashlib.sha256(msgspec.json.encode(content)).digest()


def is_to_be_told(desired: Desired, held: DeliveryResult | None) -> bool:
    """Whether delivery must hear of a mailbox that it was never told of: never to make a recipient for nothing."""
    if desired.wanted:
        return True
    if held is None or held.recipient_id is None:
        return False
    state = {held_list.list_id: held_list for held_list in held.lists}
    return bool(desired.claims) or any(
        wish.want is Want.UNSUBSCRIBED and _may_be_subscribed(state.get(wish.list_id)) for wish in desired.lists
    )


def lane_of(desired: Desired, held: DeliveryResult | None, asked: Version | None, *, is_backlog: bool) -> Lane:
    """In which lane it travels. `asked`: the newest version asked for before.

    What takes something away goes first. What follows from a backlog goes last, but not while something else is asked
    for and not answered: a version in lane `bulk` never wants less than one in another lane.
    """
    is_open = asked is not None and (held is None or held.version != asked)
    states = {held_list.list_id: held_list for held_list in held.lists} if held is not None else {}
    if any(
        wish.want is Want.UNSUBSCRIBED and (is_open or _may_be_subscribed(states.get(wish.list_id)))
        for wish in desired.lists
    ):
        return Lane.PRIORITY
    return Lane.BULK if is_backlog and not is_open else Lane.NORMAL


def _may_be_subscribed(held: HeldList | None) -> bool:
    return held is not None and held.state in (Held.SUBSCRIBED, Held.UNKNOWN)
