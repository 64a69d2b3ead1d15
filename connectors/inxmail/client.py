"""The calls to Inxmail that the pipeline makes, typed.

Every method raises PipelineError: Unavailable (not done), AnswerLost (perhaps done), Refused, Misconfigured,
MalformedInput (an answer of unknown shape).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from connectors.inxmail.failures import misshapen, unreadable
from connectors.inxmail.files import import_body
from connectors.inxmail.pace import Pace, Urgency
from connectors.inxmail.transport import Body, Transport
from schemas.errors import MalformedInput
from schemas.inxmail import (
    Attribute,
    AttributeValue,
    ImportExecution,
    ImportFile,
    LogEntry,
    MailingList,
    PageBody,
    Recipient,
    RowError,
    UnsubscriptionAnswer,
)

T = TypeVar("T")

PAGE_SIZE: Final = "1000"
_URL_BYTES: Final = 4000
"""Longest query that is sent; servers commonly take 8,000."""
SUBSCRIPTIONS: Final = "subscriptions"
UNSUBSCRIPTIONS: Final = "unsubscriptions"


class Page(NamedTuple, Generic[T]):
    """A page: its items, where it goes on, and where new objects will appear (on the last page)."""

    items: list[T]
    next: str | None
    upcoming: str | None


class InxmailClient:
    """One Inxmail client's API."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def pace(self) -> Pace:
        """The request budget in front of every call."""
        return self._transport.pace

    async def attributes(self, *, urgency: Urgency = Urgency.NORMAL) -> list[Attribute]:
        """Every attribute definition."""
        first = self._transport.url("attributes", {"pageSize": PAGE_SIZE})
        return [item async for item in self._all(first, "inx:attributes", Attribute, urgency=urgency)]

    async def lists(self, *, urgency: Urgency = Urgency.NORMAL) -> list[MailingList]:
        """Every list."""
        first = self._transport.url("lists", {"pageSize": PAGE_SIZE})
        return [item async for item in self._all(first, "inx:lists", MailingList, urgency=urgency)]

    def recipients_link(self, attributes: Iterable[str], lists: Iterable[int]) -> str:
        """Where the walk through all recipients begins, with these attributes and the dates for these lists."""
        return self._transport.url("recipients", {"pageSize": PAGE_SIZE} | _members(attributes, lists))

    def members_links(self, attributes: Iterable[str], lists: Collection[int]) -> tuple[str, str]:
        """Where the walks begin through those who are subscribed to any of these lists, and who have left one."""
        asked = {"pageSize": PAGE_SIZE} | _members(attributes, lists)
        ids = ",".join(str(list_id) for list_id in lists)
        return (
            self._transport.url("recipients", asked | {"subscribedToAny": ids}),
            self._transport.url("recipients", asked | {"unsubscribedFromAny": ids}),
        )

    @staticmethod
    def lists_asked(link: str) -> tuple[int, ...]:
        """The lists whose dates a link of recipients asks for."""
        asked = parse_qs(urlsplit(link).query).get("subscriptionDatesForLists", [""])[0]
        return tuple(int(part) for part in asked.split(",") if part)

    async def recipients(self, link: str, *, urgency: Urgency = Urgency.NORMAL) -> Page[Recipient]:
        """The page of recipients at `link`."""
        return await self._page(link, "inx:recipients", Recipient, urgency=urgency)

    async def recipients_by_email(
        self, emails: Sequence[str], attributes: Collection[str], lists: Collection[int]
    ) -> list[Recipient]:
        """Those of these addresses that are recipients, with attributes and dates; many in several requests."""
        found: list[Recipient] = []
        for chunk in _chunks(emails):
            query = {"email": ",".join(chunk), "pageSize": PAGE_SIZE} | _members(attributes, lists)
            first = self._transport.url("recipients", query)
            found += [item async for item in self._all(first, "inx:recipients", Recipient)]
        return found

    async def subscribed_among(self, list_id: int, emails: Sequence[str]) -> set[int]:
        """The ids of those recipients among these addresses that are subscribed to the list now."""
        found: set[int] = set()
        for chunk in _chunks(emails):
            query = {"email": ",".join(chunk), "subscribedTo": str(list_id), "pageSize": PAGE_SIZE}
            first = self._transport.url("recipients", query)
            found |= {item.id async for item in self._all(first, "inx:recipients", Recipient)}
        return found

    async def write_attributes(
        self, recipient_id: int, values: Mapping[str, AttributeValue], *, urgency: Urgency = Urgency.NORMAL
    ) -> None:
        """Give a recipient these values by attribute name; null clears. What is not named stays."""
        body = Body(msgspec.json.encode({"attributes": values}), "application/merge-patch+json")
        url = self._transport.url(f"recipients/{recipient_id}")
        await self._transport.ask("PATCH", url, body, repeatable=True, urgency=urgency)

    async def unsubscribe(self, list_id: int, email: str) -> str | None:
        """End a subscription, before anything else. Gives the log type it came to."""
        body = Body(msgspec.json.encode({"listId": list_id, "email": email}), "application/json")
        what = "an unsubscription"
        url = self._transport.url("events/unsubscriptions")
        answer = await self._transport.ask("POST", url, body, urgency=Urgency.PRIORITY)
        if not answer.strip():
            return None
        return _decoded(answer, UnsubscriptionAnswer, what, repeatable=False).result

    async def start_import(
        self,
        list_id: int | None,
        *,
        resubscribe: bool,
        columns: Sequence[str],
        rows: Callable[[], Awaitable[Iterable[Sequence[str]]]],
        urgency: Urgency = Urgency.NORMAL,
    ) -> ImportExecution:
        """Hand in an import; it has no effect yet. Each row: the address, then a cell for each column.

        The rows are asked for directly before they are sent, however long it had to wait for its turn.

        With a list, every row is subscribed, without, none is. `resubscribe` overrides that a person left: it needs a
        proof for every row. Taking people off the list before an import does not exist here.
        """
        query = {} if list_id is None else {"listId": str(list_id), "resubscribe": "true" if resubscribe else "false"}
        url = self._transport.url("imports/recipients", query)

        async def body() -> Body:
            return import_body(columns, await rows())

        answer = await self._transport.ask("POST", url, body, urgency=urgency)
        return _decoded(answer, ImportExecution, "a new import", repeatable=False)

    async def import_execution(self, import_id: int) -> ImportExecution:
        """How far an import is."""
        answer = await self._transport.ask("GET", self._transport.url(f"imports/recipients/{import_id}"))
        return _decoded(answer, ImportExecution, "an import", repeatable=True)

    async def import_executions(self) -> list[ImportExecution]:
        """Every import that the far side still knows."""
        first = self._transport.url("imports/recipients", {"pageSize": PAGE_SIZE})
        return [item async for item in self._all(first, "inx:recipient-imports", ImportExecution)]

    async def import_errors(self, import_id: int) -> list[RowError]:
        """Everything that was wrong with an import's rows, warnings included."""
        path = f"imports/recipients/{import_id}/files"
        found: list[RowError] = []
        async for file in self._all(self._transport.url(path, {"pageSize": PAGE_SIZE}), "inx:files", ImportFile):
            first = self._transport.url(f"{path}/{file.id}/errors", {"pageSize": PAGE_SIZE})
            found += [item async for item in self._all(first, "inx:errors", RowError)]
        return found

    def log_link(self, log: str) -> str:
        """Where a log (`subscriptions` or `unsubscriptions`) begins."""
        return self._transport.url(f"events/{log}", {"pageSize": PAGE_SIZE, "embedded": "inx:recipient"})

    async def log(self, log: str, link: str) -> Page[LogEntry]:
        """The page of a log at `link`. Goes before any delivery."""
        return await self._page(link, f"inx:{log.removesuffix('s')}-events", LogEntry, urgency=Urgency.LOGS)

    async def _all(
        self, link: str, relation: str, kind: type[T], *, urgency: Urgency = Urgency.NORMAL
    ) -> AsyncIterator[T]:
        """The items of all pages. Raises: MalformedInput, when the pages lead in a circle."""
        seen: set[str] = set()
        following: str | None = link
        while following is not None:
            if following in seen:
                raise MalformedInput(f"the pages of {relation} lead in a circle")
            seen.add(following)
            page = await self._page(following, relation, kind, urgency=urgency)
            for item in page.items:
                yield item
            following = page.next

    async def _page(self, link: str, relation: str, kind: type[T], *, urgency: Urgency = Urgency.NORMAL) -> Page[T]:
        answer = await self._transport.ask("GET", link, urgency=urgency)
        page = _decoded(answer, PageBody, relation, repeatable=True)
        if page.embedded and relation not in page.embedded:
            raise MalformedInput(f"a page has items, and none under {relation}")
        try:
            items = msgspec.convert(page.embedded.get(relation, []), list[kind])  # type: ignore[valid-type] # a type chosen at run time
        except msgspec.ValidationError as error:
            raise misshapen(relation, error) from None
        following = page.links.next.href if page.links.next else None
        if following == link:
            raise MalformedInput(f"a page of {relation} names itself as the next one")
        return Page(items, following, page.links.upcoming.href if page.links.upcoming else None)


def _decoded(answer: bytes, kind: type[T], what: str, *, repeatable: bool) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.ValidationError as error:
        if repeatable:
            raise misshapen(what, error) from None
        raise unreadable(what, repeatable=False) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unreadable(what, repeatable=repeatable) from error


def _members(attributes: Iterable[str], lists: Iterable[int]) -> dict[str, str]:
    """What a recipient's answer shall hold. Asked for empty, a member would be missing, so it is asked for nothing."""
    names, ids = ",".join(attributes), ",".join(str(list_id) for list_id in lists)
    asked = {"attributes": names} if names else {}
    return asked | ({"subscriptionDatesForLists": ids, "unsubscriptionDatesForLists": ids} if ids else {})


def _chunks(emails: Sequence[str]) -> Iterable[list[str]]:
    chunk: list[str] = []
    length = 0
    for email in emails:
        size = 3 * len(email.encode()) + 1  # every byte percent-encoded, at worst
        if chunk and length + size > _URL_BYTES:
            yield chunk
            chunk, length = [], 0
        chunk.append(email)
        length += size
    if chunk:
        yield chunk
