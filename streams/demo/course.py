"""The course of the demonstration, in a running stack: load, edit, unsubscribe, compare. Shows nothing by itself."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import asyncpg
import msgspec

from connectors.postgres.failures import translated
from connectors.smartwe.desk import Desk
from connectors.smartwe.sample import load_sample
from schemas.ids import KeyRing
from streams.demo.comparison import SUBSCRIBED, UNSUBSCRIBED, Difference, Entry, counts, differences
from streams.demo.measure import Latency, Race, latency
from streams.demo.sides import Place, Sides
from streams.demo.targets import targets_of
from streams.demo.visitor import Visitor

EDITS = 100
EDITS_PER_SECOND = 5.0
UNSUBSCRIPTIONS = 50
UNSUBSCRIPTIONS_PER_SECOND = 8.0

_LOOK_SECONDS = 0.03
_PATIENCE_SECONDS = 120.0
_STRAGGLER_SECONDS = 5.0
_TOWN = "Ort"


class Stage(Protocol):
    """Where the demonstration is shown."""

    def say(self, words: str) -> None:
        """A new part begins."""

    def progress(self, what: str, done: int, total: int) -> None:
        """How far one thing has come."""


class Report(msgspec.Struct, frozen=True, omit_defaults=False):
    """What was measured and compared. Times: `_s` seconds, `_ms` milliseconds."""

    addresses: int
    initial_load_s: float | None
    incremental_ms: Latency
    reverse_ms: Latency
    converged: bool
    lost: int
    edits: int
    unsubscriptions: int
    compared: int
    differences: dict[str, int]
    examples: list[Difference]


async def run(
    endpoints: Mapping[str, Any],
    keys: KeyRing,
    stage: Stage,
    *,
    addresses: int,
    seed: int,
    patience_seconds: float = 120.0,
) -> Report:
    """Everything, in the stack of these endpoints, which is empty but for its clients.

    patience_seconds: how long both sides may take to become equal in the end.

    Raises: Unavailable, when a part of the stack goes away for good.
    """
    async with _opened(endpoints, keys) as (crm, visitors, sides):
        stage.say(f"loading {addresses:,} addresses into the CRM")
        loaded = await load(endpoints["postgres_dsn"], visitors, sides, stage, addresses=addresses, seed=seed)
        expected = await sides.expected()
        editable, leaving = chosen(expected)
        stage.say(f"editing {len(editable)} people in the CRM, {EDITS_PER_SECOND:g} a second")
        edits = await edit(Desk(crm), visitors, editable, stage)
        stage.say(f"{len(leaving)} people unsubscribe at Inxmail")
        departures = await unsubscribe(Desk(crm), visitors, leaving, stage)
        stage.say("comparing both sides")
        left = {(entry.client, entry.list_id, entry.email) for entry in leaving}
        found, compared = await converge(sides, stage, left, within_seconds=patience_seconds)
    kinds = counts(found)
    return Report(
        addresses=addresses,
        initial_load_s=loaded,
        incremental_ms=latency(edits.took),
        reverse_ms=latency(departures.took),
        converged=not found,
        lost=len(edits.under_way) + len(departures.under_way) + kinds.get("missing", 0),
        edits=edits.begun,
        unsubscriptions=departures.begun,
        compared=compared,
        differences=kinds,
        examples=found[:10],
    )


async def load(
    dsn: str, visitors: Mapping[str, Visitor], sides: Sides, stage: Stage, *, addresses: int, seed: int
) -> float | None:
    """Load the sample; seconds until everybody it makes is at Inxmail, None when that does not come about in time."""
    targets = {client: await targets_of(visitor) for client, visitor in visitors.items()}
    began = time.monotonic()
    loading = asyncio.create_task(
        load_sample(
            dsn,
            addresses=addresses,
            seed=seed,
            clients=list(visitors),
            bindings=targets,
            progress=lambda done: stage.progress("CRM", done, addresses),
        )
    )
    arrivals = Arrivals(visitors, stage)
    try:
        while not loading.done():
            await arrivals.look()
            await asyncio.wait((loading,), timeout=0.25)
        loading.result()
    finally:
        loading.cancel()
    expected = await sides.expected()
    arrivals.expect(expected)
    deadline = time.monotonic() + _PATIENCE_SECONDS + addresses / 100
    equal_at = await arrivals.all_there(expected, sides, deadline)
    return None if equal_at is None else round(equal_at - began, 2)


class Arrivals:
    """How many recipients each account has, and how many of them its lists.

    The former by REST, following the link to newer ones; the latter in the stand-in's own state, because a visitor's
    request budget is soon used up by walking whole lists.
    """

    def __init__(self, visitors: Mapping[str, Visitor], stage: Stage) -> None:
        self._visitors = visitors
        self._stage = stage
        self._links: dict[str, str | None] = dict.fromkeys(visitors)
        self._counted = dict.fromkeys(visitors, 0)
        self._mailboxes: dict[str, int] = {}
        self._members: Counter[tuple[str, int]] | None = None
        self._next_count = 0.0

    def expect(self, entries: Collection[Entry]) -> None:
        """From now on it is known how many there will be."""
        self._mailboxes = Counter(client for client, _ in {(entry.client, entry.email) for entry in entries})
        self._members = Counter((entry.client, entry.list_id) for entry in entries)

    async def look(self) -> bool:
        """Look once; whether every list has as many members as it should."""
        if time.monotonic() >= self._next_count:
            self._next_count = time.monotonic() + 0.5
            for client, visitor in self._visitors.items():
                newer, self._links[client] = await visitor.newer(self._links[client])
                self._counted[client] += newer
                self._stage.progress(f"Inxmail {client}", self._counted[client], self._mailboxes.get(client, 0))
        if self._members is None:
            return False
        found: dict[tuple[str, int], int] = {}
        for client, visitor in self._visitors.items():
            found |= {(client, list_id): count for list_id, count in (await visitor.subscribed()).items()}
        return all(found.get(place, 0) >= count for place, count in self._members.items())

    async def all_there(self, expected: list[Entry], sides: Sides, deadline: float) -> float | None:
        """When everybody expected was seen, by the monotonic clock; None: not until `deadline`."""
        while time.monotonic() < deadline:
            seen_at = time.monotonic()
            if await self.look():
                if not differences(expected, await sides.actual()):
                    return seen_at
                await asyncio.sleep(1.0)  # a comparison costs a dozen requests of the visitor's budget
            await asyncio.sleep(0.2)
        return None


def chosen(expected: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Whom to edit and who unsubscribes: different people, spread over all lists. Pure."""
    people: dict[str, Entry] = {}
    mailboxes: set[str] = set()
    for entry in sorted(expected, key=lambda entry: (entry.email, entry.client, entry.list_id)):
        if entry.state == SUBSCRIBED and entry.recipient and _TOWN in entry.values and entry.email not in mailboxes:
            people.setdefault(entry.recipient, entry)
            mailboxes.add(entry.email)
    ordered = list(people.values())
    step = max(1, len(ordered) // (EDITS + UNSUBSCRIPTIONS))
    spread = ordered[::step]
    edits = spread[: min(EDITS, 2 * len(spread) // 3)]
    return edits, spread[len(edits) : len(edits) + UNSUBSCRIPTIONS]


async def edit(desk: Desk, visitors: Mapping[str, Visitor], people: list[Entry], stage: Stage) -> Race:
    """Change one person after the other; from the CRM's commit to the answer that Inxmail gave to the change.

    The answer is read in the far side's request log; what arrives in another way (an import) is looked for by REST.
    """
    race = Race()
    ids = {
        client: {seen.email: seen.id for seen in await visitor.recipients({})} for client, visitor in visitors.items()
    }
    watches = {client: await visitor.last_request() for client, visitor in visitors.items()}
    names = {(entry.client, f"/recipients/{ids[entry.client][entry.email]}"): _name(entry) for entry in people}
    towns = {_name(entry): f"Neustadt {number}" for number, entry in enumerate(people, start=1)}

    async def look() -> None:
        for client, visitor in visitors.items():
            for request in await visitor.requests_since(watches[client], method="PATCH"):
                watches[client] = request.id
                if request.status < 300 and (name := names.get((client, request.path))):
                    race.arrive(name, request.answered_at)
        stage.progress("edits", len(race.took), len(people))

    async def set_out(entry: Entry) -> None:
        assert entry.recipient is not None  # `chosen` saw to it
        race.begin(_name(entry), time.time())
        await desk.move(entry.recipient, towns[_name(entry)])

    await _race(people, set_out, look, race, per_second=EDITS_PER_SECOND, within_seconds=_STRAGGLER_SECONDS)
    for entry in people:
        if _name(entry) in race.under_way:
            await _look_by_rest(visitors[entry.client], entry, towns[_name(entry)], race)
    return race


async def _look_by_rest(visitor: Visitor, entry: Entry, town: str, race: Race) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS / 4
    while time.monotonic() < deadline:
        seen = await visitor.recipients({"email": entry.email}, [_TOWN])
        if seen and seen[0].values.get(_TOWN) == town:
            race.arrive(_name(entry), time.time())
            return
        await asyncio.sleep(0.25)


async def unsubscribe(desk: Desk, visitors: Mapping[str, Visitor], people: list[Entry], stage: Stage) -> Race:
    """One person after the other leaves; from the moment the log shows it to the CRM's own record saying so."""
    race = Race()
    delays = {client: await visitor.event_delay_seconds() for client, visitor in visitors.items()}
    members = await _members(desk, people)

    async def look() -> None:
        states = await desk.states({recipient for name in race.under_way for recipient in members[name]})
        now = time.time()
        for name in race.under_way:
            if members[name] and all(states.get(recipient) == UNSUBSCRIBED for recipient in members[name]):
                race.arrive(name, now)
        stage.progress("unsubscriptions", len(race.took), len(people))

    async def set_out(entry: Entry) -> None:
        await visitors[entry.client].unsubscribe(entry.list_id, entry.email)
        race.begin(_name(entry), time.time() + delays[entry.client])

    await _race(
        people, set_out, look, race, per_second=UNSUBSCRIPTIONS_PER_SECOND, within_seconds=_PATIENCE_SECONDS / 4
    )
    return race


async def _members(desk: Desk, people: Iterable[Entry]) -> dict[str, list[str]]:
    """By entry, the memberships that the CRM shows as subscribed through this mailbox."""
    by_place: dict[Place, list[str]] = {}
    for observed in await desk.statuses():
        if observed.state == SUBSCRIBED:
            by_place.setdefault((observed.client, observed.list_id, observed.email), []).append(observed.recipient)
    return {_name(entry): by_place.get((entry.client, entry.list_id, entry.email), []) for entry in people}


async def _race(
    people: Collection[Entry],
    set_out: Callable[[Entry], Awaitable[None]],
    look: Callable[[], Awaitable[None]],
    race: Race,
    *,
    per_second: float,
    within_seconds: float,
) -> None:
    """Send one after the other out at an even pace; look until all have arrived, or until so long after the last."""

    async def send() -> None:
        began = time.monotonic()
        for number, entry in enumerate(people):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            await set_out(entry)

    sending = asyncio.create_task(send())
    try:
        while not sending.done():
            await look()
            await asyncio.wait((sending,), timeout=_LOOK_SECONDS)
        sending.result()
    finally:
        sending.cancel()
    deadline = time.monotonic() + within_seconds
    while race.under_way and time.monotonic() < deadline:
        await look()
        await asyncio.sleep(_LOOK_SECONDS)


async def converge(
    sides: Sides, stage: Stage, left: Collection[Place], *, within_seconds: float
) -> tuple[list[Difference], int]:
    """Compare until nothing differs or the time is over; what differs then, and how much was compared."""
    deadline = time.monotonic() + within_seconds
    while True:
        found, compared = await sides.differences(left)
        stage.progress("equal", compared - len(found), compared)
        if not found or time.monotonic() > deadline:
            return found, compared
        await asyncio.sleep(2.0)  # looks again before the deadline: the far side tells nobody that it changed


def _name(entry: Entry) -> str:
    return f"{entry.client}/{entry.list_id}/{entry.email}"


@asynccontextmanager
async def _opened(
    endpoints: Mapping[str, Any], keys: KeyRing
) -> AsyncIterator[tuple["asyncpg.Connection[asyncpg.Record]", dict[str, Visitor], Sides]]:
    async with AsyncExitStack() as opened:
        async with translated():
            crm = await asyncpg.connect(endpoints["postgres_dsn"])
        opened.push_async_callback(crm.close)
        visitors = {
            client: await opened.enter_async_context(Visitor(client, account))
            for client, account in endpoints["inxmail"].items()
        }
        yield crm, visitors, Sides(crm, visitors, keys.email_hashes)
