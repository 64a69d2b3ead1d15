"""All that is stored about one mailbox of one client. Reads only; statements in `history.sql`."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from connectors.postgres.failures import translated
from connectors.postgres.statements import load
from connectors.store.decisions import ClaimRow, FoldedRow
from schemas.debezium import Position
from schemas.facts import ListEvent, SubscriptionEvent, UnsubscriptionEvent
from schemas.mutations import DeliveryResult, Version


class Place(msgspec.Struct, frozen=True):
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int


class DecidedMailbox(msgspec.Struct, frozen=True):
    """What decide knows of a mailbox. `version`: of its newest mutation; `answered`: of its newest result."""

    mailbox: str
    email: str
    version: Version
    answered: Version
    result: DeliveryResult | None


class Heard(msgspec.Struct, frozen=True):
    """An entry of a log, and where it stands on the bus."""

    event: ListEvent
    place: Place


class Emitted(msgspec.Struct, frozen=True):
    """The newest record of one key. `body` is JSON, null for a tombstone; `place` is null until a broker has it."""

    topic: str
    key: str
    version: int
    body: str | None
    is_produced: bool
    place: Place | None
    caused_at: datetime
    changed_at: datetime


class Delivered(msgspec.Struct, frozen=True):
    """What the client's worker knows of a mailbox. `told`: the newest mutation it has read; null: none."""

    told: Version | None
    told_at: datetime | None
    answered: Version | None
    outcome: str | None
    error: str | None
    recipient_id: int | None
    rejected_values: dict[str, str]
    is_pending: bool
    changed_at: datetime | None


class ListState(msgspec.Struct, frozen=True):
    """One list as the client holds it, and why."""

    list_id: int
    state: str
    cause: str | None
    since: datetime | None


class Call(msgspec.Struct, frozen=True):
    """A call to the client. `failure`: why this mailbox's line of an import was refused."""

    op_id: str
    kind: str
    list_id: int | None
    version: Version | None
    outcome: str
    attempts: int
    opened_at: datetime
    ended_at: datetime | None
    remote_id: int | None
    failure: str | None


class History:
    """Questions about mailboxes of one client. Raises in every method: Unavailable, Misconfigured."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", client: str) -> None:
        self._connection = connection
        self._client = client
        self._sql = load("connectors.store", "history.sql")

    async def claims(self, hashes: Sequence[bytes], recipient: str | None) -> list[ClaimRow]:
        """The claims on the mailbox, and the recipient's own wherever it is."""
        return [ClaimRow(*row) for row in await self._fetch("claims", self._client, hashes, recipient)]

    async def mailbox(self, hashes: Sequence[bytes]) -> DecidedMailbox | None:
        """What decide knows of it."""
        rows = await self._fetch("mailboxes", self._client, hashes)
        if not rows:
            return None
        row = rows[-1]
        return DecidedMailbox(
            mailbox=row["mailbox"],
            email=row["email"],
            version=Version(row["epoch"], row["version"]),
            answered=Version(row["answered_epoch"], row["answered_version"]),
            result=msgspec.json.decode(row["result"], type=DeliveryResult) if row["result"] else None,
        )

    async def rows(self, persons: Sequence[str], hashes: Sequence[bytes], recipients: Sequence[str]) -> list[FoldedRow]:
        """Folded rows of these people, what they and others said of the mailbox, and every pattern; oldest first."""
        return [_folded(row) for row in await self._fetch("rows", persons, hashes, recipients)]

    async def structure(self) -> list[FoldedRow]:
        """The client, its bindings, and all distributions."""
        return [_folded(row) for row in await self._fetch("structure", self._client)]

    async def events(self, hashes: Sequence[bytes]) -> list[Heard]:
        """Entries of both logs, in the order of their ids."""
        return [
            Heard(
                msgspec.json.decode(
                    row["body"], type=SubscriptionEvent if row["stream"] == "subscriptions" else UnsubscriptionEvent
                ),
                _place(row),
            )
            for row in await self._fetch("events", self._client, hashes)
        ]

    async def emissions(self, keys: Sequence[tuple[str, str]], hashes: Sequence[bytes]) -> list[Emitted]:
        """The newest record of each (topic, key), and the suppressions that follow from the mailbox."""
        rows = await self._fetch("emissions", [topic for topic, _ in keys], [key for _, key in keys], hashes)
        return [
            Emitted(
                topic=row["topic"],
                key=row["key"],
                version=row["version"],
                body=row["body"],
                is_produced=row["emitted_version"] >= row["version"],
                place=_place(row) if row["offset"] is not None else None,
                caused_at=row["caused_at"],
                changed_at=row["changed_at"],
            )
            for row in rows
        ]

    async def delivered(self, mailbox: str) -> Delivered | None:
        """What the client's worker knows; None: it has never heard of the mailbox."""
        told = await self._fetch("desired", self._client, mailbox)
        held = await self._fetch("delivery", self._client, mailbox)
        if not told and not held:
            return None
        row = held[0] if held else None
        return Delivered(
            told=Version(told[0]["epoch"], told[0]["counter"]) if told else None,
            told_at=told[0]["received_at"] if told else None,
            answered=Version(row["epoch"], row["counter"]) if row and row["epoch"] is not None else None,
            outcome=row["outcome"] if row else None,
            error=row["error"] if row else None,
            recipient_id=row["recipient_id"] if row else None,
            rejected_values=msgspec.json.decode(row["rejected_values"], type=dict[str, str]) if row else {},
            is_pending=row["is_pending"] if row else True,
            changed_at=row["changed_at"] if row else None,
        )

    async def lists(self, mailbox: str) -> list[ListState]:
        """How the client's worker knows each list to be held."""
        return [ListState(**dict(row)) for row in await self._fetch("delivery_lists", self._client, mailbox)]

    async def calls(self, mailbox: str) -> list[Call]:
        """Every call about the mailbox, oldest first; an import that is forgotten by now does not appear."""
        return [
            Call(
                op_id=row["op_id"],
                kind=row["kind"],
                list_id=row["list_id"],
                version=Version(row["epoch"], row["counter"]) if row["epoch"] is not None else None,
                outcome=row["outcome"],
                attempts=row["attempts"],
                opened_at=row["opened_at"],
                ended_at=row["ended_at"],
                remote_id=row["remote_id"],
                failure=row["failure"],
            )
            for row in await self._fetch("calls", self._client, mailbox)
        ]

    async def _fetch(self, statement: str, *arguments: object) -> "list[asyncpg.Record]":
        async with translated():
            return await self._connection.fetch(self._sql[statement], *arguments)


def _folded(row: "asyncpg.Record") -> FoldedRow:
    return FoldedRow(
        entity=row["entity"],
        gguid=row["gguid"],
        position=Position(row["epoch"], row["lsn"]),
        live=row["live"],
        person=row["person"],
        email_hash=None,
        body=row["body"],
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        committed_at=row["committed_at"],
    )


def _place(row: "asyncpg.Record") -> Place:
    return Place(row["topic"], row["partition"], row["offset"])
