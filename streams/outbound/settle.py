"""Settle persons and mailboxes: claims from folded rows, decisions from claims, records from decisions.

Runs inside one transaction that already holds the structure lock and the locks of the persons. The order of its steps
is what keeps two workers from each missing the other's row: every mailbox that may change is locked before anything is
decided, and what is decided on is read after the last lock.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache

import msgspec

from connectors.kafka import catalogue
from connectors.store.decisions import ClaimRow, Decisions, EmissionRow, MailboxRow
from schemas.crm import RecipientStatus, SuppressionRecord
from schemas.facts import UnsubscriptionEvent
from schemas.ids import KeyRing
from schemas.mutations import Cause, Lane, Mutation, Version
from schemas.smartwe import read_row
from streams.mailbox import email_change
from streams.mailbox.claims import Claim
from streams.mailbox.desired import Desired, MailboxView, desired_mailbox, hash_of, is_to_be_told, lane_of
from streams.mailbox.status import status_of
from streams.mailbox.structure import Structure, structure_of
from streams.outbound.emissions import Emissions, digest_of
from streams.outbound.suppressions import suppression_gguid, suppressions_from
from streams.outbound.views import claims_from, mailbox_views


class Law(msgspec.Struct, frozen=True):
    """What decisions depend on beside the rows."""

    ring: KeyRing
    skew: timedelta
    rebuild_epoch: int


class Causes(msgspec.Struct, frozen=True):
    """Which record led to what; `fallback` for whatever no record of the batch names."""

    persons: Mapping[str, Cause]
    hashes: Mapping[bytes, Cause]
    fallback: Cause

    def of(self, email_hash: bytes, claims: Iterable[Claim]) -> Cause:
        """The newest record that concerns this mailbox or who claims it."""
        found = [
            self.persons[claim.recipient.address_gguid]
            for claim in claims
            if claim.recipient.address_gguid in self.persons
        ]
        if email_hash in self.hashes:
            found.append(self.hashes[email_hash])
        return max(found, key=lambda cause: cause.committed_at, default=self.fallback)


async def settle(
    store: Decisions,
    law: Law,
    *,
    persons: Iterable[str],
    hashes: Iterable[bytes],
    causes: Causes,
    at: datetime,
    is_backlog: bool = False,
) -> list[EmissionRow]:
    """Bring claims and mailboxes of these persons and e-mail hashes up to date. A mailbox that nobody knows is none.

    Returns the records to produce once the transaction is committed. `at`: the present time, for evidence that ends.
    `is_backlog`: it is not what just happened to one person, so it may travel behind that.
    """
    touched = sorted(set(persons))
    structure = structure_of(
        read_row(row["entity"], msgspec.json.decode(row["body"])) for row in await store.structure()
    )
    # 1. Which claims these persons now make, where they stood, and which mailboxes serve them.
    claims = claims_from(await store.rows_of_persons(touched), structure) if touched else {}
    stood = {row["recipient"]: row["email_hash"] for row in await store.claims_of_persons(touched)} if touched else {}
    served: defaultdict[str, set[email_change.Place]] = defaultdict(set)
    concerned = set(hashes) | {email_hash for email_hash in stood.values() if email_hash is not None}
    claimed = {law.ring.email_hash(claim.email) for claim in claims.values() if claim.email is not None}
    concerned |= claimed
    for row in await store.predecessors(sorted(claims)):
        served[row["recipient"]].add((row["client"], row["email"]))
        concerned.add(row["email_hash"])
    # 2. The last locks. Everything below is read after them.
    await store.lock_emails(concerned)
    concerned = claimed | await store.known_mailboxes(concerned - claimed)
    own = claims.keys() | stood.keys()
    present = [row for row in await store.claims_on_mailboxes(concerned) if row.recipient not in own]
    others = {(row.client, row.email) for row in present if row.email is not None}
    claims = email_change.settled(claims, served, others)
    rows = [_claim_row(claim, law.ring) for claim in claims.values()]
    gone = sorted(stood.keys() - claims.keys())
    await store.put_claims(rows)
    await store.drop_claims(gone)
    # 3. The mailboxes with every claim on them, also those of other persons.
    strangers = {row.person for row in present} - set(touched)
    theirs = claims_from(await store.rows_of_persons(strangers), structure) if strangers else {}
    everybody = claims | {
        row.recipient: msgspec.structs.replace(theirs[row.recipient], email=row.email, held_for=row.held_for)
        for row in present
        if row.recipient in theirs
    }
    views = mailbox_views(
        [row for row in (*present, *rows) if row.email_hash in concerned],
        everybody,
        await store.mailboxes(concerned),
        await store.facts_on_mailboxes(concerned),
        await store.evidence(concerned, {*touched, *strangers}),
        structure,
        law.ring,
    )
    # 4. Decide, and keep what is new.
    emissions = Emissions(law.rebuild_epoch)
    await emissions.know(store, _keys(views, everybody, gone))
    mailboxes = []
    for email_hash, view in views:
        cause = causes.of(email_hash, view.claims)
        desired = desired_mailbox(view, structure, at=at, skew=law.skew)
        asked = _ask(emissions, view, desired, email_hash, cause, is_backlog=is_backlog)
        if asked is not None:
            mailboxes.append(_mailbox_row(view, desired, email_hash, asked))
        awaited = asked is not None and (view.held is None or view.held.version != asked)
        for claim in view.claims:
            _report(emissions, claim, view, desired, asked, structure, cause, may_wait=is_backlog and awaited)
        for record in suppressions_from(view, structure, email_hash):
            _suppress(emissions, record, cause)
    for claim in claims.values():
        if claim.email is None:
            cause = causes.persons.get(claim.recipient.address_gguid, causes.fallback)
            _report(emissions, claim, None, None, None, structure, cause)
    for recipient in gone:
        emissions.bury(catalogue.RECIPIENT_STATUS, recipient, "recipient-status", causes.fallback.committed_at)
    await store.put_mailboxes(mailboxes)
    await store.put_emissions(emissions.changed)
    return emissions.to_produce


def _claim_row(claim: Claim, ring: KeyRing) -> ClaimRow:
    row = claim.recipient
    return ClaimRow(
        recipient=row.gguid,
        person=row.address_gguid,
        client=row.baf_client_id,
        distribution=row.distribution_gguid,
        email=claim.email,
        email_hash=ring.email_hash(claim.email) if claim.email is not None else None,
        held_for=claim.held_for,
    )


def _keys(
    views: Iterable[tuple[bytes, MailboxView]], claims: Iterable[str], gone: Iterable[str]
) -> list[tuple[str, str]]:
    """Every (topic, key) that may be written, each once."""
    keys = {(catalogue.RECIPIENT_STATUS, gguid) for gguid in (*claims, *gone)}
    for _, view in views:
        keys |= {(topic, view.mailbox) for topic in _lanes(view.client).values()}
        keys |= {
            (catalogue.SUPPRESSIONS, suppression_gguid(event))
            for event in view.record.events
            if isinstance(event, UnsubscriptionEvent)
        }
    return sorted(keys)


@cache
def _lanes(client: str) -> Mapping[Lane, str]:
    """The topic of each of a client's lanes."""
    return {lane: catalogue.mutations(client, lane) for lane in Lane}


def _ask(
    emissions: Emissions, view: MailboxView, desired: Desired, email_hash: bytes, cause: Cause, *, is_backlog: bool
) -> Version | None:
    """Emit the mutation if its content is new; the version that stands, None where delivery need not hear of it."""
    topics = _lanes(view.client)
    known = emissions.version_of(topics.values(), view.mailbox)
    if known is None and not is_to_be_told(desired, view.held):
        return None
    digest = hash_of(desired)
    lane = lane_of(desired, view.held, known, is_backlog=is_backlog)

    def build(version: Version) -> Mutation:
        return Mutation(
            client=view.client,
            mailbox=view.mailbox,
            version=version,
            email=desired.email,
            leader=desired.leader,
            claims=desired.claims,
            values=desired.values,
            lists=desired.lists,
            desired_hash=digest,
            cause=cause,
        )

    return emissions.put(
        topics[lane],
        view.mailbox,
        "mutation",
        digest,
        build,
        cause.committed_at,
        email_hash,
        among=topics.values(),
    )


def _mailbox_row(view: MailboxView, desired: Desired, email_hash: bytes, asked: Version) -> MailboxRow:
    return MailboxRow(
        client=view.client,
        mailbox=view.mailbox,
        email=view.email,
        email_hash=email_hash,
        claims=desired.claims,
        wanted=desired.wanted,
        epoch=asked.epoch,
        version=asked.counter,
    )


def _report(
    emissions: Emissions,
    claim: Claim,
    view: MailboxView | None,
    desired: Desired | None,
    asked: Version | None,
    structure: Structure,
    cause: Cause,
    *,
    may_wait: bool = False,
) -> None:
    """Emit the claim's status if its content is new. `may_wait`: the client's answer will bring another in a moment."""
    binding = structure.bindings.get((claim.recipient.distribution_gguid, claim.recipient.baf_client_id))
    list_id = binding.inxmail_list_id if binding is not None else None
    status = status_of(
        claim,
        mailbox=view.mailbox if view else None,
        ruling=desired.rulings.get(list_id) if desired is not None and list_id is not None else None,
        held=view.held if view else None,
        leader=desired.leader if desired else None,
        asked=asked,
        version=Version(0, 0),
    )

    def build(version: Version) -> RecipientStatus:
        return msgspec.structs.replace(status, epoch=version.epoch, version=version.counter)

    emissions.put(
        catalogue.RECIPIENT_STATUS,
        claim.gguid,
        "recipient-status",
        digest_of(status),
        build,
        cause.committed_at,
        None,
        may_wait=may_wait,
    )


def _suppress(emissions: Emissions, record: SuppressionRecord, cause: Cause) -> None:
    def build(version: Version) -> SuppressionRecord:
        return msgspec.structs.replace(record, epoch=version.epoch, version=version.counter)

    emissions.put(
        catalogue.SUPPRESSIONS,
        record.gguid,
        "suppression-record",
        digest_of(record),
        build,
        cause.committed_at,
        record.email_hmac,
    )
