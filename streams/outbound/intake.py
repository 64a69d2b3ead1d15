"""A batch of records, read and sorted: rows, facts, results, and what cannot be read. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from connectors.kafka.records import Message
from connectors.store.decisions import FoldedFact, FoldedResult, FoldedRow
from schemas import codec
from schemas.debezium import Op, epoch_of, parse_change
from schemas.errors import MalformedInput, PipelineError
from schemas.facts import ListEvent, Meaning, SubscriptionEvent, UnsubscriptionEvent, meaning_of
from schemas.ids import KeyRing, normalise_email
from schemas.mutations import Cause, DeliveryResult
from schemas.smartwe import ROW_TYPES, Consent, Row, Suppression, read_row
from streams.mailbox.evidence import PROOFS

STRUCTURE = frozenset({"baf_client", "distribution", "distribution_binding", "field_mapping"})
"""Tables whose rows concern many mailboxes at once."""

Key = TypeVar("Key", str, bytes)
Parked = tuple[Message, PipelineError]


class Touched(msgspec.Struct):
    """Whom a record concerns."""

    persons: set[str] = msgspec.field(default_factory=set)
    hashes: set[bytes] = msgspec.field(default_factory=set)


class Intake(msgspec.Struct):
    """What a batch brings. One row for each key and one result for each mailbox: the newest."""

    rows: dict[tuple[str, str], FoldedRow] = msgspec.field(default_factory=dict)
    wide: dict[str, tuple[Row, Cause]] = msgspec.field(default_factory=dict)
    """By GGUID: structure rows and patterns, as they now are or last were."""
    facts: dict[tuple[str, str, int], FoldedFact] = msgspec.field(default_factory=dict)
    results: dict[tuple[str, str], FoldedResult] = msgspec.field(default_factory=dict)
    persons: dict[str, Cause] = msgspec.field(default_factory=dict)
    """Person → the newest record that concerns her."""
    hashes: dict[bytes, Cause] = msgspec.field(default_factory=dict)
    """Mailbox → the newest record that concerns it."""
    urgent: Touched = msgspec.field(default_factory=Touched)
    """Those of both of whom an objection may have come: they are never left to rest."""
    parked: list[Parked] = msgspec.field(default_factory=list)


def intake_of(messages: Sequence[tuple[Message, Mapping[str, Any] | MalformedInput]], ring: KeyRing) -> Intake:
    """Sort decoded messages; `messages` pairs each with its decoded value, or with why it could not be decoded."""
    intake = Intake()
    for message, decoded in messages:
        try:
            if isinstance(decoded, MalformedInput):
                raise decoded
            _take(intake, message, decoded, ring)
        except MalformedInput as error:
            intake.parked.append((message, error))
    return intake


def _take(intake: Intake, message: Message, decoded: Mapping[str, Any], ring: KeyRing) -> None:
    match message.topic.split("."):
        case [_, "crm", table]:
            _take_row(intake, message, table, decoded, ring)
        case ["inxmail", _, "subscriptions"]:
            _take_event(intake, message, codec.read(decoded, SubscriptionEvent), "subscriptions", ring)
        case ["inxmail", _, "unsubscriptions"]:
            _take_event(intake, message, codec.read(decoded, UnsubscriptionEvent), "unsubscriptions", ring)
        case ["inxmail", _, "results"]:
            _take_result(intake, message, codec.read(decoded, DeliveryResult), ring)
        case _:
            raise MalformedInput("nobody here reads this topic")


def _take_row(intake: Intake, message: Message, table: str, decoded: Mapping[str, Any], ring: KeyRing) -> None:
    if table not in ROW_TYPES:
        raise MalformedInput(f"table {table} is not folded")
    change = parse_change(decoded, epoch=epoch_of(message.headers))
    row = read_row(table, change.row)
    hashes = email_hashes_of(row, ring)
    folded = FoldedRow(
        entity=table,
        gguid=row.gguid,
        position=change.position,
        live=change.op is not Op.DELETE,
        person=person_of(table, row),
        email_hash=hashes[0] if hashes else None,
        body=msgspec.json.encode(change.row).decode(),
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        committed_at=change.committed_at,
    )
    cause = Cause(message.topic, message.partition, message.offset, change.committed_at)
    known = intake.rows.get((table, row.gguid))
    if known is None or folded.position >= known.position:
        intake.rows[table, row.gguid] = folded
    if table in STRUCTURE or (isinstance(row, Suppression) and row.match == "pattern"):
        intake.wide[row.gguid] = row, cause
    if folded.person is not None:
        _newest(intake.persons, folded.person, cause)
    for email_hash in hashes:
        _newest(intake.hashes, email_hash, cause)
    if _may_object(row, change.op):
        intake.urgent.hashes.update(hashes)
        if folded.person is not None:
            intake.urgent.persons.add(folded.person)


def _may_object(row: Row, op: Op) -> bool:
    """Whether somebody may have to be left alone because of this row: all evidence but a proof that is new."""
    match row:
        case Consent():
            return row.kind not in PROOFS or op not in (Op.CREATE, Op.READ)
        case Suppression():
            return True
    return False


def person_of(table: str, row: Row) -> str | None:
    """The address to which a row belongs."""
    return row.gguid if table == "address" else getattr(row, "address_gguid", None)


def email_hashes_of(row: Row, ring: KeyRing) -> list[bytes]:
    """The mailbox that a consent or suppression is about."""
    if isinstance(row, Consent) and row.email and (email := normalise_email(row.email)):
        return [ring.email_hash(email)]
    if isinstance(row, Suppression) and row.email_hmac is not None:
        return [row.email_hmac]
    return []


def _take_event(intake: Intake, message: Message, event: ListEvent, stream: str, ring: KeyRing) -> None:
    email = normalise_email(event.email) if event.email else None
    fact = FoldedFact(
        client=event.client,
        stream=stream,
        event_id=event.event_id,
        list_id=event.list_id,
        mailbox=ring.mailbox_ref(event.client, email) if email else None,
        email_hash=ring.email_hash(email) if email else None,
        body=msgspec.json.encode(event).decode(),
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
    )
    intake.facts.setdefault((event.client, stream, event.event_id), fact)
    if fact.email_hash is not None:
        _newest(intake.hashes, fact.email_hash, _event_cause(message, event.occurred_at))
        if isinstance(event, UnsubscriptionEvent) and event.op_id is None:
            intake.urgent.hashes.add(fact.email_hash)
    if meaning_of(event) is Meaning.UNKNOWN:  # kept, so that nothing is subscribed meanwhile, and shown to a person
        intake.parked.append((message, MalformedInput(f"an entry of {stream} has a type that is not known")))


def _event_cause(message: Message, at: datetime) -> Cause:
    return Cause(message.topic, message.partition, message.offset, at)


def _take_result(intake: Intake, message: Message, result: DeliveryResult, ring: KeyRing) -> None:
    email_hash = ring.email_hash(result.email)
    folded = FoldedResult(
        client=result.client,
        mailbox=result.mailbox,
        email=result.email,
        email_hash=email_hash,
        answered_epoch=result.version.epoch if result.version else 0,
        answered_version=result.version.counter if result.version else 0,
        claims=result.claims if result.recipient_id is not None else (),
        recipient_id=result.recipient_id,
        at=result.at,
        body=msgspec.json.encode(result).decode(),
    )
    known = intake.results.get((result.client, result.mailbox))
    if known is None or folded.at >= known.at:
        intake.results[result.client, result.mailbox] = folded
    _newest(intake.hashes, email_hash, _event_cause(message, result.at))


def _newest(causes: dict[Key, Cause], key: Key, cause: Cause) -> None:
    known = causes.get(key)
    if known is None or cause.committed_at >= known.committed_at:
        causes[key] = cause
