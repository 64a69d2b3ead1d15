"""From folded rows to what the law looks at: persons, claims, mailboxes. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from connectors.store.decisions import ClaimRow, Record
from schemas.facts import ListEvent, SubscriptionEvent, UnsubscriptionEvent
from schemas.ids import KeyRing, normalise_email
from schemas.mutations import DeliveryResult
from schemas.smartwe import Address, Consent, Profile, Recipient, Suppression, read_row
from streams.mailbox import evidence
from streams.mailbox.claims import NOBODY, Claim, Person, claim_of
from streams.mailbox.desired import MailboxView
from streams.mailbox.evidence import Record as OnRecord
from streams.mailbox.structure import Structure

Place = tuple[bytes, str]
"""(e-mail hash, client): a mailbox, before its spelling is known."""


def claims_from(rows: Iterable[Record], structure: Structure) -> dict[str, Claim]:
    """The claims that live recipients make, by GGUID. Shape: (entity, gguid, person, body)."""
    addresses: dict[str, tuple[Address, Mapping[str, Any]]] = {}
    profiles: defaultdict[str, dict[str, tuple[Profile, Mapping[str, Any]]]] = defaultdict(dict)
    recipients: list[tuple[Recipient, Mapping[str, Any]]] = []
    for row in rows:
        columns = msgspec.json.decode(row["body"])
        match read_row(row["entity"], columns):
            case Address() as address:
                addresses[address.gguid] = address, columns
            case Profile() as profile:
                profiles[profile.address_gguid][profile.gguid] = profile, columns
            case Recipient(deleted_at=None) as recipient:
                recipients.append((recipient, columns))
    people = {
        gguid: Person(
            address=address,
            columns=columns,
            profiles={key: profile for key, (profile, _) in profiles[gguid].items()},
            profile_columns={key: columns for key, (_, columns) in profiles[gguid].items()},
        )
        for gguid, (address, columns) in addresses.items()
    }
    return {
        recipient.gguid: claim_of(recipient, columns, people.get(recipient.address_gguid, NOBODY), structure)
        for recipient, columns in recipients
    }


def mailbox_views(
    claim_rows: Iterable[ClaimRow],
    claims: Mapping[str, Claim],
    mailboxes: Iterable[Record],
    facts: Iterable[Record],
    on_record: Iterable[Record],
    structure: Structure,
    ring: KeyRing,
) -> list[tuple[bytes, MailboxView]]:
    """Everything known of each mailbox, in every client that knows it, with its e-mail hash; in a fixed order."""
    emails: dict[Place, str] = {}
    claimed: defaultdict[Place, list[Claim]] = defaultdict(list)
    for claim_row in claim_rows:
        if claim_row.email_hash is not None and claim_row.email is not None and claim_row.recipient in claims:
            claimed[claim_row.email_hash, claim_row.client].append(claims[claim_row.recipient])
            emails[claim_row.email_hash, claim_row.client] = claim_row.email
    held: dict[Place, DeliveryResult] = {}
    for row in mailboxes:
        place = row["email_hash"], row["client"]
        emails[place] = row["email"]
        if row["result"] is not None:
            held[place] = msgspec.json.decode(row["result"], type=DeliveryResult)
    events: defaultdict[Place, list[ListEvent]] = defaultdict(list)
    for row in facts:
        event = _event(row)
        if email := normalise_email(event.email or ""):
            events[row["email_hash"], row["client"]].append(event)
            emails.setdefault((row["email_hash"], row["client"]), email)
    consents, suppressions, personal = _by_whom(on_record)
    return [
        (
            email_hash,
            MailboxView(
                client=client,
                mailbox=ring.mailbox_ref(client, email),
                email=email,
                claims=tuple(sorted(claimed[email_hash, client], key=lambda claim: claim.gguid)),
                record=OnRecord(
                    consents=tuple(consents[email_hash]),
                    suppressions=(
                        *suppressions[email_hash],
                        *(pattern for pattern in structure.patterns if evidence.matches(pattern, email)),
                    ),
                    events=tuple(sorted(events[email_hash, client], key=lambda event: event.event_id)),
                    personal={
                        person: tuple(consent for found, consent in personal[person] if found != email_hash)
                        for person in sorted({claim.recipient.address_gguid for claim in claimed[email_hash, client]})
                        if person in personal
                    },
                ),
                held=held.get((email_hash, client)),
            ),
        )
        for (email_hash, client), email in sorted(emails.items())
    ]


def _event(row: Record) -> ListEvent:
    kind = SubscriptionEvent if row["stream"] == "subscriptions" else UnsubscriptionEvent
    event: ListEvent = msgspec.json.decode(row["body"], type=kind)
    return event


_Consents = defaultdict[bytes, list[Consent]]
_Suppressions = defaultdict[bytes, list[Suppression]]
_Personal = defaultdict[str, list[tuple[bytes | None, Consent]]]


def _by_whom(rows: Iterable[Record]) -> tuple[_Consents, _Suppressions, _Personal]:
    """Consents and suppressions by mailbox, and consents by person with the mailbox that each is about."""
    consents: _Consents = defaultdict(list)
    suppressions: _Suppressions = defaultdict(list)
    personal: _Personal = defaultdict(list)
    for row in rows:
        match read_row(row["entity"], msgspec.json.decode(row["body"])):
            case Consent() as consent:
                if row["email_hash"] is not None:
                    consents[row["email_hash"]].append(consent)
                if consent.address_gguid is not None:
                    personal[consent.address_gguid].append((row["email_hash"], consent))
            case Suppression() as suppression:
                suppressions[row["email_hash"]].append(suppression)
    return consents, suppressions, personal
