"""The account under test, simulated or real, as the contract suite sees it: plain HTTP and nothing of our client."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import aiohttp
from yarl import URL

T = TypeVar("T")
MERGE_PATCH = "application/merge-patch+json"


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    def items(self, relation: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body.get("_embedded", {}).get(f"inx:{relation}", [])
        return found

    def link(self, relation: str) -> str | None:
        href: str | None = self.body["_links"].get(relation, {}).get("href")
        return href


class Account:
    """One API base URL with a credential. Waits for the next window when the request budget is used up."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, user: str, password: str, control: Any) -> None:
        self._http = http
        self.base_url = base_url.rstrip("/")
        self.authorization = aiohttp.encode_basic_auth(user, password)
        self.control: Control = control
        self.simulated = control is not None

    async def request(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        data: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        authorized: bool = True,
    ) -> Reply:
        """`path` is taken as it is, percent signs and double slashes included; it may be an absolute link."""
        url = path if path.startswith("http") else self.base_url + path
        sent: dict[str, str] = {"Accept": "application/hal+json,application/problem+json"}
        if authorized:
            sent["Authorization"] = self.authorization
        if document is not None:
            data = json.dumps(document).encode()
            content_type = content_type or "application/json"
        if content_type:
            sent["Content-Type"] = content_type
        sent |= headers or {}
        for _ in range(3):
            async with self._http.request(method, URL(url, encoded=True), data=data, headers=sent) as response:
                reply = Reply(response.status, response.headers, await response.text())
            if reply.status != 429 or self.simulated:
                break
            await asyncio.sleep(int(reply.headers["X-RateLimit-Reset"]) + 1)
        return reply

    async def get(self, path: str) -> Reply:
        return await self.request("GET", path)

    async def post(self, path: str, document: object) -> Reply:
        return await self.request("POST", path, document)

    async def patch(self, path: str, document: object) -> Reply:
        return await self.request("PATCH", path, document, content_type=MERGE_PATCH)

    async def delete(self, path: str) -> Reply:
        return await self.request("DELETE", path)

    async def walk(self, path: str, relation: str) -> list[dict[str, Any]]:
        """Every item of a collection, over all pages."""
        found: list[dict[str, Any]] = []
        href: str | None = path
        while href:
            reply = await self.get(href)
            assert reply.status == 200, reply.text
            found += reply.items(relation)
            href = reply.link("next")
        return found

    async def upload(self, csv: str, query: str = "", *, compressed: bool = False) -> Reply:
        """Start an import as the vendor's own connector does: no line break after the last boundary."""
        data = csv.encode()
        head = b'------Part\r\nContent-Disposition: form-data; name="file"; filename="datafile.csv'
        if compressed:
            data = gzip.compress(data)
            head += b'.gz"\r\nContent-Type: application/gzip\r\nContent-Encoding: gzip\r\n\r\n'
        else:
            head += b'"\r\nContent-Type: text/csv\r\n\r\n'
        return await self.request(
            "POST",
            f"/imports/recipients/{query}",
            data=head + data + b"\r\n------Part--",
            content_type="multipart/form-data; boundary=----Part",
        )

    async def imported(self, csv: str, query: str = "", *, compressed: bool = False) -> dict[str, Any]:
        """Import a file and wait for its end; gives the import's last state with its errors added."""
        started = await self.upload(csv, query, compressed=compressed)
        assert started.status == 201, started.text
        return await self.ended(started.body["id"])

    async def ended(self, import_id: int) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            body: dict[str, Any] = (await self.get(f"/imports/recipients/{import_id}")).body
            return body if body["state"] in ("SUCCESS", "FAILED", "CANCELED") else None

        last = await eventually(look, why="the import did not end")
        (file,) = await self.walk(f"/imports/recipients/{import_id}/files", "files")
        path = f"/imports/recipients/{import_id}/files/{file['id']}/errors"
        return last | {"errors": [(e["error"], e["value"]) for e in await self.walk(path, "errors")]}

    async def recipient(self, email: str, query: str = "") -> dict[str, Any] | None:
        found = (await self.get(f"/recipients?email={encoded(email)}{query}")).items("recipients")
        return found[0] if found else None

    async def subscribed(self, list_id: int) -> set[str]:
        return {item["email"] for item in await self.walk(f"/recipients?subscribedTo={list_id}", "recipients")}


class Control:
    """The simulator's control API."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __call__(self, method: str, path: str, document: object = None, *, expect: int | None = None) -> Any:
        url = URL(self._url + path, encoded=True)
        async with self._http.request(method, url, json=document, headers=self._headers) as response:
            body = await response.json()
            assert response.status == expect if expect else response.status < 300, body
            return body

    async def advance(self, seconds: float) -> None:
        await self("POST", "/clock", {"advance_seconds": seconds})

    async def options(self, **changes: object) -> None:
        await self("PATCH", "/options", changes)

    async def person(self, action: str, list_id: int, email: str, **more: object) -> Any:
        return (await self("POST", "/people", {"action": action, "list_id": list_id, "email": email, **more}))["result"]


async def eventually(look: Callable[[], Awaitable[T | None]], *, why: str, within_seconds: float = 30) -> T:
    """What `look` gives once it gives something."""
    async with asyncio.timeout(within_seconds):
        pause = 0.02
        while (found := await look()) is None:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2)
        return found
    raise AssertionError(why)


def somebody() -> str:
    """An address nobody has used before."""
    return f"{uuid4().hex}@verteiler.example"


def encoded(email: str) -> str:
    return email.replace("+", "%2B").replace("@", "%40")
