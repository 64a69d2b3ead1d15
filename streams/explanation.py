"""Why a mailbox is what it is: its state, and the events and rules that led to it, oldest first. Pure.

Everything is told from what is stored. Words here hold no personal data; addresses come in as they may be shown.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

import msgspec

from connectors.smartwe.inspection import ShownStatus
from connectors.store.decisions import ClaimRow
from connectors.store.history import ListState
from schemas.crm import RecipientStatus
from schemas.delivery import version_text
from schemas.mutations import DeliveryResult, Evidence, Mutation
from streams.chain import Gathered, Step, chain_of, newest_mutation, newest_statuses

RULES: Final = {
    "member": "somebody wants it, and a proof of consent beats every objection",
    "blocked": "a blacklist entry, complaint, erasure or objection to everything bars it",
    "objected": "the newest word of the person is an objection; only a newer proof outweighs it",
    "no_proof": "there is no proof of consent of the level that this list asks for",
    "withdrawn": "the CRM took its membership off; the person said nothing",
    "subscribed_at_inxmail": "it was subscribed at Inxmail itself, without the proof that we would need: left alone",
    "unsettled": "somebody tried to leave and it came to no end: nothing is subscribed meanwhile",
    "list_closed": "the binding, client or distribution is paused, detached or deleted: left alone",
    "incomplete": "a row that it needs has not arrived yet: nothing follows from that",
    "unclaimed": "nothing here is our doing: left alone",
    "list_missing": "the distribution has no list in this client",
    "not_member": "the CRM does not want the membership",
    "person_request": "the person asked to leave",
    "address_gone": "the address is in the recycle bin",
    "address_deactivated": "the address is deactivated",
    "profile_gone": "the profile through which it was reached is in the recycle bin",
    "email_missing": "no e-mail address is given",
    "email_impossible": "the e-mail address cannot be valid",
    "distribution_deleted": "the distribution is in the recycle bin",
}
"""Name of a rule or reason, as records carry it → what it says."""


class WhyClaim(msgspec.Struct, frozen=True):
    """A recipient that uses the mailbox, what is said of it, and whether the CRM already shows just that."""

    recipient: str
    person: str
    distribution: str
    email: str | None
    held_for: str | None
    is_leading: bool
    subscription_state: str | None
    reason: str | None
    because: str | None
    sync_state: str | None
    error: str | None
    shown_in_crm: bool | None


class WhyList(msgspec.Struct, frozen=True):
    """One list: what is wanted, by which rule and on which evidence, and how the client holds it."""

    list_id: int
    binding: str | None
    want: str | None
    rule: str | None
    because: str | None
    proof: Evidence | None
    objection: Evidence | None
    claims: tuple[str, ...]
    held: str | None
    held_cause: str | None
    held_since: datetime | None


class WhyReport(msgspec.Struct, frozen=True):
    """The answer. `version` is of the newest mutation, `answered` of the newest result; null: there is none."""

    client: str
    known: bool
    verdict: str
    email: str | None = None
    mailbox: str | None = None
    recipient_id: int | None = None
    version: str | None = None
    answered: str | None = None
    outcome: str | None = None
    error: str | None = None
    rejected_values: dict[str, str] = {}
    claims: tuple[WhyClaim, ...] = ()
    lists: tuple[WhyList, ...] = ()
    chain: tuple[Step, ...] = ()
    faults: tuple[str, ...] = ()


def explanation_of(found: Gathered, faults: Iterable[str] = ()) -> WhyReport:
    """The answer from what is stored."""
    told = [said for said in (found.decided, found.delivered, *found.claims, *found.rows, *found.events) if said]
    mutation, _ = newest_mutation(found)
    statuses = {status.recipient: status for status, _ in newest_statuses(found)}
    delivered, decided = found.delivered, found.decided
    result = decided.result if decided else None
    return WhyReport(
        client=found.client,
        known=bool(told or found.emissions),
        verdict=_verdict(found, mutation) if told or found.emissions else _nothing(found.client),
        email=found.email,
        mailbox=found.mailbox,
        recipient_id=(delivered.recipient_id if delivered else None) or (result.recipient_id if result else None),
        version=version_text(mutation.version) if mutation else None,
        answered=version_text(result.version) if result and result.version else None,
        outcome=result.outcome if result else None,
        error=result.error if result else None,
        rejected_values=dict(result.rejected_values) if result else {},
        claims=tuple(_claim(claim, statuses.get(claim.recipient), found.crm) for claim in found.claims),
        lists=tuple(_lists(mutation, result, found.lists)),
        chain=chain_of(found),
        faults=tuple(faults),
    )


def _nothing(client: str) -> str:
    return (
        f"Nothing is known of this mailbox in client {client}: nobody claims it, no log entry or suppression names it,"
        " and nothing was ever asked of Inxmail."
    )


def _verdict(found: Gathered, mutation: Mutation | None) -> str:
    """How it stands, in one sentence."""
    if any(claim.held_for for claim in found.claims):
        return "An e-mail change is held: until it is carried out, the former mailbox stays in force."
    if mutation is None:
        return "Nothing was asked of Inxmail: no membership may be subscribed, and the client holds nothing to change."
    asked = version_text(mutation.version)
    result = found.decided.result if found.decided else None
    if result is None or result.version is None:
        return f"Version {asked} was asked of Inxmail, and there is no answer yet."
    if result.version < mutation.version:
        return f"Version {asked} was asked of Inxmail; the newest answer is to version {version_text(result.version)}."
    if result.error:
        return f"Version {asked} was answered: {result.outcome}, {result.error}."
    return f"Version {asked} was asked of Inxmail and answered: {result.outcome}."


def _claim(claim: ClaimRow, status: RecipientStatus | None, crm: dict[str, ShownStatus] | None) -> WhyClaim:
    shown = crm.get(claim.recipient) if crm is not None else None
    return WhyClaim(
        recipient=claim.recipient,
        person=claim.person,
        distribution=claim.distribution,
        email=claim.email,
        held_for=claim.held_for,
        is_leading=status is not None and status.is_leading,
        subscription_state=status.subscription_state if status else None,
        reason=status.state_reason if status else None,
        because=RULES.get(status.state_reason) if status else None,
        sync_state=status.sync_state if status else None,
        error=status.last_error_code if status else None,
        shown_in_crm=None
        if crm is None
        else status is not None
        and shown is not None
        and (shown.pipeline_epoch, shown.pipeline_version) == (status.epoch, status.version),
    )


def _lists(mutation: Mutation | None, result: DeliveryResult | None, held: Iterable[ListState]) -> Iterator[WhyList]:
    wishes = {wish.list_id: wish for wish in mutation.lists} if mutation else {}
    states = {state.list_id: ListState(state.list_id, state.state, state.cause, state.since) for state in held}
    for reported in result.lists if result else ():
        states.setdefault(reported.list_id, ListState(reported.list_id, reported.state, reported.cause, reported.since))
    for list_id in sorted(wishes.keys() | states.keys()):
        wish, state = wishes.get(list_id), states.get(list_id)
        yield WhyList(
            list_id=list_id,
            binding=wish.binding if wish else None,
            want=wish.want if wish else None,
            rule=wish.rule if wish else None,
            because=RULES.get(wish.rule) if wish else None,
            proof=wish.proof if wish else None,
            objection=wish.objection if wish else None,
            claims=wish.claims if wish else (),
            held=state.state if state else None,
            held_cause=state.cause if state else None,
            held_since=state.since if state else None,
        )
