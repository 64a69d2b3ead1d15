"""Random histories of one client: wishes, faults, people's own deeds, and workers that die at any await.

Whatever came before, in the end Inxmail is as it should be, nothing forbidden was done on the way, and a second run
sends nothing.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from schemas.mutations import Evidence, ListWish, Mutation, Want
from tests.integration.client_world import FIRST_NAME, LIST, OTHER_LIST, ClientWorld, Worker, shifted, wish
from tests.integration.conftest import NewClient
from tests.world import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

HISTORIES = int(os.environ.get("VERTEILER_TEST_DELIVERY_HISTORIES", "6"))
FIRST_SEED = int(os.environ.get("VERTEILER_TEST_DELIVERY_SEED", "0"))
_PEOPLE = tuple(f"person{number}@verteiler.example" for number in range(6))
_GONE = _PEOPLE[-1]
"""She has left both lists, and never agreed again: whatever is asked for, she is not subscribed."""
_LISTS = (LIST, OTHER_LIST)
_EARLIEST_DEATH, _LATEST_DEATH = 1.5, 4.0
"""Powers of ten: a worker takes some hundreds of awaits to begin, and a few thousand to deliver a handful of people."""
_RACE_SECONDS = 6.0
"""Within this time after she left, an import that was under way may still subscribe her for a moment."""
_SKEW = timedelta(seconds=60)
_FAULTS = (
    {"kind": "cut-before"},
    {"kind": "cut-after"},
    {"kind": "status", "status": 502, "html": True},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 429, "retry_after_seconds": 1},
    {"kind": "status-after", "status": 500},
    {"kind": "truncate"},
    {"kind": "half-body"},
    {"kind": "delay", "seconds": 0.5},
    {"kind": "delay-after", "seconds": 0.5},
)
_PLACES = (
    ("POST", "/imports/recipients"),
    ("GET", "/imports/recipients"),
    ("GET", "/imports/*"),
    ("POST", "/events/unsubscriptions"),
    ("GET", "/events/*"),
    ("PATCH", "/recipients/*"),
    ("GET", "/recipients"),
)
_SCRIPTS = ("FAILED_HALFWAY", "CANCELED", "FAILED_HEADER")


class Fate:
    """When a worker dies: its tasks, all together, are suspended for the so-manieth time."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self.awaits = 0
        self.worker: Worker | None = None

    def suspended(self) -> None:
        self.awaits += 1
        if self.awaits == self._at and self.worker is not None:
            asyncio.get_running_loop().call_soon(self.worker.task.cancel)


_FATE: ContextVar[Fate | None] = ContextVar("fate", default=None)


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that counts where it is suspended."""

    def __init__(self, work: Coroutine[Any, Any, Any], fate: Fate) -> None:
        self._work = work
        self._fate = fate

    def send(self, value: Any) -> Any:
        awaited = self._work.send(value)
        self._fate.suspended()
        return awaited

    def throw(self, *error: Any) -> Any:
        awaited = self._work.throw(*error)
        self._fate.suspended()
        return awaited

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()


@asynccontextmanager
async def _fated() -> AsyncIterator[None]:
    """Count the awaits of every task that is begun where a fate is set, and of those begun by them."""
    loop = asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        fate = _FATE.get()
        return asyncio.Task(work if fate is None else _Watched(work, fate), loop=loop, **more)

    before = loop.get_task_factory()
    loop.set_task_factory(make)
    try:
        yield
    finally:
        loop.set_task_factory(before)


@dataclass
class History:
    """One client's course of events, drawn from a seed, and what is known of it beside the pipeline."""

    world: ClientWorld
    draw: random.Random
    told: list[str] = field(default_factory=list)
    objected: dict[tuple[str, int], datetime] = field(default_factory=dict)
    """When she last left by herself."""
    wishes: list[tuple[datetime, str, ListWish]] = field(default_factory=list)
    """Every wish to subscribe that was ever sent, and when."""
    _worker: Worker | None = None
    _fate: Fate | None = None

    async def begin(self) -> None:
        """People as they were two hours ago: unknown, members, or gone by themselves."""
        control = self.world.control
        await control.advance(-7200)
        at = shifted(-7200)
        for email in _PEOPLE[1:]:
            possible = ["UNSUBSCRIBED"] if email == _GONE else ["NONE", "SUBSCRIBED", "UNSUBSCRIBED"]
            states = [(list_id, self.draw.choice(possible)) for list_id in _LISTS]
            await self.world.put(email, *((list_id, state) for list_id, state in states if state != "NONE"))
            self.objected |= {(email, list_id): at for list_id, state in states if state == "UNSUBSCRIBED"}
            self.told.append(f"{email} {states}")
        await control.advance(7200)

    async def go_on(self) -> None:
        """One thing happens."""
        self._live()
        match self.draw.choice(["wish", "wish", "wish", "fault", "fault", "leave", "script"]):
            case "wish":
                chosen = self.draw.sample(_PEOPLE, self.draw.randint(1, len(_PEOPLE)))
                await self._want([self._any_wish(email) for email in chosen])
            case "fault":
                fault, (method, path) = self.draw.choice(_FAULTS), self.draw.choice(_PLACES)
                more = {name: value for name, value in fault.items() if name != "kind"}
                count = self.draw.randint(1, 3)
                self.told.append(f"{fault} on {method} {path}, {count} times")
                await self.world.fault(str(fault["kind"]), method=method, path=path, count=count, **more)
            case "leave":
                email, list_id = self.draw.choice(_PEOPLE), self.draw.choice(_LISTS)
                self.told.append(f"{email} leaves {list_id}")
                await self.world.control.person("unsubscribe-by-link", list_id, email)
                self.objected[email, list_id] = datetime.now(UTC)
            case "script":
                outcome = self.draw.choice(_SCRIPTS)
                self.told.append(f"the next import is to end as {outcome}")
                await self.world.control("POST", "/imports/scripts", {"outcome": outcome})
        await asyncio.sleep(self.draw.choice([0, 0, 0.3, 1, 2]))  # a drawn pause, so that things overlap or do not

    def _live(self) -> None:
        """See to it that a worker runs, which has its death before it."""
        if self._worker is not None and not self._worker.task.done():
            return
        if self._fate is not None:
            self.told.append(f"it has died at await {self._fate.awaits}")
        at = int(10 ** self.draw.uniform(_EARLIEST_DEATH, _LATEST_DEATH))
        self.told.append(f"a worker begins that is to die at await {at}")
        self._fate = Fate(at)
        self._worker = self._start(self._fate)

    def _start(self, fate: Fate) -> Worker:
        token = _FATE.set(fate)
        try:
            fate.worker = self.world.start(pause_seconds=0.2)
        finally:
            _FATE.reset(token)
        return fate.worker

    def _any_wish(self, email: str) -> Mutation:
        """Also such as no law would ask for: without proof, with an old one, after she left."""
        lists = []
        for list_id in _LISTS:
            want = self.draw.choice([Want.SUBSCRIBED, Want.SUBSCRIBED, Want.UNSUBSCRIBED, Want.KEEP])
            newer = [] if email == _GONE else [shifted(-3600), shifted(180)]
            proof = self.draw.choice([None, shifted(-10_800), *newer])
            rule = "member" if want is Want.SUBSCRIBED else "withdrawn"
            lists.append(wish(want, list_id=list_id, rule=rule, proof=proof))
        name = self.draw.choice(["Ann", "Bea", None])
        return self.world.mutation(email, *lists, values={FIRST_NAME: name})

    async def _want(self, mutations: list[Mutation]) -> None:
        now = datetime.now(UTC)
        for each in mutations:
            shown = [(one.list_id, one.want.value, one.proof and one.proof.at.isoformat()) for one in each.lists]
            self.told.append(f"{each.email} is to be {shown}, version {each.version.counter}")
            self.wishes += [(now, each.email, one) for one in each.lists if one.want is Want.SUBSCRIBED]
        await self.world.want(*mutations)

    async def end(self) -> None:
        """No more faults; a worker lives; what is wanted is what the law would want; and the end is as it should be."""
        world = self.world
        await world.control("DELETE", "/faults")
        await world.control("DELETE", "/imports/scripts")
        if self._worker is not None:
            await self._worker.crash()
        await world.started()
        final = [self._lawful_wish(email) for email in _PEOPLE]
        await self._want(final)
        for each in final:
            await world.answer(each, within_seconds=60)
        await world.rest()
        assert await self._wrong(final) == []
        assert await self._forbidden() == []

        before = len(await world.writes())
        await world.workers[-1].end()
        await world.started()
        await world.want(*final)
        await world.rest()
        assert len(await world.writes()) == before, "a second run sends nothing"

    def _lawful_wish(self, email: str) -> Mutation:
        lists = []
        for list_id in _LISTS:
            objection = self.objected.get((email, list_id))
            if email != _GONE and self.draw.random() < 0.5:
                lists.append(wish(list_id=list_id, proof=shifted(180)))  # agreed after all that was
            else:
                off = wish(
                    Want.UNSUBSCRIBED, list_id=list_id, rule="objected" if objection else "withdrawn", proof=None
                )
                heard = None if objection is None else Evidence("objection", objection)
                lists.append(msgspec.structs.replace(off, objection=heard))
        return self.world.mutation(email, *lists, values={FIRST_NAME: self.draw.choice(["Ann", "Bea", None])})

    async def _wrong(self, final: list[Mutation]) -> list[str]:
        wrong = []
        for each in final:
            person = await self.world.person(each.email)
            states = {one["list_id"]: one["state"] for one in person["memberships"]} if person else {}
            for one in each.lists:
                is_subscribed = states.get(one.list_id) == "SUBSCRIBED"
                if is_subscribed != (one.want is Want.SUBSCRIBED):
                    wrong.append(f"{each.email} on {one.list_id}: {states}, wanted {one.want.value}")
            if person and person["attributes"]["Vorname"] != each.values[FIRST_NAME]:
                wrong.append(f"{each.email}: Vorname {person['attributes']['Vorname']!r}, wanted {each.values}")
        return wrong

    async def _forbidden(self) -> list[str]:
        """Calls that must never be made, and people subscribed whom no proof allowed to be."""
        wrong = []
        for write in await self.world.writes():
            if write["credential"] != "worker":
                continue
            if (write["query"].get("truncate") or "false") != "false":
                wrong.append("an import emptied a list")
            if write["route"] == "POST /events/subscriptions":
                wrong.append("a double opt-in was triggered")
        joined = await self.world.account.walk("/events/subscriptions?pageSize=1000", "subscription-events")
        for event in joined:
            at = datetime.fromisoformat(event["creationDate"])
            where = (event["email"], event["listId"])
            left = self.objected.get(where)
            if left is None or at < left + timedelta(seconds=_RACE_SECONDS):
                continue
            allowed = any(
                one.proof is not None and one.proof.at > left + _SKEW
                for sent, email, one in self.wishes
                if (email, one.list_id) == where and sent <= at + timedelta(seconds=1)
            )
            if not allowed:
                wrong.append(f"{where} was subscribed at {at} without a proof newer than {left}")
        return wrong


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + HISTORIES))
async def test_whatever_came_before_the_end_is_as_wanted_and_nothing_forbidden_was_done(
    new_client: NewClient, seed: int
) -> None:
    draw = random.Random(seed)
    behaviour = {"event_on_import": draw.random() < 0.8}
    async with new_client(behaviour=behaviour, bulk_threshold=draw.choice([0, 2, 20])) as world, _fated():
        history = History(world, draw, told=[f"seed {seed} {behaviour}"])
        try:
            await history.begin()
            for _ in range(draw.randint(6, 16)):
                await history.go_on()
            await history.end()
        except (AssertionError, TimeoutError):
            pytest.fail("\n".join(["the history:", *history.told, ""]), pytrace=True)


async def test_a_fate_counts_awaits_and_ends_a_worker(new_client: NewClient) -> None:
    """What the histories rest on: workers really die at the await that was drawn."""
    async with new_client() as world, _fated():
        history = History(world, random.Random(1))
        fate = Fate(200)
        worker = history._start(fate)
        await eventually(worker.task.done, because="it dies")

        assert worker.task.cancelled()
        assert fate.awaits >= 200
