"""May this mailbox be subscribed to this list, and should it? One list at a time. Pure.

The rules, by the names that records and people see:

  member                  somebody claims it and a proof beats every objection → subscribed
  blocked                 blacklist, complaint, erasure, global objection → unsubscribed
  objected                the newest word is an objection → unsubscribed
  no_proof                nobody's claim has a proof of the level the list asks for → not subscribed
  withdrawn               the CRM took its claims off; no statement by the person → unsubscribed
  subscribed_at_inxmail   subscribed there, not by us, without the proof we would need → left as it is
  unsettled               an attempt to leave came to no end → left as it is
  list_closed             the binding, client or distribution is paused, detached, incomplete → left as it is
  incomplete              a row is still missing → left as it is
  unclaimed               nothing of ours → left as it is
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from schemas.mutations import Evidence, Held, HeldList, ListWish, Want
from schemas.smartwe import Binding, Consent, Suppression
from streams.mailbox import evidence
from streams.mailbox.claims import Claim, Standing
from streams.mailbox.evidence import Record, Scope
from streams.mailbox.structure import Structure, is_open

REQUIRED_LEVEL_DOI = 3
REQUIRED_LEVEL = 2


class Ruling(msgspec.Struct, frozen=True):
    """What is wanted on one list, and the claims that the law refuses although others may have it."""

    wish: ListWish
    refused: dict[str, Evidence | None]
    """Recipient GGUID → the objection that bars her; None: she has no sufficient proof."""


def required_level(structure: Structure, binding: Binding) -> int:
    """The proof level that this list asks for."""
    distribution = structure.distributions.get(binding.distribution_gguid)
    if distribution is None or distribution.requires_doi:
        return REQUIRED_LEVEL_DOI
    if distribution.required_proof is not None:
        return distribution.required_proof
    return REQUIRED_LEVEL


def ruling_on(
    binding: Binding,
    claims: Sequence[Claim],
    record: Record,
    held: HeldList | None,
    structure: Structure,
    *,
    at: datetime,
    skew: timedelta,
) -> Ruling:
    """The ruling for one list. `claims`: the live claims on this mailbox for this list's distribution."""
    scope = Scope.of(binding)
    proofs = evidence.proofs(record, scope, at=at)
    level = required_level(structure, binding)
    proof = evidence.newest([found for found in proofs if found.level >= level])
    objection = evidence.newest(evidence.objections(record, scope, held, at=at))
    wanting = [claim for claim in claims if claim.standing is Standing.MEMBER]
    refused = {
        claim.gguid: bar
        for claim in wanting
        if not evidence.beats(proof, bar := _bar(record, scope, claim, objection), skew)
    }

    def wish(want: Want, rule: str, against: Evidence | None = objection) -> Ruling:
        served = tuple(sorted(claim.gguid for claim in wanting if claim.gguid not in refused))
        return Ruling(
            ListWish(
                list_id=binding.inxmail_list_id or 0,
                binding=binding.gguid,
                want=want,
                rule=rule,
                claims=served if want is Want.SUBSCRIBED else (),
                proof=proof,
                objection=against,
            ),
            refused,
        )

    if not is_open(structure, binding):
        return wish(Want.KEEP, "list_closed")
    if block := evidence.newest(evidence.blocks(record, scope, at=at)):
        return wish(Want.UNSUBSCRIBED, "blocked", block)
    came_back = evidence.newest(evidence.resubscriptions(record, scope))
    if unsettled := evidence.newest(evidence.unsettled(record, scope)):
        settled_at = max(found.at for found in (objection, proof, came_back, _NEVER) if found is not None)
        if unsettled.at >= settled_at:
            return wish(Want.KEEP, "unsettled", unsettled)
    if len(refused) < len(wanting):
        return wish(Want.SUBSCRIBED, "member")
    bars = [bar for bar in refused.values() if bar is not None] + ([objection] if objection else [])
    if bars:
        bar = max(bars, key=lambda found: (found.at, found.ref))
        if came_back and came_back.at > bar.at and not _is_wide(record, bar):
            return wish(Want.KEEP, "subscribed_at_inxmail", bar)
        return wish(Want.UNSUBSCRIBED, "objected", bar)
    if wanting:
        ours = held is not None and bool(held.claims)
        if held is not None and held.state is Held.SUBSCRIBED and not ours:
            return wish(Want.KEEP, "subscribed_at_inxmail")
        return wish(Want.UNSUBSCRIBED, "no_proof")
    return wish(*_without_claim(claims, held, came_back))


_NEVER = Evidence("", datetime(1, 1, 1, tzinfo=UTC))


def _bar(record: Record, scope: Scope, claim: Claim, objection: Evidence | None) -> Evidence | None:
    """The newest objection against this claim: the mailbox's, or its person's own from another mailbox."""
    own = evidence.newest(evidence.personal_objections(record, scope, claim.recipient.address_gguid))
    return max((found for found in (objection, own) if found), key=lambda found: (found.at, found.ref), default=None)


def _is_wide(record: Record, bar: Evidence) -> bool:
    """Whether an objection reaches beyond the list: then a subscription at Inxmail does not outweigh it."""
    spoken: list[Consent | Suppression] = [*record.consents, *record.suppressions]
    spoken += [row for own in record.personal.values() for row in own]
    rows = {row.gguid: row.distribution_gguid for row in spoken}
    if bar.ref in rows:
        return rows[bar.ref] is None
    return any(
        f"unsubscriptions:{event.event_id}" == bar.ref and event.type == "NOT_IN_SYSTEM_UNSUBSCRIPTION"
        for event in record.events
    )


def _without_claim(claims: Sequence[Claim], held: HeldList | None, came_back: Evidence | None) -> tuple[Want, str]:
    """Nobody wants it: was it taken off by the CRM, or never ours?"""
    if any(claim.standing is Standing.INCOMPLETE for claim in claims):
        return Want.KEEP, "incomplete"
    if claims:
        newest_change = max((claim.changed_at for claim in claims if claim.changed_at), default=None)
        if came_back and newest_change and came_back.at > newest_change:
            return Want.KEEP, "subscribed_at_inxmail"
        return Want.UNSUBSCRIBED, "withdrawn"
    if held is not None and held.claims:
        return Want.UNSUBSCRIBED, "withdrawn"
    return Want.KEEP, "unclaimed"
