"""The real stack as a test sees it: the CRM by SQL, Inxmail by REST, Kafka, and the processes to be hurt.

Every test makes its own distributions, lists and people, with addresses that no other test has.
"""

import asyncio
import inspect
import itertools
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil

from schemas.ids import gguid_of
from streams.demo.comparison import SUBSCRIBED, UNSUBSCRIBED
from streams.demo.visitor import Seen, Visitor

COLUMNS = {
    "salutation": "Anrede",
    "first_name": "Vorname",
    "last_name": "Nachname",
    "town": "Ort",
    "birthday": "Geburtstag",
    "x_revenue": "Umsatz",
}
"""Columns of the CRM and the Inxmail attributes that show them, in every client of the tests."""

_POLL_SECONDS = 0.05


async def eventually(check: Callable[[], Any], *, within_seconds: float = 20.0, because: str) -> Any:
    """Wait until `check`, which may be a coroutine function, gives something true, and give that.

    An AssertionError inside `check` counts as not yet. Raises: AssertionError with `because`, after the deadline.
    """
    deadline = time.monotonic() + within_seconds
    last: object = None
    while True:
        try:
            found = check()
            value = await found if inspect.isawaitable(found) else found
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds:g} s: {because} (last seen: {last!r})")
        await asyncio.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Place:
    """A distribution of its own, bound to a list of its own in one client."""

    client: str
    list_id: int
    distribution: str
    binding: str


class World:
    """Order: use it as an async context; `endpoints.json` lies in `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.crm: asyncpg.Pool
        self.sync: asyncpg.Pool
        self.clients: dict[str, Visitor] = {}
        self._http: aiohttp.ClientSession
        self._open = AsyncExitStack()
        self._run = secrets.token_hex(3)
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> "World":
        endpoints = self.endpoints
        enter = self._open.enter_async_context
        self._http = await enter(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)))
        self.crm = await enter(asyncpg.create_pool(endpoints["postgres_dsn"], min_size=1, max_size=8))
        self.sync = await enter(asyncpg.create_pool(endpoints["sync_dsn"], min_size=1, max_size=4))
        for client, endpoint in endpoints["inxmail"].items():
            self.clients[client] = await enter(Visitor(client, endpoint))
            await self.clients[client].control("PATCH", "/options", {"requests_per_minute": 100_000})
        await self._map_columns()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    @property
    def endpoints(self) -> dict[str, Any]:
        """What `up` wrote last."""
        found: dict[str, Any] = json.loads((self.home / "endpoints.json").read_bytes())
        return found

    @property
    def kafka(self) -> str:
        """Bootstrap servers."""
        return str(self.endpoints["kafka"])

    # What people do in the CRM

    def email(self, name: str = "person") -> str:
        """An address that no other test has."""
        return f"{name}.{self._run}.{next(self._numbers)}@example.org"

    async def place(self, client: str = "a", *, requires_doi: bool = False, **binding: Any) -> Place:
        """A new list at Inxmail, with a new distribution bound to it."""
        number = next(self._numbers)
        visitor = self.clients[client]
        body = {"name": f"Liste {self._run} {number}", "type": "STANDARD", "senderAddress": "absender@example.org"}
        list_id = int((await visitor.post("/lists", body))["id"])
        distribution = await self.insert("distribution", title=f"Verteiler {number}", requires_doi=requires_doi)
        fields = {"distribution_gguid": distribution, "baf_client_id": client, "inxmail_list_id": list_id, **binding}
        return Place(client, list_id, distribution, await self.insert("distribution_binding", **fields))

    async def person(self, email: str | None = None, **columns: Any) -> str:
        """A new person; the GGUID."""
        return await self.insert("address", email1=self.email() if email is None else email, **columns)

    async def member(self, place: Place, address: str, *, proof: str | None = "written", **columns: Any) -> str:
        """Make the person a member of the place, with a consent of that kind; the recipient's GGUID."""
        owner = {"address_gguid": address, "distribution_gguid": place.distribution, "baf_client_id": place.client}
        recipient = await self.insert("distribution_recipient", **owner, **columns)
        if proof is not None:
            await self.insert("consent", **owner, kind=proof)
        return recipient

    async def insert(self, table: str, **columns: Any) -> str:
        """A new row of schema `crm`; its GGUID."""
        names = ", ".join(columns)
        places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        statement = f"insert into crm.{table} ({names}) values ({places}) returning gguid"
        return str(await self.crm.fetchval(statement, *columns.values()))

    async def update(self, table: str, gguid: str, **columns: Any) -> None:
        """Change a row of schema `crm`."""
        changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, start=2))
        await self.crm.execute(f"update crm.{table} set {changes} where gguid = $1", gguid, *columns.values())

    async def status(self, recipient: str) -> asyncpg.Record | None:
        """What the CRM says was observed of a membership."""
        query = "select * from crm.distribution_recipient_status where distribution_recipient_gguid = $1"
        return await self.crm.fetchrow(query, recipient)

    # What is there at Inxmail

    async def seen(self, place: Place, email: str) -> Seen | None:
        """The subscribed recipient of that address on the place's list, with all mapped attributes."""
        return await self._seen(place, email, "subscribedTo")

    async def state(self, place: Place, email: str) -> str | None:
        """`subscribed`, `unsubscribed`, or None when the list does not know the address."""
        if await self._seen(place, email, "subscribedTo"):
            return SUBSCRIBED
        return UNSUBSCRIBED if await self._seen(place, email, "unsubscribedFromAny") else None

    async def arrives(self, place: Place, email: str, *, within_seconds: float = 30.0, **values: Any) -> Seen:
        """Wait until the address is subscribed at the place, and its attributes (by attribute name) are these."""

        async def check() -> Seen | None:
            seen = await self.seen(place, email)
            assert seen is None or {name: seen.values.get(name) for name in values} == values, "other values"
            return seen

        seen: Seen = await eventually(check, within_seconds=within_seconds, because="the recipient arrives at Inxmail")
        return seen

    async def becomes(self, place: Place, email: str, state: str | None, *, within_seconds: float = 30.0) -> None:
        """Wait until the address has that state at the place."""

        async def check() -> bool:
            return await self.state(place, email) == state

        await eventually(check, within_seconds=within_seconds, because=f"the recipient is {state} at Inxmail")

    async def shows(self, recipient: str, state: str, *, within_seconds: float = 30.0) -> asyncpg.Record:
        """Wait until the CRM shows that subscription state."""

        async def check() -> asyncpg.Record | None:
            row = await self.status(recipient)
            assert row is None or row["subscription_state"] == state, row["subscription_state"]
            return row

        row: asyncpg.Record = await eventually(check, within_seconds=within_seconds, because=f"the CRM shows {state}")
        return row

    async def writes(self) -> dict[str, int]:
        """How many requests of the pipeline have changed something at each client, so far."""
        counted = {}
        for client, visitor in self.clients.items():
            entries = await visitor.control("GET", "/requests", query={"writes_only": "true", "limit": "10000"})
            counted[client] = sum(entry["credential"] == "verteiler" for entry in entries["requests"])
        return counted

    # What befalls processes

    def pid(self, name: str) -> int:
        """The process of that name, such as `decide-changes-0`, `client-a`, `kafka`, `up`."""
        return self.pids()[name]

    def pids(self) -> dict[str, int]:
        """Every process that runs now, by name."""
        return {row["name"]: int(row["pid"]) for row in json.loads((self.home / "pids.json").read_bytes())}

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End a process at once; the supervisor starts it again. Its former pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    async def comes_back(self, name: str, former_pid: int, *, within_seconds: float = 60.0) -> None:
        """Wait until a killed process was started again and answers."""

        async def check() -> bool:
            return self.pids().get(name, former_pid) != former_pid and await self.ready(name)

        await eventually(check, within_seconds=within_seconds, because=f"{name} comes back")

    async def ready(self, name: str) -> bool:
        """Whether a process of the pipeline says that it is ready; for the others, whether it lives."""
        if name == "postgres":
            try:
                return bool(await self.crm.fetchval("select true"))
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return False
        url = self.endpoints["telemetry"].get(name)
        if url is None:
            return psutil.pid_exists(self.pid(name))
        try:
            async with self._http.get(f"{url}/readyz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Freeze a process while the block runs."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep a process stopped while the block runs."""
        marker = self.home / "held" / name
        marker.touch()
        try:
            yield
        finally:
            marker.unlink()

    async def _seen(self, place: Place, email: str, filter_: str) -> Seen | None:
        visitor = self.clients[place.client]
        filters = {filter_: str(place.list_id), "email": email}
        return next(iter(await visitor.recipients(filters, list(COLUMNS.values()))), None)

    async def _map_columns(self) -> None:
        for client, visitor in self.clients.items():
            ids = await visitor.attributes()
            await self.crm.executemany(
                "insert into crm.field_mapping (gguid, baf_client_id, crm_table, crm_field, inxmail_attribute_id,"
                " authority, null_policy, scale) values ($1, $2, 'address', $3, $4, 'master', 'clear', $5)"
                " on conflict do nothing",
                [
                    (
                        gguid_of("sample", "mapping", client, column),
                        client,
                        column,
                        ids[name],
                        2 if column == "x_revenue" else None,
                    )
                    for column, name in COLUMNS.items()
                ],
            )
