"""Who agreed and who objected: proofs, objections and blocks that concern one mailbox on one list. Pure.

Read only from `consent`, `suppression` and Inxmail's logs: a state that can be overwritten is no evidence.
"""

import fnmatch
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from schemas.causes import is_ours
from schemas.facts import ListEvent, Meaning, SubscriptionEvent, UnsubscriptionEvent, meaning_of
from schemas.mutations import Evidence, Held, HeldList
from schemas.smartwe import Binding, Consent, Suppression

_OBJECTIONS = frozenset({"withdrawal", "objection"})
PROOFS = frozenset(
    {"doi", "written", "single_opt_in", "existing_customer", "contract", "imported_unproven", "manual_inxmail"}
)
_BLOCKS = frozenset({"complaint", "blacklist", "legal", "erasure"})


ALWAYS = datetime.max.replace(tzinfo=UTC)
"""The time of an objection that names none: no proof is newer."""


class Record(msgspec.Struct, frozen=True):
    """All that is on record for one mailbox in one client, or for a person who claims it."""

    consents: tuple[Consent, ...] = ()
    """About this mailbox: the address that the row names."""
    suppressions: tuple[Suppression, ...] = ()
    """About this mailbox, by hash or by pattern."""
    events: tuple[ListEvent, ...] = ()
    """Of this client and this mailbox, echoes of our own calls included."""
    personal: dict[str, tuple[Consent, ...]] = {}
    """Person → her consent rows about other mailboxes: an objection is the person's and follows her."""


class Scope(msgspec.Struct, frozen=True):
    """The list that a question is about: one distribution's list in one client."""

    client: str
    distribution: str
    list_id: int | None

    @staticmethod
    def of(binding: Binding) -> "Scope":
        """The scope of a binding."""
        return Scope(binding.baf_client_id, binding.distribution_gguid, binding.inxmail_list_id)


def _covers(scope: Scope, client: str | None, distribution: str | None) -> bool:
    """Whether something said for (client, distribution), null meaning all, is said for this list as well."""
    return (client is None or client == scope.client) and (distribution is None or distribution == scope.distribution)


def proofs(record: Record, scope: Scope, *, at: datetime) -> list[Evidence]:
    """Consent to this list, oldest first; level 3 only with both a request and a confirmation."""
    found = [
        Evidence(consent.gguid, proven_at(consent), _level(consent))
        for consent in record.consents
        if consent.kind in PROOFS
        and consent.baf_client_id is not None
        and _covers(scope, consent.baf_client_id, consent.distribution_gguid)
        and _is_valid(consent.valid_from, consent.valid_to, at)
    ]
    found += [
        Evidence(f"subscriptions:{event.event_id}", event.occurred_at, _event_level(event, record.events))
        for event in record.events
        if isinstance(event, SubscriptionEvent)
        and event.op_id is None
        and event.list_id == scope.list_id
        and meaning_of(event) is Meaning.SUBSCRIBED
    ]
    return sorted(found, key=_order)


def proven_at(consent: Consent) -> datetime:
    """When a proof came to be: never later than the row itself, whatever the row says."""
    return min(consent.confirmed_at or consent.captured_at, consent.inserttimestamp)


def _level(consent: Consent) -> int:
    complete = consent.kind == "doi" and consent.requested_at is not None and consent.confirmed_at is not None
    return consent.proof_level if consent.proof_level < 3 or complete else 2


def _event_level(event: ListEvent, events: Iterable[ListEvent]) -> int:
    if event.type == "MANUAL_SUBSCRIPTION":
        return 0
    if event.type != "PENDING_SUBSCRIPTION_DONE":
        return 1
    asked = any(
        isinstance(other, SubscriptionEvent)
        and other.type == "PENDING_SUBSCRIPTION"
        and other.list_id == event.list_id
        and other.event_id < event.event_id
        for other in events
    )
    return 3 if asked else 1


def objections(record: Record, scope: Scope, held: HeldList | None, *, at: datetime) -> list[Evidence]:
    """Everything said against this list for this mailbox, at list, client or global scope; oldest first.

    Being found unsubscribed without a call of ours is an objection too: what the log no longer tells, the state does.
    """
    found = list(_consented_away(record.consents, scope))
    if held is not None and held.state is Held.UNSUBSCRIBED and not is_ours(held.cause):
        found.append(Evidence(f"held:{held.list_id}", held.since or ALWAYS))
    found += [
        Evidence(suppression.gguid, suppression.since)
        for suppression in _active(record.suppressions, scope, at)
        if suppression.reason not in _BLOCKS
    ]
    found += [
        Evidence(f"unsubscriptions:{event.event_id}", event.occurred_at)
        for event in record.events
        if isinstance(event, UnsubscriptionEvent)
        and event.op_id is None
        and meaning_of(event) is Meaning.UNSUBSCRIBED
        and (event.list_id == scope.list_id or event.type == "NOT_IN_SYSTEM_UNSUBSCRIPTION")
    ]
    return sorted(found, key=_order)


def personal_objections(record: Record, scope: Scope, person: str) -> list[Evidence]:
    """What this person said against this list from other mailboxes of hers; oldest first."""
    return sorted(_consented_away(record.personal.get(person, ()), scope), key=_order)


def _consented_away(consents: Iterable[Consent], scope: Scope) -> Iterator[Evidence]:
    for consent in consents:
        if consent.kind in _OBJECTIONS and _covers(scope, consent.baf_client_id, consent.distribution_gguid):
            yield Evidence(consent.gguid, consent.captured_at)


def blocks(record: Record, scope: Scope, *, at: datetime) -> list[Evidence]:
    """Bars that no proof alone can lift: blacklist, complaint, legal, erasure, and a person's global objection."""
    found = [
        Evidence(suppression.gguid, suppression.since)
        for suppression in _active(record.suppressions, scope, at)
        if suppression.reason in _BLOCKS or (suppression.scope == "global" and suppression.reason == "objection")
    ]
    found += [
        Evidence(consent.gguid, consent.captured_at)
        for consent in (*record.consents, *(row for rows in record.personal.values() for row in rows))
        if consent.kind == "objection" and consent.baf_client_id is None and consent.distribution_gguid is None
    ]
    found += [
        Evidence(f"subscriptions:{event.event_id}", event.occurred_at)
        for event in record.events
        if meaning_of(event) is Meaning.BLOCKED
    ]
    return sorted(found, key=_order)


def resubscriptions(record: Record, scope: Scope) -> list[Evidence]:
    """When the person (or a user at Inxmail) subscribed this mailbox to this list there; oldest first."""
    return sorted(
        (
            Evidence(f"subscriptions:{event.event_id}", event.occurred_at)
            for event in record.events
            if isinstance(event, SubscriptionEvent)
            and event.op_id is None
            and event.list_id == scope.list_id
            and meaning_of(event) is Meaning.SUBSCRIBED
        ),
        key=_order,
    )


def unsettled(record: Record, scope: Scope) -> list[Evidence]:
    """Attempts to leave that came to no end, and entries that we cannot read: nothing is subscribed meanwhile."""
    return sorted(
        (
            Evidence(f"unsubscriptions:{event.event_id}", event.occurred_at)
            for event in record.events
            if isinstance(event, UnsubscriptionEvent)
            and event.list_id == scope.list_id
            and meaning_of(event) in (Meaning.LEAVING, Meaning.UNKNOWN)
        ),
        key=_order,
    )


def _active(suppressions: Iterable[Suppression], scope: Scope, at: datetime) -> Iterator[Suppression]:
    for suppression in suppressions:
        if (
            suppression.deleted_at is None
            and suppression.lifted_by_consent_gguid is None
            and (suppression.until is None or suppression.until > at)
            and _covers(scope, suppression.baf_client_id, suppression.distribution_gguid)
        ):
            yield suppression


def _is_valid(start: datetime | None, end: datetime | None, at: datetime) -> bool:
    return (start is None or start <= at) and (end is None or end > at)


def matches(suppression: Suppression, email: str) -> bool:
    """Whether a pattern suppression means this normalised address: `*` stands for any text, case does not count."""
    return suppression.pattern is not None and fnmatch.fnmatchcase(
        email, suppression.pattern.strip().lower().replace("[", "[[]").replace("?", "[?]")
    )


def beats(proof: Evidence | None, objection: Evidence | None, skew: timedelta) -> bool:
    """Whether the proof is newer than the objection by more than two clocks may differ."""
    # The skew is taken from the proof: an objection that names no time has the last instant there is.
    return proof is not None and (objection is None or proof.at - skew > objection.at)


def _order(evidence: Evidence) -> tuple[datetime, str]:
    return evidence.at, evidence.ref


def newest(found: list[Evidence]) -> Evidence | None:
    """The last of a list that is oldest first."""
    return found[-1] if found else None
