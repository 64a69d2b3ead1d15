"""The chain of what led to a mailbox's state: each stored thing in one sentence, with its time and its record. Pure.

Words here hold no personal data.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from connectors.kafka import catalogue
from connectors.smartwe.inspection import ShownStatus
from connectors.store.decisions import ClaimRow, FoldedRow
from connectors.store.history import Call, DecidedMailbox, Delivered, Emitted, Heard, ListState, Place
from schemas.crm import RecipientStatus, SuppressionRecord
from schemas.delivery import version_text
from schemas.errors import MalformedInput
from schemas.facts import SubscriptionEvent, meaning_of
from schemas.mutations import DeliveryResult, Lane, Mutation, Version
from schemas.smartwe import (
    Address,
    Binding,
    Client,
    Consent,
    Distribution,
    Recipient,
    Row,
    Suppression,
    read_row,
)
from streams.mailbox import evidence


class Kind(StrEnum):
    """What a step of the chain is."""

    CRM = "crm"
    """A row of the CRM as it now is; what it was before has been overwritten."""
    EVIDENCE = "evidence"
    EVENT = "event"
    DECISION = "decision"
    TOLD = "told"
    CALL = "call"
    RESULT = "result"
    SUPPRESSION = "suppression"
    STATUS = "status"
    WRITTEN = "written"


_ORDER: Final = {kind: number for number, kind in enumerate(Kind)}


class Step(msgspec.Struct, frozen=True):
    """One thing that happened. `ref`: GGUID, event id or op id; `place`: the record that tells it, if one does;
    `position`: of a CRM row, source epoch and LSN."""

    at: datetime
    kind: Kind
    what: str
    ref: str | None = None
    version: str | None = None
    place: Place | None = None
    position: str | None = None


class Gathered(msgspec.Struct, frozen=True):
    """All that is stored. `claims` hold addresses as they may be shown; `crm` is None when it could not be asked."""

    client: str
    email: str | None
    mailbox: str | None
    claims: tuple[ClaimRow, ...]
    decided: DecidedMailbox | None
    rows: tuple[FoldedRow, ...]
    events: tuple[Heard, ...]
    emissions: tuple[Emitted, ...]
    delivered: Delivered | None
    lists: tuple[ListState, ...]
    calls: tuple[Call, ...]
    crm: dict[str, ShownStatus] | None


def newest_mutation(found: Gathered) -> tuple[Mutation | None, Emitted | None]:
    """What was last asked of Inxmail for the mailbox, in whatever lane, and the record that asks it."""
    lanes = {catalogue.mutations(found.client, lane) for lane in Lane}
    asked = [
        (msgspec.json.decode(emitted.body, type=Mutation), emitted)
        for emitted in found.emissions
        if emitted.topic in lanes and emitted.key == found.mailbox and emitted.body is not None
    ]
    return max(asked, key=lambda each: each[0].version, default=(None, None))


def newest_statuses(found: Gathered) -> Iterator[tuple[RecipientStatus, Emitted]]:
    """What is said of each of its claims, and the records that say it."""
    for emitted in found.emissions:
        if emitted.topic == catalogue.RECIPIENT_STATUS and emitted.body is not None:
            yield msgspec.json.decode(emitted.body, type=RecipientStatus), emitted


def chain_of(found: Gathered) -> tuple[Step, ...]:
    """All of it, oldest first."""
    return tuple(sorted(_steps(found), key=_order))


def _order(step: Step) -> tuple[datetime, int]:
    return step.at, _ORDER[step.kind]


def _steps(found: Gathered) -> Iterator[Step]:
    mutation, emitted = newest_mutation(found)
    for row in found.rows:
        yield _row_step(row)
    for heard in found.events:
        yield _event_step(heard)
    if mutation is not None and emitted is not None:
        yield from _decision_steps(mutation, emitted)
    if found.delivered is not None and found.delivered.told is not None and found.delivered.told_at is not None:
        version = version_text(found.delivered.told)
        yield Step(found.delivered.told_at, Kind.TOLD, "the client's worker has it in hand", None, version)
    for call in found.calls:
        yield _call_step(call)
    if found.decided is not None and found.decided.result is not None:
        yield _result_step(found.decided.result)
    for status, record in newest_statuses(found):
        yield _status_step(status, record)
    for record in found.emissions:
        if record.topic == catalogue.SUPPRESSIONS and record.body is not None:
            said = msgspec.json.decode(record.body, type=SuppressionRecord)
            what = f"for the CRM ({said.reason}, scope {said.scope}), from log entry {said.event_id}"
            yield Step(record.changed_at, Kind.SUPPRESSION, what + _unproduced(record), said.gguid, None, record.place)
    for shown in (found.crm or {}).values():
        what = f"the CRM shows {shown.subscription_state} ({shown.state_reason}), {shown.sync_state}"
        version = version_text(Version(shown.pipeline_epoch, shown.pipeline_version))
        yield Step(shown.written_at, Kind.WRITTEN, what, shown.recipient, version)


def _row_step(row: FoldedRow) -> Step:
    place = Place(row.topic, row.partition, row.offset)
    columns: dict[str, Any] = msgspec.json.decode(row.body)
    position = f"{row.position.epoch}/{row.position.lsn}"
    try:
        typed = read_row(row.entity, columns)
    except MalformedInput as malformed:
        return Step(row.committed_at, Kind.CRM, str(malformed), row.gguid, None, place, position)
    if row.live and isinstance(typed, Consent | Suppression):
        at, what = _consent(typed) if isinstance(typed, Consent) else (typed.since, _suppression(typed))
        return Step(at, Kind.EVIDENCE, what, row.gguid, None, place, position)
    state = "" if row.live else ", deleted"
    if row.live and columns.get("deleted_at"):
        state = ", in the recycle bin"
    return Step(row.committed_at, Kind.CRM, row.entity + _columns(typed) + state, row.gguid, None, place, position)


def _columns(row: Row) -> str:
    """What the law reads of a row, where that tells nothing of a person."""
    match row:
        case Recipient():
            return f": desired {row.desired} ({row.desired_reason or 'no reason given'})"
        case Address(is_deactivated=True):
            return ": deactivated"
        case Client():
            return f": {row.state}"
        case Distribution():
            return ": asks for double opt-in" if row.requires_doi else ""
        case Binding():
            return f": {row.state}, direction {row.direction}, list {row.inxmail_list_id or 'missing'}"
    return ""


def _consent(row: Consent) -> tuple[datetime, str]:
    scope = _scope(row.baf_client_id, row.distribution_gguid)
    if row.kind in ("withdrawal", "objection"):
        return row.captured_at, f"consent {row.kind!r}: an objection to {scope}"
    if row.kind in ("tracking_grant", "tracking_deny"):
        return row.captured_at, f"consent {row.kind!r} for {scope}"
    return evidence.proven_at(row), f"consent {row.kind!r}: a proof of level {row.proof_level} for {scope}"


def _suppression(row: Suppression) -> str:
    means = "this mailbox" if row.match == "mailbox" else "a pattern"
    lifted = ", lifted" if row.lifted_by_consent_gguid else ""
    binned = ", in the recycle bin" if row.deleted_at else ""
    until = f", until {row.until:%Y-%m-%d}" if row.until else ""
    scope = _scope(row.baf_client_id, row.distribution_gguid)
    return f"suppression of {means} ({row.reason}) for {scope}{until}{lifted}{binned}"


def _scope(client: str | None, distribution: str | None) -> str:
    where = f"client {client}" if client else "every client"
    return f"distribution {distribution} in {where}" if distribution else where


def _event_step(heard: Heard) -> Step:
    event = heard.event
    log = "subscriptions" if isinstance(event, SubscriptionEvent) else "unsubscriptions"
    whose = f"the echo of our call {event.op_id}" if event.op_id else "not our doing"
    where = f"list {event.list_id}" if event.list_id is not None else "no list"
    what = f"{event.type} on {where}, read as {meaning_of(event)}: {whose}"
    return Step(event.occurred_at, Kind.EVENT, what, f"{log}:{event.event_id}", None, heard.place)


def _decision_steps(mutation: Mutation, emitted: Emitted) -> Iterator[Step]:
    version, at = version_text(mutation.version), emitted.caused_at
    cause = mutation.cause
    what = f"because of {cause.topic}/{cause.partition}/{cause.offset}, with {len(mutation.values)} values"
    yield Step(at, Kind.DECISION, what + _unproduced(emitted), mutation.leader, version, emitted.place)
    for wish in mutation.lists:
        proof = f"proof {wish.proof.ref} of level {wish.proof.level}" if wish.proof else "no proof"
        objection = f"objection {wish.objection.ref}" if wish.objection else "no objection"
        what = f"list {wish.list_id}: {wish.want}, by rule {wish.rule} ({proof}, {objection})"
        yield Step(at, Kind.DECISION, what, wish.binding, version, emitted.place)


def _call_step(call: Call) -> Step:
    where = f" on list {call.list_id}" if call.list_id else ""
    again = f" after {call.attempts} attempts" if call.attempts > 1 else ""
    refused = f"; this mailbox was refused: {call.failure}" if call.failure else ""
    version = version_text(call.version) if call.version else None
    return Step(call.opened_at, Kind.CALL, f"{call.kind}{where}: {call.outcome}{again}{refused}", call.op_id, version)


def _result_step(result: DeliveryResult) -> Step:
    lists = ", ".join(f"list {held.list_id} {held.state}" for held in result.lists) or "no list"
    fault = f", {result.error}" if result.error else ""
    remote = f"recipient {result.recipient_id}" if result.recipient_id is not None else "no recipient"
    version = version_text(result.version) if result.version else None
    return Step(result.at, Kind.RESULT, f"{result.outcome}{fault}: {remote}, {lists}", None, version)


def _status_step(status: RecipientStatus, record: Emitted) -> Step:
    error = f", {status.last_error_code}" if status.last_error_code else ""
    what = f"for the CRM: {status.subscription_state} ({status.state_reason}), {status.sync_state}{error}"
    version = version_text(Version(status.epoch, status.version))
    return Step(record.changed_at, Kind.STATUS, what + _unproduced(record), status.recipient, version, record.place)


def _unproduced(record: Emitted) -> str:
    return "" if record.is_produced else "; not on the bus yet"
