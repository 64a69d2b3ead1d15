"""Reads what the client holds: everything at the first start, new recipients after imports, single ones in doubt."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from connectors.inxmail.client import Page
from connectors.store.delivery import ReadRecipient
from connectors.store.ledger import Books
from schemas import causes
from schemas.delivery import HeldMailbox, OpenRow
from schemas.errors import MalformedInput, Refused
from schemas.facts import Cursor
from schemas.inxmail import Recipient
from schemas.mutations import Held, HeldList
from streams.delivery import hearing
from streams.delivery.desk import Desk
from streams.delivery.values import Unfit, canonical

log = logging.getLogger(__name__)

STREAM: Final = "recipients"

_APPEARING: Final = timedelta(seconds=60)
"""How long a recipient that we created may take to be seen in the collection."""

States = Mapping[int, tuple[Held, datetime | None]]
"""List id → how the recipient stands there, and since when."""


class Seen(NamedTuple):
    """A recipient as the client shows it, in our words."""

    recipient: ReadRecipient
    states: States


class Learnt(NamedTuple):
    """Recipients that an import created, as the client shows them, and the place after them. Nothing is kept of these
    yet: whoever writes down what became of the import, keeps them too, and then the place (`Reader.advance`).

    `as_sent`: the mailboxes that are subscribed to the import's list and to no other, with the values of their rows.
    """

    recipients: dict[str, ReadRecipient]
    as_sent: frozenset[str]
    place: Cursor | None


NOTHING_LEARNT: Final = Learnt({}, frozenset(), None)


class Reader:
    """Reads into the tables of one client."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._known_lists: set[int] = set()

    async def bootstrap(self) -> None:
        """Read every recipient, unless that was done before. Asks until Inxmail has answered."""
        desk = self._desk
        async with desk.ledger.reading() as books:
            known = await books.listening.cursors()
            self._known_lists = await books.listening.known_lists()
        if STREAM not in known:
            await self._read_all()

    async def _read_all(self) -> None:
        desk = self._desk
        await desk.gate.insist(desk.directory.refresh)
        lists = desk.directory.lists
        count = await self._follow(desk.api.recipients_link(desk.directory.names, lists))
        await self._know(lists)
        log.info("recipients read", extra={"client": desk.client, "recipients": count})

    async def meet(self, list_ids: set[int]) -> bool:
        """Read the members of those lists that were made since, before anything is concluded from silence.

        Whether there were any. Raises: PipelineError.
        """
        desk = self._desk
        if list_ids <= self._known_lists:
            return False
        await desk.directory.look_up_lists(list_ids - self._known_lists)
        news = (list_ids - self._known_lists) & set(desk.directory.lists)
        if news:
            try:
                for link in desk.api.members_links(desk.directory.names, sorted(news)):
                    await self._walk(link)
            except Refused:
                await desk.directory.refresh()
                await self._walk(desk.api.recipients_link(desk.directory.names, sorted(news)))
            await self._know(news)
            log.info("lists met", extra={"client": desk.client, "lists": sorted(news)})
        return bool(news)

    async def _know(self, list_ids: Collection[int]) -> None:
        async with self._desk.ledger.transaction() as books:
            await books.listening.know_lists(list_ids)
        self._known_lists |= set(list_ids)

    async def learn_new(self, list_id: int, rows: Sequence[OpenRow]) -> Learnt:
        """Read recipients created since last time, until all of these rows are seen. Raises: PipelineError.

        list_id: where the rows were to be subscribed. What is not plainly a row of theirs is kept at once; on the last
        page it is left to whoever reads on from there. A place that Inxmail does not accept any more (an attribute it
        names is gone) costs reading all of them.
        """
        async with self._desk.ledger.reading() as books:
            cursor = (await books.listening.cursors()).get(STREAM)
            unseen = set(await books.deliveries.without_recipient([row.mailbox for row in rows]))
        if cursor is None or not unseen:
            return NOTHING_LEARNT
        by_address = {row.email: row for row in rows}
        found: dict[str, ReadRecipient] = {}
        as_sent: set[str] = set()
        desk, link, count = self._desk, cursor.link, 0
        try:
            while True:
                page = await desk.gate.insist(partial(desk.api.recipients, link))
                others = []
                for recipient in page.items:
                    row = by_address.get(recipient.email)
                    if row is None or row.mailbox not in unseen or not _is_only_in(recipient, list_id):
                        others.append(recipient)
                        continue
                    unseen.discard(row.mailbox)
                    values, is_as_sent = self._values_beside(recipient, row)
                    found[row.mailbox] = ReadRecipient(row.mailbox, row.email, recipient.email, recipient.id, values)
                    if is_as_sent:
                        as_sent.add(row.mailbox)
                if others and not unseen:
                    return Learnt(found, frozenset(as_sent), self._place_at(link))
                if others:
                    await self.keep(others, desk.api.lists_asked(link))
                count += len(page.items)
                if page.next is None:
                    break
                link = page.next
                if not unseen:
                    return Learnt(found, frozenset(as_sent), self._place_at(link))
        except (Refused, MalformedInput) as failure:
            log.warning("recipients are read anew", extra={"reason": str(failure)})
            await self._read_all()
            return NOTHING_LEARNT
        return Learnt(found, frozenset(as_sent), self._place(page, cursor.link, count))

    def _place_at(self, link: str) -> Cursor:
        return Cursor(self._desk.client, STREAM, link, None, self._desk.now())

    async def advance(self, place: Cursor) -> None:
        """What was read before this place is kept."""
        await self._desk.gate.insist(lambda: self._desk.outbox.tell_cursor(place))
        async with self._desk.ledger.transaction() as books:
            await books.listening.put_cursor(place)

    def _place(self, page: Page[Recipient], link: str, count: int) -> Cursor | None:
        """Where to go on after this last page; None when that is where it was."""
        if page.upcoming is None or (page.upcoming == link and count):
            return None
        last = page.items[-1].id if page.items else None
        return Cursor(self._desk.client, STREAM, page.upcoming, last, self._desk.now())

    async def _follow(self, link: str) -> int:
        """Walk from `link` to the end; how many recipients there were. The place is kept at the end."""
        page, count = await self._walk(link)
        if (place := self._place(page, link, count)) is not None:
            await self.advance(place)
        return count

    async def _walk(self, link: str) -> tuple[Page[Recipient], int]:
        """Read pages from `link` on; the last one, and how many recipients there were."""
        desk = self._desk
        count, following = 0, link
        while True:
            page = await desk.gate.insist(partial(desk.api.recipients, following))
            await self.keep(page.items, desk.api.lists_asked(following))
            count += len(page.items)
            if page.next is None:
                return page, count
            following = page.next

    async def fetch(self, addresses: Sequence[str]) -> list[Recipient]:
        """Those of these addresses that are recipients. Raises: PipelineError."""
        directory = self._desk.directory
        try:
            return await self._desk.api.recipients_by_email(addresses, directory.names, directory.lists)
        except Refused:
            if not await directory.refresh():
                raise
            return await self._desk.api.recipients_by_email(addresses, directory.names, directory.lists)

    async def read(self, mailboxes: Sequence[HeldMailbox]) -> set[str]:
        """Read these mailboxes at the client: their state is then what it says.

        Gives those that are not to be seen yet, because they were subscribed a moment ago: they are to be read later.
        Raises: PipelineError.
        """
        found = await self.fetch([held.address for held in mailboxes])
        settled = await self._untied(found)
        seen = await self.keep(found, self._desk.directory.lists, settled)
        unseen = [held for held in mailboxes if held.mailbox not in seen]
        fresh_after = self._desk.now() - _APPEARING
        later = {
            held.mailbox
            for held in unseen
            if held.recipient_id is None and any(_is_fresh(each, fresh_after) for each in held.lists.values())
        }
        await self._lose([held for held in unseen if held.mailbox not in later])
        await self._without_lists(mailboxes)
        return later

    async def _lose(self, gone: Sequence[HeldMailbox]) -> None:
        """These are no recipients: what is held of them is nothing."""
        if not gone:
            return
        async with self._desk.ledger.transaction() as books:
            lost = set(await books.deliveries.lose_recipients([held.mailbox for held in gone]))
            nowhere = [
                (held.mailbox, HeldList(list_id, Held.NONE, causes.MISSING if held.mailbox in lost else causes.READ))
                for held in gone
                for list_id, state in held.lists.items()
                if state.state is not Held.NONE and list_id not in held.open_lists
            ]
            await books.deliveries.put_lists(nowhere)
            await books.deliveries.touch({held.mailbox: held.email for held in gone})
        if lost:
            log.warning("recipients are gone", extra={"client": self._desk.client, "recipients": len(lost)})

    async def _without_lists(self, mailboxes: Sequence[HeldMailbox]) -> None:
        """A list that is there no more holds nobody."""
        unknown = {
            (held.mailbox, list_id)
            for held in mailboxes
            for list_id, state in held.lists.items()
            if state.state is Held.UNKNOWN and list_id not in held.open_lists
        }
        if not {list_id for _, list_id in unknown} - set(self._desk.directory.lists):
            return
        await self._desk.directory.refresh()
        nowhere = [
            (mailbox, HeldList(list_id, Held.NONE, causes.READ))
            for mailbox, list_id in sorted(unknown)
            if list_id not in self._desk.directory.lists
        ]
        async with self._desk.ledger.transaction() as books:
            await books.deliveries.put_lists(nowhere)
            await books.deliveries.touch({held.mailbox: held.email for held in mailboxes})

    async def _untied(self, recipients: Sequence[Recipient]) -> dict[tuple[int, int], Held]:
        """(recipient id, list id) → state, where two dates of one second tell nothing. Asked for list by list."""
        ties: dict[int, list[Recipient]] = {}
        for recipient in recipients:
            for list_id, (state, _) in _states(recipient, self._desk.directory.lists).items():
                if state is Held.UNKNOWN:
                    ties.setdefault(list_id, []).append(recipient)
        settled: dict[tuple[int, int], Held] = {}
        for list_id, tied in ties.items():
            subscribed = await self._desk.api.subscribed_among(list_id, [recipient.email for recipient in tied])
            for recipient in tied:
                state = Held.SUBSCRIBED if recipient.id in subscribed else Held.UNSUBSCRIBED
                settled[recipient.id, list_id] = state
        return settled

    async def keep(
        self,
        recipients: Iterable[Recipient],
        lists: Collection[int],
        settled: Mapping[tuple[int, int], Held] | None = None,
    ) -> set[str]:
        """Note recipients as the client shows them; their mailboxes. What differs is planned and told.

        lists: those whose dates were asked for; settled: what two dates of one second do not tell. While a call that
        can subscribe a (mailbox, list) is under way, a reading says nothing about that list.
        """
        seen = self._seen(recipients, lists, settled or {})
        if not seen:
            return set()
        async with self._desk.ledger.transaction() as books:
            changed = await _merge(books, seen)
        if changed:
            self._desk.look(changed)
            self._desk.outbox.wake()
        return set(seen)

    def _seen(
        self, recipients: Iterable[Recipient], lists: Collection[int], settled: Mapping[tuple[int, int], Held]
    ) -> dict[str, Seen]:
        seen: dict[str, Seen] = {}
        unusable = 0
        for recipient in recipients:
            named = self._desk.mailbox_of(recipient.email)
            if named is None or named[0] in seen:
                unusable += 1
                continue
            mailbox, email = named
            states = {
                list_id: (settled.get((recipient.id, list_id), state), since)
                for list_id, (state, since) in _states(recipient, lists).items()
            }
            read = ReadRecipient(mailbox, email, recipient.email, recipient.id, self._values(recipient))
            seen[mailbox] = Seen(read, states)
        if unusable:
            log.warning(
                "recipients without a mailbox of their own",
                extra={"client": self._desk.client, "recipients": unusable},
            )
        return seen

    def _values_beside(self, recipient: Recipient, row: OpenRow) -> tuple[dict[str, str | None], bool]:
        """The recipient's values, and whether those that the row sent are among them. What is equal is not respelt."""
        values: dict[str, str | None] = {}
        shown = 0
        for attribute_id, attribute in self._desk.directory.attributes.items():
            if attribute.name not in recipient.attributes:
                continue
            found = recipient.attributes[attribute.name]
            sent = row.values.get(attribute_id)
            if sent is not None and found == sent:
                values[attribute_id] = sent
                shown += 1
                continue
            text = canonical(attribute, found)
            if not isinstance(text, Unfit):
                values[attribute_id] = text
                shown += attribute_id in row.values and text == sent
        is_as_sent = shown == len(row.values)
        return (row.values if is_as_sent and len(values) == shown else values), is_as_sent

    def _values(self, recipient: Recipient) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        for attribute_id, attribute in self._desk.directory.attributes.items():
            if attribute.name in recipient.attributes:
                text = canonical(attribute, recipient.attributes[attribute.name])
                if not isinstance(text, Unfit):
                    values[attribute_id] = text
        return values


def _states(recipient: Recipient, lists: Collection[int]) -> dict[int, tuple[Held, datetime | None]]:
    if not lists:
        return {}
    subscribed, unsubscribed = recipient.dates()
    return {list_id: hearing.state_by_dates(subscribed.get(list_id), unsubscribed.get(list_id)) for list_id in lists}


def _is_only_in(recipient: Recipient, list_id: int) -> bool:
    """Whether the recipient is subscribed to that list, and has to do with no other."""
    subscribed, unsubscribed = recipient.dates()
    return not unsubscribed and subscribed.keys() == {list_id}


def _is_fresh(held: HeldList, after: datetime) -> bool:
    recent = held.since is not None and held.since > after
    return held.state is Held.SUBSCRIBED and causes.is_ours(held.cause) and recent


async def _merge(books: Books, seen: Mapping[str, Seen]) -> set[str]:
    """Write down what was seen; the mailboxes where something differs."""
    mailboxes = list(seen)
    held = await books.deliveries.lists_of(mailboxes)
    under_way = await books.calls.subscribing(mailboxes, under_way=True)
    heard = await books.listening.heard(mailboxes)
    changed, renamed = await books.deliveries.put_recipients([each.recipient for each in seen.values()])
    states = [
        (mailbox, after)
        for mailbox, each in seen.items()
        for list_id, (state, since) in each.states.items()
        if (mailbox, list_id) not in under_way
        and (after := hearing.state_read(list_id, state, since, held[mailbox].get(list_id), heard.get(mailbox, ())))
    ]
    await books.deliveries.put_lists(states)
    # A mailbox that was new here is told anyway; it is looked at only when its state is still to be read.
    again = {
        mailbox: seen[mailbox].recipient.email
        for mailbox, after in states
        if mailbox not in changed or after.state is Held.UNKNOWN
    }
    await books.deliveries.touch(again)
    await unsettle(books, renamed)
    # What is in an import is looked at when that has ended.
    return (changed | again.keys() | renamed) - {mailbox for mailbox, _ in under_way}


async def unsettle(books: Books, mailboxes: Collection[str]) -> None:
    """These recipients go by another address now: how their lists stand is to be read."""
    if not mailboxes:
        return
    lists = await books.deliveries.lists_of(list(mailboxes))
    await books.deliveries.put_lists(
        [
            (mailbox, HeldList(list_id, Held.UNKNOWN, causes.READ, state.since, state.claims))
            for mailbox, by_list in lists.items()
            for list_id, state in by_list.items()
            if state.state is not Held.NONE
        ]
    )
