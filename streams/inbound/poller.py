"""Follows a client's subscription and unsubscription logs: into the tables first, then to Kafka, then the cursor.

An objection counts for our own calls from the moment it is in the tables, before Kafka or anybody else knows it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from connectors.inxmail.client import Page
from connectors.store.ledger import Books
from schemas.delivery import Expectation
from schemas.errors import MalformedInput, PipelineError, Refused
from schemas.facts import Cursor, ListEvent, Meaning, SubscriptionEvent, UnsubscriptionEvent, meaning_of
from schemas.inxmail import LogEntry
from schemas.mutations import HeldList
from streams.delivery import hearing
from streams.delivery.desk import Desk

log = logging.getLogger(__name__)

UNSUBSCRIPTIONS: Final = "unsubscriptions"
SUBSCRIPTIONS: Final = "subscriptions"


class Poller:
    """The two logs of one client."""

    def __init__(self, desk: Desk, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._clock = clock
        self._cursors: dict[str, Cursor] = {}
        self._reading = {name: asyncio.Lock() for name in (UNSUBSCRIPTIONS, SUBSCRIPTIONS)}
        self.polled_at: float | None = None
        """When both logs were last read to their end, by the monotonic clock."""

    async def start(self) -> None:
        """Find the places where the logs go on; drain both. Asks until Inxmail has answered."""
        async with self._desk.ledger.reading() as books:
            self._cursors = await books.listening.cursors()
        for name in (UNSUBSCRIPTIONS, SUBSCRIPTIONS):
            self._note_position(name, self._cursors[name].last_event_id if name in self._cursors else None)
        for name in (UNSUBSCRIPTIONS, SUBSCRIPTIONS):
            await self._desk.gate.insist(partial(self.drain, name))
        self.polled_at = self._clock()

    async def run(self) -> None:
        """Drain both logs at every interval, for ever."""
        interval = self._desk.settings.poll_seconds
        due = self._clock() + interval
        while True:
            await asyncio.sleep(max(0.0, due - self._clock()))
            due = max(due + interval, self._clock())
            await self._desk.gate.passage()
            try:
                await self.drain(UNSUBSCRIPTIONS)
                await self.drain(SUBSCRIPTIONS)
            except PipelineError as failure:
                self._desk.gate.failed(failure)
            else:
                self._desk.gate.succeeded()
                self.polled_at = self._clock()

    async def drain(self, name: str) -> None:
        """Read a log to its end. What it says is in the tables and in Kafka when this returns.

        An import that had ended before is closed by that: nothing of before its end is still unread.
        Raises: PipelineError.
        """
        desk = self._desk
        async with self._reading[name]:
            async with desk.ledger.reading() as books:
                ended = await books.calls.ended() if name == UNSUBSCRIPTIONS else []
            cursor = self._cursors.get(name)
            is_history = cursor is None
            link = cursor.link if cursor is not None else desk.api.log_link(name)
            page = await self._page(name, link, again=cursor is not None)
            while True:
                await self._take(name, page, is_history=is_history)
                await self._advance(name, page)
                if page.next is None:
                    break
                link = page.next
                page = await desk.api.log(name, link)
            if ended:
                async with desk.ledger.transaction() as books:
                    await books.calls.close(ended)

    async def _page(self, name: str, link: str, *, again: bool) -> Page[LogEntry]:
        """The page at a place that was kept; from the beginning, when Inxmail does not accept that place any more."""
        try:
            return await self._desk.api.log(name, link)
        except (Refused, MalformedInput) as failure:
            if not again:
                raise
            log.warning("log is read from its beginning", extra={"log": name, "reason": str(failure)})
            return await self._desk.api.log(name, self._desk.api.log_link(name))

    async def _take(self, name: str, page: Page[LogEntry], *, is_history: bool) -> None:
        if not page.items:
            return
        desk = self._desk
        async with desk.ledger.transaction() as books:
            events = await self._events(books, name, page.items)
            touched = await self._hear(books, name, events, is_history=is_history)
        self._note_position(name, events[-1].event_id)
        desk.look(touched)
        await desk.outbox.tell_log(name)
        desk.outbox.wake()

    async def _advance(self, name: str, page: Page[LogEntry]) -> None:
        """Keep the place: the records before it are stored at the broker."""
        following = page.next or page.upcoming
        known = self._cursors.get(name)
        if following is None or (known is not None and known.link == following):
            return
        last = page.items[-1].id if page.items else (known.last_event_id if known else None)
        cursor = Cursor(self._desk.client, name, following, last, self._desk.now())
        await self._desk.outbox.tell_cursor(cursor)
        async with self._desk.ledger.transaction() as books:
            await books.listening.put_cursor(cursor)
        self._cursors[name] = cursor

    async def _events(self, books: Books, name: str, entries: Sequence[LogEntry]) -> list[ListEvent]:
        """The entries in our words, in order; an address that is missing is found by the recipient's id."""
        desk = self._desk
        kind = SubscriptionEvent if name == SUBSCRIPTIONS else UnsubscriptionEvent
        nameless = [entry.recipient_id for entry in entries if not entry.address and entry.recipient_id is not None]
        known = await books.deliveries.by_recipient(nameless) if nameless else {}
        seen_at = desk.now()
        events: list[ListEvent] = []
        for entry in sorted(entries, key=lambda found: found.id):
            named = desk.mailbox_of(entry.address)
            if named is None and entry.address is None and entry.recipient_id in known:
                named = desk.mailbox_of(known[entry.recipient_id][1])
            events.append(
                kind(
                    client=desk.client,
                    event_id=entry.id,
                    type=entry.type,
                    list_id=entry.list_id,
                    recipient_id=entry.recipient_id,
                    email=entry.address or (named[1] if named else None),
                    mailbox=named[0] if named else None,
                    occurred_at=entry.created_at,
                    seen_at=seen_at,
                )
            )
        return events

    async def _hear(self, books: Books, name: str, events: Sequence[ListEvent], *, is_history: bool) -> set[str]:
        """Note entries, judge whose they are and how their lists stand now; the mailboxes that changed."""
        fresh_ids = await books.listening.keep(name, events)
        fresh = [event for event in events if event.event_id in fresh_ids]
        _report_unknown(fresh)
        mailboxes = sorted({event.mailbox for event in fresh if event.mailbox is not None})
        if not mailboxes:
            return set()
        expected: list[Expectation] = await books.calls.expectations(mailboxes)
        ours = hearing.echoes(fresh, expected, self._desk.skew)
        await books.listening.echo(name, ours, {event.event_id: event.mailbox or "" for event in fresh})
        held = await books.deliveries.lists_of(mailboxes)
        subscribing = await books.calls.subscribing(mailboxes)
        states: dict[tuple[str, int], HeldList] = {}
        for event in fresh:
            if event.mailbox is None or event.list_id is None:
                continue
            after = hearing.state_after(
                event,
                held[event.mailbox].get(event.list_id),
                op_id=ours.get(event.event_id),
                subscribing=(event.mailbox, event.list_id) in subscribing,
                skew=self._desk.skew,
                is_history=is_history,
            )
            if after is not None:
                held[event.mailbox][event.list_id] = states[event.mailbox, event.list_id] = after
        touched = {mailbox for mailbox, _ in states}
        emails = {event.mailbox: self._email_of(event) for event in fresh if event.mailbox in touched}
        await books.deliveries.touch({mailbox: email for mailbox, email in emails.items() if mailbox is not None})
        await books.deliveries.put_lists([(mailbox, state) for (mailbox, _), state in states.items()])
        return touched

    def _email_of(self, event: ListEvent) -> str:
        named = self._desk.mailbox_of(event.email)
        return named[1] if named else ""

    def _note_position(self, name: str, event_id: int | None) -> None:
        positions = self._desk.positions
        setattr(positions, name, max(getattr(positions, name), event_id or 0))


def _report_unknown(events: Iterable[ListEvent]) -> None:
    types = sorted({event.type for event in events if meaning_of(event) is Meaning.UNKNOWN})
    if types:
        log.warning("log entries of unknown type", extra={"types": types})
