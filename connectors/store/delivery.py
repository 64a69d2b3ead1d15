"""What is wanted of each mailbox and what the client holds of it. Statements stand in `delivery.sql`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from connectors.postgres.statements import load
from connectors.store.listening import Connection, Listening
from schemas.delivery import HeldMailbox, Refusal, Settled, attribute_scope
from schemas.facts import ListEvent
from schemas.mutations import DeliveryResult, Held, HeldList, Lane, Mutation, Outcome, Version

_SQL = load("connectors.store", "delivery.sql")

Record = asyncpg.Record
Values = dict[str, str | None]

_mutations = msgspec.json.Decoder(Mutation)
_values = msgspec.json.Decoder(dict[str, str | None])
_refusals = msgspec.json.Decoder(dict[str, Refusal])
_claims = msgspec.json.Decoder(tuple[str, ...])
_codes = msgspec.json.Decoder(dict[str, str])
_names = msgspec.json.Decoder(dict[str, msgspec.Raw])

T = TypeVar("T")

_LANES: Final = tuple(Lane)
_RANKS: Final = {lane: rank for rank, lane in enumerate(Lane)}
_UNSETTLED: Final = Settled()


def as_json(thing: object) -> str:
    """What a jsonb column takes."""
    return msgspec.json.encode(thing).decode()


class ReadRecipient(msgspec.Struct, frozen=True):
    """A recipient as the client shows it. `values`: attribute id → canonical value."""

    mailbox: str
    email: str
    remote_email: str
    recipient_id: int
    values: Values


class Confirmed(msgspec.Struct, frozen=True):
    """A row of an import that succeeded. `dirt`: at which the mailbox stood when it was planned."""

    mailbox: str
    dirt: int
    values: Values
    recipient_id: int | None
    remote_email: str | None
    answer: Settled


class Unreported(msgspec.Struct, frozen=True):
    """A result that is to be told, and the revision that it tells."""

    result: DeliveryResult
    revision: int


class Deliveries:
    """Tables `desired`, `delivery` and `delivery_list` of one client."""

    def __init__(self, connection: Connection, client: str) -> None:
        self._connection = connection
        self._client = client

    async def want(self, mutations: Sequence[Mutation], lane: Lane) -> list[str]:
        """Keep each mutation unless a newer one is known. One for each mailbox. Gives the mailboxes that changed."""
        found = await self._connection.fetch(
            _SQL["put_desired"],
            self._client,
            [mutation.mailbox for mutation in mutations],
            [mutation.version.epoch for mutation in mutations],
            [mutation.version.counter for mutation in mutations],
            [mutation.email for mutation in mutations],
            [as_json(mutation) for mutation in mutations],
            _RANKS[lane],
        )
        return [row["mailbox"] for row in found]

    async def is_new(self) -> bool:
        """Whether no mutation was ever taken in: the tables are new, or were lost."""
        new: bool = await self._connection.fetchval(_SQL["is_new"], self._client)
        return new

    async def dirty(self, after: tuple[Lane, str], most: int) -> dict[Lane, list[str]]:
        """The next mailboxes that are to be looked at, after this one in the order of lanes and refs."""
        lane, mailbox = after
        found: dict[Lane, list[str]] = {}
        for row in await self._connection.fetch(_SQL["dirty"], self._client, _RANKS[lane], mailbox, most):
            found.setdefault(_LANES[row["lane"]], []).append(row["mailbox"])
        return found

    async def dirty_among(self, mailboxes: Sequence[str]) -> list[str]:
        """Those of these that are to be looked at."""
        found = await self._connection.fetch(_SQL["dirty_among"], self._client, mailboxes)
        return [row["mailbox"] for row in found]

    async def mailboxes(self, mailboxes: Sequence[str]) -> list[HeldMailbox]:
        """All that is known of these, for planning. One that nobody knows is left out."""
        found = await self._connection.fetch(_SQL["mailboxes"], self._client, mailboxes)
        lists = await self.lists_of(mailboxes)
        opened: dict[str, set[int]] = {}
        for row in await self._connection.fetch(_SQL["open_lists"], self._client, mailboxes):
            opened.setdefault(row["mailbox"], set()).add(row["list_id"])
        heard = await Listening(self._connection, self._client).heard(mailboxes)
        return [
            _held(
                row,
                lists[row["mailbox"]],
                frozenset(opened.get(row["mailbox"], ())),
                tuple(heard.get(row["mailbox"], ())),
            )
            for row in found
        ]

    async def settle(self, answers: Sequence[tuple[HeldMailbox, Settled, Mapping[int, tuple[str, ...]]]]) -> None:
        """What was seen is done: the answer to each mutation, and for whom lists are held (list id → claims)."""
        claims = [
            (held.mailbox, list_id, as_json(named))
            for held, _, changed in answers
            for list_id, named in changed.items()
        ]
        if claims:
            await self._connection.execute(_SQL["claim_lists"], self._client, *_columns(claims))
        rows = [
            (
                held.mailbox,
                held.dirt,
                settled.version.epoch if settled.version else None,
                settled.version.counter if settled.version else None,
                settled.desired_hash,
                settled.outcome.value,
                settled.error,
                settled.leader,
                as_json(settled.claims),
                as_json(settled.rejected_values),
                settled != held.settled or bool(changed),
            )
            for held, settled, changed in answers
        ]
        await self._connection.execute(_SQL["settle"], self._client, *_columns(rows))

    async def touch(self, emails: Mapping[str, str]) -> None:
        """Something held has changed for these (mailbox → e-mail): look at them, and tell."""
        if emails:
            await self._connection.execute(_SQL["touch"], self._client, list(emails), list(emails.values()))

    async def try_values_again(self, attribute_ids: Sequence[str]) -> int:
        """Look again at the mailboxes where a value of these attributes was rejected; how many there are."""
        scopes = [attribute_scope(each) for each in attribute_ids]
        status = await self._connection.execute(_SQL["try_values_again"], self._client, list(attribute_ids), scopes)
        return int(status.split()[-1])

    async def put_lists(self, states: Sequence[tuple[str, HeldList]]) -> None:
        """How the client holds these (mailbox, list)."""
        if not states:
            return
        rows = [
            (mailbox, held.list_id, held.state.value, held.cause, held.since, as_json(held.claims))
            for mailbox, held in states
        ]
        await self._connection.execute(_SQL["put_lists"], self._client, *_columns(rows))

    async def put_values(self, values: Mapping[str, Values]) -> None:
        """What was written and accepted (mailbox → values): look at these mailboxes, and tell."""
        if values:
            encoded = [as_json(written) for written in values.values()]
            await self._connection.execute(_SQL["put_values"], self._client, list(values), encoded)

    async def confirm(self, rows: Sequence[Confirmed]) -> set[str]:
        """What rows of an import have written, and with that the answers to their mutations. All or nothing of each:
        a mailbox to which anything has happened since, or of which no recipient is known, is left as it was.

        Gives the mailboxes that are done.
        """
        if not rows:
            return set()
        columns = _columns(
            [
                (
                    row.mailbox,
                    row.dirt,
                    as_json(row.values) if row.values else "{}",
                    row.recipient_id,
                    row.remote_email,
                    row.answer.version.epoch if row.answer.version else None,
                    row.answer.version.counter if row.answer.version else None,
                    row.answer.desired_hash,
                    row.answer.leader,
                    as_json(row.answer.claims),
                    as_json(row.answer.rejected_values) if row.answer.rejected_values else "{}",
                )
                for row in rows
            ]
        )
        found = await self._connection.fetch(_SQL["confirm"], self._client, *columns)
        return {row["mailbox"] for row in found}

    async def strangers(self, recipients: Mapping[int, str]) -> list[str]:
        """Mailboxes that were known under one of these ids (id → mailbox), and are not now."""
        found = await self._connection.fetch(
            _SQL["strangers"], self._client, list(recipients), list(recipients.values())
        )
        return [row["mailbox"] for row in found]

    async def put_refusals(self, refusals: Mapping[str, Mapping[str, Refusal]]) -> None:
        """What the far side refused: mailbox → scope → refusal."""
        if refusals:
            encoded = [as_json(refused) for refused in refusals.values()]
            await self._connection.execute(_SQL["put_refusals"], self._client, list(refusals), encoded)

    async def put_recipients(self, recipients: Sequence[ReadRecipient]) -> tuple[set[str], set[str]]:
        """Recipients as read. Gives the mailboxes that differ, and those whose recipient has a new address."""
        if not recipients:
            return set(), set()
        rows = [
            (found.mailbox, found.email, found.remote_email, found.recipient_id, as_json(found.values))
            for found in recipients
        ]
        lost = await self.strangers({found.recipient_id: found.mailbox for found in recipients})
        changed = await self._connection.fetch(_SQL["put_recipients"], self._client, *_columns(rows))
        return {row["mailbox"] for row in changed}, set(lost)

    async def lose_recipients(self, mailboxes: Sequence[str]) -> list[str]:
        """These recipients are gone. Gives those that were known."""
        found = await self._connection.fetch(_SQL["lose_recipients"], self._client, mailboxes)
        return [row["mailbox"] for row in found]

    async def by_recipient(self, recipient_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Recipient id → (mailbox, normalised e-mail)."""
        found = await self._connection.fetch(_SQL["by_recipient"], self._client, recipient_ids)
        return {row["recipient_id"]: (row["mailbox"], row["email"]) for row in found}

    async def without_recipient(self, mailboxes: Sequence[str]) -> list[str]:
        """Those of which no recipient id is known."""
        found = await self._connection.fetch(_SQL["without_recipient"], self._client, mailboxes)
        return [row["mailbox"] for row in found]

    async def lists_of(self, mailboxes: Sequence[str]) -> dict[str, dict[int, HeldList]]:
        """Mailbox → list id → how it is held."""
        held: dict[str, dict[int, HeldList]] = {mailbox: {} for mailbox in mailboxes}
        for row in await self._connection.fetch(_SQL["lists_of"], self._client, mailboxes):
            mailbox, list_id, state, cause, since, claims = row
            held[mailbox][list_id] = HeldList(list_id, Held(state), cause, since, _claims.decode(claims))
        return held

    async def unreported(self, most: int) -> list[Unreported]:
        """Results that are to be told."""
        found = await self._connection.fetch(_SQL["unreported"], self._client, most)
        lists = await self.lists_of([row["mailbox"] for row in found])
        return [_unreported(row, self._client, lists[row["mailbox"]]) for row in found]

    async def mark_reported(self, told: Iterable[tuple[str, int]]) -> None:
        """(mailbox, revision) that the broker has."""
        await self._connection.execute(_SQL["mark_reported"], self._client, *_columns(list(told)))


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """One list for each column, for `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)]


def _version(row: Record) -> Version | None:
    return None if row["epoch"] is None else Version(row["epoch"], row["counter"])


def _held(
    row: Record, lists: dict[int, HeldList], opened: frozenset[int], events: tuple[ListEvent, ...]
) -> HeldMailbox:
    return HeldMailbox(
        mailbox=row["mailbox"],
        email=row["email"],
        desired=_mutations.decode(row["desired"]) if row["desired"] else None,
        dirt=row["dirt"],
        remote_email=row["remote_email"],
        recipient_id=row["recipient_id"],
        missing_at=row["missing_at"],
        lists=lists,
        values=_read(_values, row["held_values"]),
        refusals=_read(_refusals, row["refusals"]),
        settled=_UNSETTLED if row["epoch"] is None else _settled(row),
        open_lists=opened,
        events=events,
    )


def _settled(row: Record) -> Settled:
    return Settled(
        version=_version(row),
        desired_hash=row["desired_hash"],
        outcome=Outcome(row["outcome"]),
        error=row["error"],
        leader=row["leader"],
        claims=_claims.decode(row["claims"]),
        rejected_values=_read(_codes, row["rejected_values"]),
    )


def _read(decoder: "msgspec.json.Decoder[dict[str, T]]", text: str) -> dict[str, T]:
    return {} if text == "{}" else decoder.decode(text)


def _unreported(row: Record, client: str, lists: Mapping[int, HeldList]) -> Unreported:
    held = _read(_values, row["held_values"])
    wanted = _names.decode(row["wanted"]) if row["wanted"] else {}
    result = DeliveryResult(
        client=client,
        mailbox=row["mailbox"],
        email=row["email"],
        version=_version(row),
        desired_hash=row["desired_hash"],
        outcome=Outcome(row["outcome"]),
        recipient_id=row["recipient_id"],
        leader=row["leader"],
        claims=_claims.decode(row["claims"]),
        lists=tuple(lists[list_id] for list_id in sorted(lists)),
        # Only what a mutation names: the rest of what a client keeps about a person is none of the CRM's.
        values={attribute_id: held[attribute_id] for attribute_id in wanted if attribute_id in held},
        rejected_values=_read(_codes, row["rejected_values"]),
        error=row["error"],
        at=row["changed_at"],
    )
    return Unreported(result, row["revision"])
