"""She leaves before, during and after each step of a resubscribing import, and the log shows it at once or at any later
step: she is never left subscribed. Whom the log showed before an import could read it is not subscribed at all.

Real Kafka, PostgreSQL and client worker; the simulator holds requests at chosen steps, so that nothing is left to
chance but the seeded draw of cases. Many people share one import, each with her own step and her own visibility. What
decide would ask for when it hears of an objection is asked for here as soon as the bus has it.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import msgspec
import pytest

from schemas.facts import Meaning, meaning_of
from schemas.mutations import Evidence, Mutation, Want
from tests.integration.client_world import LIST, ClientWorld, shifted, wish
from tests.integration.conftest import NewClient
from tests.world import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]

CASES = int(os.environ.get("VERTEILER_TEST_RACES", "60"))
"""1,000 is the whole table: 13 steps, 91 orders with the log's visibility, each several times over."""
_PER_IMPORT = 125
_STAYING = 8
_SEED = 20
_HIDDEN_MS = 3_600_000
_LOG, _IMPORTS = "/events/unsubscriptions", "/imports/recipients"
_DEEDS = ("unsubscribe-by-link", "unsubscribe-by-header", "unsubscribe-by-user")
STEPS = (
    "before anything is wanted",
    "wanted, the log about to be read",
    "the log was read, the answer is under way",
    "the log was read again",
    "the import is under way to Inxmail",
    "accepted, no row carried out",
    "half of the rows carried out",
    "all rows carried out, not yet known",
    "known, the log about to be read",
    "the log was read, the answer is under way, the rows not yet judged",
    "the rows about to be judged",
    "judged and told",
    "at rest",
)


_HEARD_IN_TIME = 1
"""The last step before the log is read for the import."""


class Case(NamedTuple):
    """One person: at which step she leaves, at which the log shows it, and how she does it."""

    email: str
    leaves: int
    shown: int
    deed: str

    def __str__(self) -> str:
        return f"left {STEPS[self.leaves]!r}, shown {STEPS[self.shown]!r}, {self.deed}"


def drawn(number: int, draw: random.Random) -> list[Case]:
    """The table in a random order, as often as it takes: each pair of steps comes before any comes twice."""
    pairs = [(leaves, shown) for leaves in range(len(STEPS)) for shown in range(leaves, len(STEPS))]
    chosen: list[tuple[int, int]] = []
    while len(chosen) < number:
        draw.shuffle(pairs)
        chosen += pairs
    return [
        Case(f"left{index}@verteiler.example", leaves, shown, draw.choice(_DEEDS))
        for index, (leaves, shown) in enumerate(chosen[:number])
    ]


class Table:
    """The cases of one import, and the steps it is led through."""

    def __init__(self, world: ClientWorld, cases: Sequence[Case], *, answer_is_held: bool) -> None:
        self._world = world
        self._cases = cases
        self._answer_is_held = answer_is_held
        self._staying = [f"stays{number}@verteiler.example" for number in range(_STAYING)]
        self._everybody = [*self._staying, *(case.email for case in cases)]
        random.Random(len(cases)).shuffle(self._everybody)

    async def play(self) -> list[str]:
        """Lead the import through its steps; what is wrong in the end, in words."""
        world = self._world
        await self._left_long_ago()
        await world.started()
        async with _decide(world):
            await self._lead()
            await self._come_to_rest()
        return await self._wrong()

    async def _left_long_ago(self) -> None:
        """Everybody has unsubscribed two hours ago and agreed again since: only that resubscribes anybody."""
        control = self._world.control
        await control.advance(-7200)
        gone = [{"list_id": LIST, "state": "UNSUBSCRIBED"}]
        await control("POST", "/recipients", [{"email": email, "memberships": gone} for email in self._everybody])
        await control.advance(7200)

    async def _lead(self) -> None:
        world = self._world
        await self._at(0)
        posting = await self._hold("hold-after" if self._answer_is_held else "hold", "POST", _IMPORTS, count=1)
        asked = await self._hold("hold", "GET", _LOG)
        wishes = [world.mutation(email, wish(proof=shifted(-3600))) for email in self._everybody]
        await world.want(*wishes)
        taken = "select count(*) from sync.desired where client = $1"
        await eventually(
            lambda: _equal(world.pool.fetchval(taken, world.client), len(wishes)), because="all is taken in"
        )
        await self._reached(asked)
        await self._at(1)
        asked = await self._next(asked, "hold-after", "GET", _LOG, count=1)
        await self._at(2)
        asked = await self._next(asked, "hold-after", "GET", _LOG, count=1)
        await self._at(3)
        await self._release(asked)
        await self._reached(posting)
        await self._at(4)
        await self._release(posting)
        known = await eventually(self._imports, because="an import is accepted")
        import_id = max(known)
        await self._at(5)
        await world.control("POST", f"/imports/{import_id}/step", {"rows": len(self._everybody) // 2})
        await self._at(6)
        asked = await self._hold("hold", "GET", f"{_IMPORTS}/*")
        await world.control("POST", f"/imports/{import_id}/step", {"finish": True})
        await world.control.options(import_rows_per_second=None)  # whatever else it imports, it need not wait for us
        await self._at(7)
        asked = await self._next(asked, "hold", "GET", _LOG)
        await self._at(8)
        asked = await self._next(asked, "hold-after", "GET", _LOG, count=1)
        await self._at(9)
        reading = await self._hold("hold", "GET", "/recipients")
        judging = await self._hold("hold", "GET", f"{_IMPORTS}/*/errors")
        await self._release(asked)
        with suppress(AssertionError):  # all may be known without a question
            await eventually(lambda: self._hits(reading, judging), within_seconds=1, because="the rows are judged")
        await self._at(10)
        await self._release(reading)
        await self._release(judging)
        open_ = "select count(*) from sync.open_import where client = $1 and outcome is null"
        await eventually(
            lambda: _equal(world.pool.fetchval(open_, world.client), 0), because="the import is written down"
        )
        await self._at(11)
        await world.rest()
        await self._at(12)

    async def _come_to_rest(self) -> None:
        world = self._world
        left = {case.email for case in self._cases}
        answered = (
            "select count(*) from sync.delivery d join sync.desired w using (client, mailbox)"
            " where client = $1 and d.counter = w.counter and d.revision = d.reported"
        )
        await eventually(lambda: _heard(world, left), within_seconds=30, because="every objection is in the bus")
        await eventually(
            lambda: _equal(world.pool.fetchval(answered, world.client), len(self._everybody)),
            within_seconds=60,
            because="everything that is wanted is answered",
        )
        await world.rest()

    async def _at(self, step: int) -> None:
        """What people do at this step, and what the log shows from now on."""
        world = self._world
        for case in self._cases:
            if case.leaves == step:
                await world.control.person(case.deed, LIST, case.email, delay_ms=_HIDDEN_MS)
        if shown := [case.email for case in self._cases if case.shown == step]:
            await world.control("POST", "/events/unsubscriptions/release", {"emails": shown})

    async def _wrong(self) -> list[str]:
        states = {
            shown["email"]: next((m["state"] for m in shown["memberships"] if m["list_id"] == LIST), "NONE")
            for shown in (await self._world.control("GET", "/recipients?limit=10000"))["recipients"]
        }
        joined = await self._world.account.walk("/events/subscriptions?pageSize=1000", "subscription-events")
        for_a_moment = {event["email"] for event in joined}
        return [
            *(
                f"subscribed for a moment: {case}"
                for case in self._cases
                if case.shown <= _HEARD_IN_TIME and case.email in for_a_moment
            ),
            *(f"{states[case.email]}: {case}" for case in self._cases if states[case.email] != "UNSUBSCRIBED"),
            *(f"{states[email]}: never left" for email in self._staying if states[email] != "SUBSCRIBED"),
        ]

    # the simulator's holds

    async def _hold(self, kind: str, method: str, path: str, count: int | None = None) -> int:
        plan = {"match": {"method": method, "path": path, "credential": "worker"}, "fault": {"kind": kind}}
        made = await self._world.control("POST", "/faults", plan | {"count": count})
        return int(made["faults"][0]["id"])

    async def _next(self, before: int, kind: str, method: str, path: str, count: int | None = None) -> int:
        """Let go of what is held and hold the next one; returns when that has come."""
        after = await self._hold(kind, method, path, count)
        await self._release(before)
        await self._reached(after)
        return after

    async def _reached(self, plan: int) -> None:
        await eventually(lambda: self._hits(plan), because=f"the request that plan {plan} holds")

    async def _hits(self, *plans: int) -> int:
        shown = (await self._world.control("GET", "/faults"))["faults"]
        return sum(each["hits"] for each in shown if each["id"] in plans)

    async def _release(self, plan: int) -> None:
        await self._world.control("DELETE", f"/faults/{plan}")

    async def _imports(self) -> list[int]:
        rows = (await self._world.account.get(_IMPORTS)).items("recipient-imports")
        return [int(row["id"]) for row in rows]


async def _equal(found: Any, wanted: int) -> bool:
    return bool(await found == wanted)


async def _heard(world: ClientWorld, emails: set[str]) -> bool:
    return emails <= {event.email for event in (await world.unsubscriptions()).values()}


@asynccontextmanager
async def _decide(world: ClientWorld) -> AsyncIterator[None]:
    """Whoever objected, by the bus, is wanted off the list."""
    answered: set[int] = set()

    async def listen() -> None:
        while True:
            wanted: list[Mutation] = []
            for event in (await world.unsubscriptions()).values():
                hers = event.op_id is None and meaning_of(event) is Meaning.UNSUBSCRIBED
                if event.event_id not in answered and hers and event.email:
                    objection = Evidence(f"unsubscriptions:{event.event_id}", event.occurred_at)
                    off = msgspec.structs.replace(wish(Want.UNSUBSCRIBED, rule="objected"), objection=objection)
                    wanted.append(world.mutation(event.email, off))
                answered.add(event.event_id)
            await world.want(*wanted)
            await asyncio.sleep(0.1)  # between two readings of the topic

    listening = asyncio.create_task(listen())
    try:
        yield
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def test_whoever_leaves_at_any_step_of_a_resubscribing_import_is_never_left_subscribed(
    new_client: NewClient, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = drawn(CASES, random.Random(_SEED))
    wrong: list[str] = []
    for number, first in enumerate(range(0, CASES, _PER_IMPORT)):
        async with new_client(behaviour={"import_rows_per_second": 0, "event_on_import": True}) as world:
            table = Table(world, cases[first : first + _PER_IMPORT], answer_is_held=bool(number % 2))
            wrong += await table.play()
    told = Counter(case.leaves for case in cases)
    with capsys.disabled():
        print(f"\n{CASES} cases over {len(told)} steps: {len(wrong)} wrong")

    assert not wrong, "\n".join(wrong)
