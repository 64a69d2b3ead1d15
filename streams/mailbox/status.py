"""What a CRM user sees of one recipient: region S with its reason, and how far the pipeline has come. Pure."""

from datetime import datetime

from schemas.crm import RecipientStatus, SubscriptionState, SyncState
from schemas.mutations import DeliveryResult, Evidence, Held, HeldList, Outcome, Version, Want
from streams.mailbox.claims import Claim, Standing
from streams.mailbox.rule import Ruling

TEXTS = {
    "email_change_held": "Die neue E-Mail-Adresse wartet auf Übernahme; bis dahin gilt die bisherige. / "
    "The new e-mail address waits to be taken over; the former one stays in force.",
    "email_impossible": "Die E-Mail-Adresse kann keine gültige Adresse sein. / The e-mail address cannot be valid.",
    "objected": "Die Person hat sich abgemeldet; eine neue Anmeldung braucht einen jüngeren Nachweis. / "
    "The person left; subscribing again needs a newer proof.",
    "no_proof": "Es fehlt ein Einwilligungsnachweis der nötigen Stufe. / "
    "A proof of consent of the needed level is missing.",
    "blocked": "Die Adresse ist gesperrt. / The address is blocked.",
    "quarantined": "Inxmail hat die Übertragung abgelehnt. / Inxmail refused the transfer.",
    "list_closed": "Die Verknüpfung mit der Liste ruht. / The link to the list is not active.",
}
"""Error code → text for CRM users, German first."""


def status_of(
    claim: Claim,
    *,
    mailbox: str | None,
    ruling: Ruling | None,
    held: DeliveryResult | None,
    leader: str | None,
    asked: Version | None,
    version: Version,
) -> RecipientStatus:
    """The status row of a claim.

    `ruling` is None where the claim has no mailbox or its distribution no list; `asked` is the mailbox's newest
    mutation, None when none was needed; `version` orders the records of this row.
    """
    wish = ruling.wish if ruling else None
    state = _held_list(held, wish.list_id) if wish else None
    subscription, reason, since, event = _state(claim, ruling, state)
    sync, code = _progress(claim, reason, held, asked, wish is not None and wish.rule == "list_closed")
    subscribed = subscription is SubscriptionState.SUBSCRIBED
    return RecipientStatus(
        recipient=claim.gguid,
        epoch=version.epoch,
        version=version.counter,
        client=claim.recipient.baf_client_id,
        email_used=claim.email,
        mailbox_ref=mailbox,
        inxmail_recipient_id=held.recipient_id if held else None,
        subscription_state=subscription,
        state_reason=reason,
        state_since=since,
        state_event_id=event,
        subscribed_at=state.since if subscribed and state else None,
        unsubscribed_at=since if subscription is SubscriptionState.UNSUBSCRIBED else None,
        is_leading=claim.gguid == leader,
        is_unproven=wish is not None and wish.rule == "subscribed_at_inxmail",
        is_frozen=wish is not None and wish.rule == "unsettled",
        sync_state=sync,
        last_synced_at=held.at if held else None,
        last_error_code=code,
        last_error_text=TEXTS.get(code) if code else None,
        desired_hash=held.desired_hash if held else None,
    )


def _held_list(held: DeliveryResult | None, list_id: int) -> HeldList | None:
    return next((state for state in held.lists if state.list_id == list_id), None) if held else None


_State = tuple[SubscriptionState, str, datetime | None, str | None]


def _state(claim: Claim, ruling: Ruling | None, state: HeldList | None) -> _State:
    objection = ruling.wish.objection if ruling else None
    match claim.standing:
        case Standing.EMAIL_IMPOSSIBLE:
            return SubscriptionState.REJECTED, claim.standing.value, None, None
        case Standing.INCOMPLETE:
            return SubscriptionState.PROPOSED, claim.standing.value, None, None
        case Standing.PERSON_REQUEST:
            return _because(SubscriptionState.UNSUBSCRIBED, claim.standing.value, objection)
        case Standing.MEMBER:
            return _member_state(claim, ruling, state)
    if ruling is not None and ruling.wish.rule in ("objected", "blocked"):
        return _because(_REFUSALS[ruling.wish.rule], ruling.wish.rule, objection)
    return SubscriptionState.WITHDRAWN, claim.standing.value, None, None


_REFUSALS = {
    "objected": SubscriptionState.UNSUBSCRIBED,
    "blocked": SubscriptionState.BLOCKED,
    "no_proof": SubscriptionState.REJECTED,
}


def _member_state(claim: Claim, ruling: Ruling | None, state: HeldList | None) -> _State:
    if ruling is None:
        return SubscriptionState.PROPOSED, "list_missing", None, None
    wish = ruling.wish
    subscribed = state is not None and state.state is Held.SUBSCRIBED
    if wish.want is Want.SUBSCRIBED and claim.gguid in ruling.refused:
        bar = ruling.refused[claim.gguid]
        return (
            _because(SubscriptionState.UNSUBSCRIBED, "objected", bar)
            if bar
            else (SubscriptionState.REJECTED, "no_proof", None, None)
        )
    if wish.rule in _REFUSALS:
        return _because(_REFUSALS[wish.rule], wish.rule, wish.objection)
    if subscribed and state is not None:
        return SubscriptionState.SUBSCRIBED, wish.rule, state.since, state.cause
    return SubscriptionState.PROPOSED, wish.rule, None, None


def _because(state: SubscriptionState, rule: str, evidence: Evidence | None) -> _State:
    return state, rule, evidence.at if evidence else None, evidence.ref if evidence else None


def _progress(
    claim: Claim, reason: str, held: DeliveryResult | None, asked: Version | None, closed: bool
) -> tuple[SyncState, str | None]:
    """Region Y, and the error code that a user sees."""
    shown = reason if reason in TEXTS else None
    if claim.held_for is not None:
        return SyncState.HELD, "email_change_held"
    if claim.standing is Standing.EMAIL_IMPOSSIBLE:
        return SyncState.QUARANTINED, claim.standing.value
    if closed:
        return SyncState.HELD, "list_closed"
    if held is not None and held.outcome is Outcome.QUARANTINED and held.version == asked:
        return SyncState.QUARANTINED, held.error or "quarantined"
    if asked is not None and (held is None or held.version is None or held.version < asked):
        return SyncState.DIRTY, shown
    if held is not None and held.rejected_values:
        return SyncState.QUARANTINED, sorted(held.rejected_values.values())[0]
    return SyncState.IN_SYNC, shown
