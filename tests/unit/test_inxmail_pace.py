"""One budget for a client: who goes first, what is kept for whom, and that it is never overdrawn."""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from connectors.inxmail.pace import SHARES, Budget, Pace, Urgency
from schemas.errors import Unavailable
from tests.virtual_time import VirtualLoop

PRIORITY, LOGS, NORMAL, BULK, STATISTICS = Urgency
OTHERS = [urgency for urgency in Urgency if urgency is not NORMAL]


def spend(budget: Budget, count: int, now: float, urgency: Urgency = NORMAL) -> None:
    for _ in range(count):
        budget.spend(now, urgency)


# the arithmetic


def test_every_class_has_a_share_that_the_others_leave_alone_and_that_shrinks_with_the_window() -> None:
    budget = Budget(600, 0.0)
    kept = 600 * sum(SHARES[urgency] for urgency in OTHERS)
    spend(budget, int(600 - kept), 0.0)

    assert 0 < budget.wait_seconds(0.0, NORMAL) < 1
    assert all(budget.wait_seconds(0.0, urgency) == 0 for urgency in OTHERS)
    assert kept / 2 - 2 <= budget.left(29.5, NORMAL) <= kept / 2 + 1
    assert budget.left(58.9, NORMAL) >= kept - 3


def test_a_share_that_is_used_up_is_kept_no_more() -> None:
    budget = Budget(600, 0.0)
    before = budget.left(0.0, NORMAL)
    spend(budget, 60, 0.0, LOGS)
    assert budget.left(0.0, NORMAL) == before

    spend(budget, 60, 0.0, LOGS)
    assert budget.left(0.0, NORMAL) == before - 60


def test_when_all_is_spent_everybody_waits_for_the_next_window() -> None:
    budget = Budget(10, 0.0)
    spend(budget, 10, 0.0)

    assert budget.wait_seconds(59.0, NORMAL) == 1
    assert budget.wait_seconds(60.0, NORMAL) == 0


def test_the_wait_that_is_told_suffices() -> None:
    budget = Budget(600, 0.0)
    now = 0.0
    for _ in range(598):
        now += budget.wait_seconds(now, NORMAL)
        assert budget.wait_seconds(now, NORMAL) == 0
        budget.spend(now, NORMAL)
    assert 55 < now < 60


def test_the_far_side_knows_better_what_is_left_and_when_the_window_ends() -> None:
    budget = Budget(600, 0.0)
    budget.heard(10.0, 5, 0, 20, sent_at=9.9)

    assert budget.wait_seconds(10.0, NORMAL) == 21
    assert budget.wait_seconds(31.0, NORMAL) == 0
    assert budget.limit == 5


def test_a_window_that_ends_later_is_a_new_one() -> None:
    budget = Budget(10, 0.0)
    budget.heard(0.0, 10, 0, 5, sent_at=0.0)
    budget.heard(5.5, 10, 9, 60, sent_at=5.4)

    assert budget.wait_seconds(5.5, NORMAL) == 0


def test_a_late_answer_of_the_window_before_says_nothing_about_this_one() -> None:
    budget = Budget(100, 0.0)
    budget.heard(0.0, 100, 50, 5, sent_at=0.0)
    budget.heard(8.0, 100, 99, 58, sent_at=7.9)
    budget.heard(8.1, 100, 0, 3, sent_at=2.0)

    assert budget.wait_seconds(8.1, NORMAL) == 0


def test_a_slow_answer_does_not_look_like_a_new_window() -> None:
    budget = Budget(100, 0.0)
    budget.heard(0.1, 100, 99, 60, sent_at=0.0)
    spend(budget, 90, 1.0)
    budget.heard(20.0, 100, 98, 60, sent_at=0.2)

    assert budget.left(59.0, NORMAL) < 10


def test_what_somebody_else_spends_with_our_credentials_is_gone() -> None:
    budget = Budget(100, 0.0)
    budget.heard(0.1, 100, 99, 60, sent_at=0.0)
    budget.heard(1.0, 100, 40, 59, sent_at=0.9, others=3)

    assert 34 <= budget.left(59.0, NORMAL) <= 37


def test_too_many_is_obeyed_to_the_time_that_was_asked_for() -> None:
    budget = Budget(600, 0.0)
    budget.refused(0.0, 7.0, draw=0.5)
    assert budget.wait_seconds(0.0, NORMAL) == 7.5

    budget = Budget(600, 0.0)
    budget.heard(0.0, 600, 100, 30, sent_at=0.0)
    budget.refused(0.0, None, draw=0.0)
    assert budget.wait_seconds(0.0, NORMAL) == 31


# whole windows, with a clock of their own


class FarSide(NamedTuple):
    """A server with fixed windows: when the first begins, how it tells their ends, how long a request takes."""

    limit: int
    began: float
    tells_ceiling: bool
    starts_with_request: bool
    there_seconds: float
    back_seconds: float


class Simulation:
    """Requests through a real pace to a far side, in time that passes by itself."""

    def __init__(self, far_side: FarSide, *, places: int = 4, own_limit: int | None = None) -> None:
        self.far_side = far_side
        self.loop = VirtualLoop()
        self.pace = Pace(own_limit or far_side.limit, places, 60, clock=self.loop.time, draw=lambda: 0.5)
        self.began = far_side.began
        self.windows: Counter[float] = Counter()
        self.refused = 0
        self.done: Counter[Urgency] = Counter()
        self.done_in: dict[Urgency, Counter[int]] = {urgency: Counter() for urgency in Urgency}
        self.longest: dict[Urgency, float] = dict.fromkeys(Urgency, 0.0)
        self.most_at_once = 0
        self._at_once = 0

    def run(self, work: Callable[["Simulation"], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(work(self))

    async def ask(self, urgency: Urgency) -> None:
        asked_at = self.loop.time()
        async with self.pace.turn(urgency) as turn:
            self.longest[urgency] = max(self.longest[urgency], self.loop.time() - asked_at)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            await asyncio.sleep(self.far_side.there_seconds)
            granted, remaining, reset = self._draw()
            await asyncio.sleep(self.far_side.back_seconds)
            self._at_once -= 1
            turn.heard(self.far_side.limit, remaining, reset)
        if granted:
            self.done[urgency] += 1
            self.done_in[urgency][int(self.loop.time() // 60)] += 1
        else:
            self.refused += 1
            self.pace.refused(Unavailable("too many"))

    def _draw(self) -> tuple[bool, int, int]:
        now = self.loop.time()
        if now >= self.began + 60:
            self.began = now if self.far_side.starts_with_request else self.began + (now - self.began) // 60 * 60
        self.windows[self.began] += 1
        rest = self.began + 60 - now
        reset = math.ceil(rest) if self.far_side.tells_ceiling else math.floor(rest)
        used = self.windows[self.began]
        return used <= self.far_side.limit, max(0, self.far_side.limit - used), reset

    async def many(self, urgency: Urgency, count: int) -> None:
        """That many requests, as fast as it goes."""
        left = count

        async def hand() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.ask(urgency)

        async with asyncio.TaskGroup() as hands:
            for _ in range(4):
                hands.create_task(hand())

    async def flood(self, urgency: Urgency) -> None:
        """Requests without end."""
        await self.many(urgency, 1_000_000)

    async def every(self, seconds: float, urgency: Urgency, times: int) -> None:
        """That many requests, one after the other, at an interval."""
        for _ in range(times):
            await self.ask(urgency)
            await asyncio.sleep(seconds)


QUICK = FarSide(600, 0.0, True, True, 0.02, 0.03)
far_sides = st.builds(
    FarSide,
    limit=st.sampled_from([30, 60, 200]),
    began=st.floats(-59, 0),
    tells_ceiling=st.booleans(),
    starts_with_request=st.booleans(),
    there_seconds=st.sampled_from([0.001, 0.1, 0.4]),
    back_seconds=st.sampled_from([0.001, 0.1, 0.4]),
)


def test_five_thousand_single_calls_use_nine_tenths_of_the_budget_and_are_never_too_many() -> None:
    simulated = Simulation(QUICK)

    async def work(world: Simulation) -> None:
        polling = asyncio.create_task(world.every(1.0, LOGS, 1000))
        await world.many(NORMAL, 5000)
        polling.cancel()

    simulated.run(work)
    whole = sorted(simulated.windows.items())[:-1]

    assert simulated.done[NORMAL] == 5000
    assert simulated.refused == 0
    assert min(used for _, used in whole) >= 540
    assert simulated.loop.time() <= 5600 / 540 * 60
    assert simulated.longest[LOGS] < 2.5


@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(far_sides, st.sampled_from(sorted(Urgency)))
def test_whoever_floods_no_window_is_overdrawn_all_of_it_is_used_and_the_logs_are_read(
    far_side: FarSide, flood: Urgency
) -> None:
    simulated = Simulation(far_side)

    async def work(world: Simulation) -> None:
        async with asyncio.TaskGroup() as tasks:
            busy = [tasks.create_task(each) for each in (world.flood(flood), world.every(5.0, LOGS, 10_000))]
            await asyncio.sleep(240)
            for each in busy:
                each.cancel()

    simulated.run(work)
    whole = [used for _, used in sorted(simulated.windows.items())][1:-1]
    places = {PRIORITY: 3, LOGS: 4, NORMAL: 3, BULK: 2, STATISTICS: 1}[flood]
    possible = 59 / (far_side.there_seconds + far_side.back_seconds) * places

    assert simulated.refused == 0
    assert simulated.most_at_once <= 4
    assert min(whole) >= 0.9 * min(far_side.limit, possible)
    slot = 60 / far_side.limit  # a small budget is spread over its window, and the logs come twelve times in each
    assert flood is LOGS or simulated.longest[LOGS] < max(5, 4 * slot)


@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(far_sides, st.lists(st.sampled_from(sorted(Urgency)), min_size=2, max_size=5, unique=True))
def test_nobody_starves_and_the_more_urgent_get_no_less(far_side: FarSide, floods: list[Urgency]) -> None:
    simulated = Simulation(far_side._replace(limit=200))

    async def work(world: Simulation) -> None:
        async with asyncio.TaskGroup() as tasks:
            busy = [tasks.create_task(world.flood(flood)) for flood in floods]
            await asyncio.sleep(240)
            for each in busy:
                each.cancel()

    simulated.run(work)
    floods.sort()

    assert simulated.refused == 0
    assert all(simulated.done_in[flood][minute] >= 1 for flood in floods for minute in range(1, 3))
    for more, less in itertools.pairwise(floods):
        assert simulated.done[more] >= simulated.done[less]


def test_whoever_leaves_does_not_wait_for_any_number_of_other_calls() -> None:
    simulated = Simulation(QUICK)

    async def work(world: Simulation) -> None:
        async with asyncio.TaskGroup() as tasks:
            busy = [tasks.create_task(world.flood(flood)) for flood in (NORMAL, BULK, STATISTICS)]
            await world.every(7.0, PRIORITY, 40)
            for each in busy:
                each.cancel()

    simulated.run(work)

    assert simulated.longest[PRIORITY] < 2.5


# places


async def test_no_more_go_at_once_than_allowed_and_a_place_is_kept_for_the_logs_and_for_leaving() -> None:
    pace = Pace(600, 3, 0)
    entered: list[str] = []
    leave = asyncio.Event()

    async def ask(name: str, urgency: Urgency) -> None:
        async with pace.turn(urgency):
            entered.append(name)
            await leave.wait()

    async with asyncio.TaskGroup() as tasks:
        for name in ("bulk", "bulk 2"):
            tasks.create_task(ask(name, BULK))
        await asyncio.sleep(0)
        for name, urgency in (("normal", NORMAL), ("normal 2", NORMAL), ("log", LOGS), ("leaving", PRIORITY)):
            tasks.create_task(ask(name, urgency))
        for _ in range(3):
            await asyncio.sleep(0)
        assert entered == ["bulk", "normal", "log"]
        leave.set()
    assert entered[3] == "leaving"
    assert sorted(entered[4:]) == ["bulk 2", "normal 2"]


async def test_the_logs_have_a_place_beside_any_number_of_people_who_leave() -> None:
    pace = Pace(600, 4, 0)
    entered: list[Urgency] = []
    leave = asyncio.Event()

    async def ask(urgency: Urgency) -> None:
        async with pace.turn(urgency):
            entered.append(urgency)
            await leave.wait()

    async with asyncio.TaskGroup() as tasks:
        for urgency in (PRIORITY, PRIORITY, PRIORITY, PRIORITY, LOGS):
            tasks.create_task(ask(urgency))
        for _ in range(3):
            await asyncio.sleep(0)
        assert entered == [PRIORITY, PRIORITY, PRIORITY, LOGS]
        leave.set()


async def test_whoever_gives_up_waiting_takes_no_place() -> None:
    pace = Pace(600, 1, 0)
    async with pace.turn(NORMAL):
        waiting = asyncio.create_task(anext(_turns(pace)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    async with asyncio.timeout(1), pace.turn(NORMAL):
        pass
    assert pace.figures().in_flight == 0


async def _turns(pace: Pace):  # type: ignore[no-untyped-def]
    async with pace.turn(NORMAL):
        yield


async def test_a_refusal_for_being_too_many_holds_everybody_back() -> None:
    now = 0.0
    pace = Pace(600, 4, 0, clock=lambda: now, draw=lambda: 0.0)
    pace.refused(Unavailable("x", retry_after_seconds=5))
    asking = asyncio.create_task(anext(_turns(pace)))
    await asyncio.sleep(0)

    assert not asking.done()
    assert (pace.figures().too_many, pace.figures().seconds_left) == (1, 60)
    asking.cancel()
    await asyncio.wait([asking])


async def test_the_time_of_a_request_is_measured_by_its_class() -> None:
    now = 0.0
    pace = Pace(600, 4, 0, clock=lambda: now)
    assert pace.seconds_of(NORMAL, otherwise=0.3) == 0.3
    async with pace.turn(NORMAL):
        now = 2.0
    async with pace.turn(NORMAL):
        now = 3.0

    assert pace.seconds_of(NORMAL, otherwise=0.3) == pytest.approx(1.8)
