"""What the client worker has heard: entries of the logs, and how far they were read. Statements in `delivery.sql`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from connectors.postgres.statements import load
from schemas.facts import Cursor, ListEvent, SubscriptionEvent, UnsubscriptionEvent

_SQL = load("connectors.store", "delivery.sql")

Record = asyncpg.Record
Connection = Any  # a pool's connection or a plain one: asyncpg's types share no parent


class Listening:
    """Tables `list_event` and `cursor` of one client. `log`: subscriptions or unsubscriptions."""

    def __init__(self, connection: Connection, client: str) -> None:
        self._connection = connection
        self._client = client

    async def keep(self, log: str, events: Sequence[ListEvent]) -> set[int]:
        """Note entries; the ids of those that are new."""
        found = await self._connection.fetch(
            _SQL["put_events"],
            self._client,
            log,
            [event.event_id for event in events],
            [event.type for event in events],
            [event.list_id for event in events],
            [event.recipient_id for event in events],
            [event.mailbox for event in events],
            [event.email for event in events],
            [event.occurred_at for event in events],
            [event.seen_at for event in events],
        )
        return {row["event_id"] for row in found}

    async def echo(self, log: str, ours: Mapping[int, str], mailbox_of: Mapping[int, str]) -> None:
        """These entries (event id → op id) were written by our own calls, each of which is consumed by it."""
        if not ours:
            return
        ids, op_ids = list(ours), list(ours.values())
        await self._connection.execute(_SQL["echo_events"], self._client, log, ids, op_ids)
        await self._connection.execute(_SQL["echo_calls"], self._client, ids, op_ids)
        mailboxes = [mailbox_of[event_id] for event_id in ids]
        await self._connection.execute(_SQL["echo_rows"], self._client, ids, op_ids, mailboxes)

    async def release(self, op_id: str, kept_types: Collection[str]) -> list[int]:
        """The call wrote none of what it was taken to have written, except these types: that was the person.

        Gives the ids of the entries that are hers now.
        """
        found = await self._connection.fetch(_SQL["release_echo"], self._client, op_id, list(kept_types))
        if found:
            await self._connection.execute(_SQL["forget_echo"], self._client, op_id)
        return [row["event_id"] for row in found]

    async def heard(self, mailboxes: Sequence[str]) -> dict[str, list[ListEvent]]:
        """Mailbox → its entries of the unsubscription log, echoes included."""
        heard: dict[str, list[ListEvent]] = {}
        for row in await self._connection.fetch(_SQL["heard"], self._client, mailboxes):
            event: ListEvent = msgspec.convert({"client": self._client, "email": None, **row}, UnsubscriptionEvent)
            heard.setdefault(row["mailbox"], []).append(event)
        return heard

    async def unproduced(self, log: str, most: int) -> list[ListEvent]:
        """Entries that Kafka has not."""
        kind: type[ListEvent] = SubscriptionEvent if log == "subscriptions" else UnsubscriptionEvent
        found = await self._connection.fetch(_SQL["unproduced_events"], self._client, log, most)
        return [msgspec.convert({"client": self._client, **row}, kind) for row in found]

    async def produced(self, log: str, event_ids: Sequence[int]) -> None:
        """Kafka has these."""
        await self._connection.execute(_SQL["mark_events"], self._client, log, event_ids)

    async def known_lists(self) -> set[int]:
        """The lists whose members were read."""
        return {row["list_id"] for row in await self._connection.fetch(_SQL["known_lists"], self._client)}

    async def know_lists(self, list_ids: Collection[int]) -> None:
        """The members of these lists were read."""
        await self._connection.execute(_SQL["put_known_lists"], self._client, sorted(list_ids))

    async def cursors(self) -> dict[str, Cursor]:
        """Where each stream goes on."""
        found = await self._connection.fetch(_SQL["cursors"], self._client)
        return {row["stream"]: msgspec.convert({"client": self._client, **row}, Cursor) for row in found}

    async def put_cursor(self, cursor: Cursor) -> None:
        """The records before this are stored."""
        await self._connection.execute(
            _SQL["put_cursor"], self._client, cursor.stream, cursor.link, cursor.last_event_id, cursor.at
        )
