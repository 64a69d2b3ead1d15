"""An Inxmail account as a visitor sees it: its REST API under credentials of their own, and the stand-in's controls.

Shares nothing with the pipeline's own client, so that the two cannot misread the API alike.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from schemas.errors import AnswerLost, MalformedInput, Refused, Unavailable
from streams.demo.comparison import SUBSCRIBED, UNSUBSCRIBED, Entry, Scalar

_PAGE = "1000"
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class Seen(msgspec.Struct, frozen=True):
    """A recipient: its id, its address as Inxmail spells it, and the values asked for."""

    id: int
    email: str
    values: Mapping[str, Scalar]


class Request(msgspec.Struct, frozen=True):
    """A request in the stand-in's log. `at`: seconds since the Unix epoch, when it came in."""

    id: int
    at: float
    method: str
    path: str
    status: int
    milliseconds: float

    @property
    def answered_at(self) -> float:
        """When its answer left, in seconds since the Unix epoch."""
        return self.at + self.milliseconds / 1000


class Visitor:
    """One account, as `endpoints.json` names it; only a stand-in has controls. Order: use it as an async context.

    Raises in every method: Unavailable, when it does not answer; Refused, when it says no.
    """

    def __init__(self, client: str, endpoint: Mapping[str, str]) -> None:
        self.client = client
        self._base = endpoint["base_url"]
        self._control = endpoint.get("control_url", "")
        self._credentials = {"Authorization": aiohttp.encode_basic_auth(endpoint["user"], endpoint["password"])}
        self._token = {"Authorization": f"Bearer {endpoint.get('control_token', '')}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Visitor":
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def attributes(self) -> dict[str, int]:
        """Attribute ids by name."""
        return {item["name"]: item["id"] async for item in self._all("/attributes", {}, "inx:attributes")}

    async def lists(self) -> dict[str, int]:
        """Ids of the lists that can be subscribed, by name, in the order of their ids."""
        found = [item async for item in self._all("/lists", {}, "inx:lists") if item["type"] == "STANDARD"]
        return {item["name"]: item["id"] for item in sorted(found, key=lambda item: int(item["id"]))}

    async def entries(self, list_id: int, attributes: Sequence[str]) -> list[Entry]:
        """Everyone whom the list knows, with these attributes: the subscribed and the unsubscribed."""
        return [
            Entry(self.client, list_id, seen.email, state, seen.values)
            for state, filter_ in ((SUBSCRIBED, "subscribedTo"), (UNSUBSCRIBED, "unsubscribedFromAny"))
            for seen in await self.recipients({filter_: str(list_id)}, attributes)
        ]

    async def recipients(self, filters: Mapping[str, str], attributes: Sequence[str] = ()) -> list[Seen]:
        """Every recipient that fits."""
        query = dict(filters) | ({"attributes": ",".join(attributes)} if attributes else {})
        return [
            Seen(item["id"], item["email"], item.get("attributes") or {})
            async for item in self._all("/recipients", query, "inx:recipients")
        ]

    async def newer(self, link: str | None) -> tuple[int, str]:
        """How many recipients are new since that link (None: how many there are), and the link for next time."""
        count, following = 0, link or f"{self._base}/recipients?pageSize={_PAGE}"
        while True:
            page = await self._get(following)
            count += len(page.get("_embedded", {}).get("inx:recipients", []))
            links = page["_links"]
            if "next" not in links:
                return count, str(links["inx:upcoming"]["href"])
            following = links["next"]["href"]

    async def unsubscribe(self, list_id: int, email: str) -> None:
        """Leave a list, as the person would."""
        await self._ask("POST", f"{self._base}/events/unsubscriptions", json={"listId": list_id, "email": email})

    async def post(self, path: str, body: Any) -> Any:
        """One POST to the REST API; `path` begins with a slash. Gives the JSON answer."""
        return await self._ask("POST", self._base + path, json=body)

    async def control(self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
        """One request to the stand-in's control API; `path` begins with a slash. Gives the JSON answer."""
        return await self._ask(method, self._control + path, json=body, query=query, control=True)

    async def subscribed(self) -> dict[int, int]:
        """How many are subscribed to each list, by the stand-in's own count."""
        state = await self.control("GET", "/state")
        return {known["id"]: known["subscribed"] for known in state["lists"]}

    async def last_request(self) -> int:
        """The id of the newest request in the log."""
        return int((await self.control("GET", "/requests", query={"limit": "0"}))["last_id"])

    async def requests_since(self, after_id: int, **filters: str) -> list[Request]:
        """The requests after that one, oldest first."""
        answer = await self.control("GET", "/requests", query={"after_id": str(after_id), "limit": "10000", **filters})
        return msgspec.convert(answer["requests"], list[Request])

    async def event_delay_seconds(self) -> float:
        """How long an entry of an event log stays in the far side's buffer before anybody can read it."""
        return float((await self.control("GET", "/options"))["event_delay_ms"]) / 1000

    async def _all(self, path: str, query: Mapping[str, str], relation: str) -> AsyncIterator[dict[str, Any]]:
        following: str | None = self._base + path
        first: Mapping[str, str] | None = {**query, "pageSize": _PAGE}
        while following is not None:
            page = await self._get(following, first)
            first = None
            for item in page.get("_embedded", {}).get(relation, []):
                yield item
            following = page["_links"].get("next", {}).get("href")

    async def _get(self, url: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        page = await self._ask("GET", url, query=query)
        if not isinstance(page, dict):
            raise MalformedInput(f"Inxmail client {self.client} answered with something that is no page")
        return page

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        query: Mapping[str, str] | None = None,
        control: bool = False,
    ) -> Any:
        assert self._session is not None, "use it as an async context"
        headers = self._token if control else self._credentials
        verbatim = URL(url, encoded=True)  # links are followed as they came
        target = verbatim.update_query(query) if query else verbatim
        try:
            while True:
                async with self._session.request(method, target, json=json, headers=headers) as answer:
                    body = await answer.read()
                    if answer.status < 400:
                        return msgspec.json.decode(body) if body else None
                    if answer.status >= 500:
                        raise Unavailable(f"Inxmail client {self.client} failed ({answer.status})")
                    if answer.status != 429:
                        raise Refused(f"Inxmail client {self.client} refused ({answer.status})", status=answer.status)
                    wait_seconds = int(answer.headers["X-RateLimit-Reset"])  # the visitor's own budget is used up
                await asyncio.sleep(wait_seconds + 0.1)
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"Inxmail client {self.client} cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AnswerLost(f"Inxmail client {self.client} broke off an answer") from error
