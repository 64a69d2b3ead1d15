"""One budget for a client, logs first."""

import asyncio

import pytest

from connectors.inxmail.pace import Budget, Pace, Urgency
from schemas.errors import Unavailable

LOGS, DELIVERY = Urgency.LOGS, Urgency.DELIVERY


def spend(budget: Budget, count: int, now: float, urgency: Urgency = DELIVERY) -> None:
    for _ in range(count):
        budget.spend(now, urgency)


def test_the_first_half_of_a_window_goes_without_delay_and_the_rest_is_spread() -> None:
    budget = Budget(600, 60, 0.0)
    spend(budget, 300, 1.0)
    assert budget.wait_seconds(1.0, DELIVERY) == 0

    spend(budget, 1, 1.0)
    assert 0.1 < budget.wait_seconds(1.0, DELIVERY) < 0.4


def test_the_logs_are_asked_while_deliveries_wait_for_the_next_window() -> None:
    budget = Budget(100, 10, 0.0)
    spend(budget, 92, 0.0)

    assert budget.wait_seconds(0.0, DELIVERY) == 60
    assert budget.wait_seconds(0.0, LOGS) == 0


def test_a_new_window_brings_a_new_budget() -> None:
    budget = Budget(10, 0, 0.0)
    spend(budget, 10, 0.0)

    assert budget.wait_seconds(59.0, DELIVERY) == 1
    assert budget.wait_seconds(60.0, DELIVERY) == 0


def test_the_far_side_knows_better_what_is_left_and_when_the_window_ends() -> None:
    budget = Budget(600, 0, 0.0)
    budget.heard(10.0, limit=5, remaining=0, reset_seconds=20)

    assert budget.wait_seconds(10.0, LOGS) == 21
    assert budget.wait_seconds(31.0, LOGS) == 0


def test_a_window_that_ends_later_is_a_new_one() -> None:
    budget = Budget(10, 0, 0.0)
    budget.heard(0.0, limit=10, remaining=0, reset_seconds=5)
    budget.heard(5.5, limit=10, remaining=9, reset_seconds=60)

    assert budget.wait_seconds(5.5, DELIVERY) == 0


def test_too_many_is_obeyed_to_the_time_that_was_asked_for() -> None:
    budget = Budget(600, 0, 0.0)
    budget.refused(0.0, 7.0, draw=0.5)
    assert budget.wait_seconds(0.0, LOGS) == 7.5

    budget = Budget(600, 0, 0.0)
    budget.heard(0.0, limit=600, remaining=100, reset_seconds=30)
    budget.refused(0.0, None, draw=0.0)
    assert budget.wait_seconds(0.0, LOGS) == 31


@pytest.mark.parametrize("demand_per_second", [5, 20])
def test_a_window_is_never_overdrawn_and_well_used(demand_per_second: int) -> None:
    """A far side with a fixed window of 600, simulated against an endless demand and a poll every second."""
    budget = Budget(600, 60, 0.0)
    used: dict[int, int] = {}
    waiting = 0
    for tick in range(0, 180 * 20):
        now = tick / 20
        window = int(now // 60)
        waiting += demand_per_second if tick % 20 == 0 else 0
        todo = [LOGS] if tick % 20 == 0 else []
        while todo or waiting:
            urgency = todo.pop() if todo else DELIVERY
            if budget.wait_seconds(now, urgency) > 0:
                assert urgency is DELIVERY
                break
            waiting -= urgency is DELIVERY
            budget.spend(now, urgency)
            used[window] = used.get(window, 0) + 1
            budget.heard(now, 600, 600 - used[window], int(60 - now % 60 + 0.999))

    assert max(used.values()) <= 600
    assert min(used.values()) >= min(540, 60 * demand_per_second)


async def test_no_more_go_at_once_than_allowed_and_a_place_is_kept_for_the_logs() -> None:
    pace = Pace(600, 2, 0)
    entered: list[str] = []
    leave = asyncio.Event()

    async def ask(name: str, urgency: Urgency) -> None:
        async with pace.turn(urgency):
            entered.append(name)
            await leave.wait()

    async with asyncio.TaskGroup() as tasks:
        for name in ("first", "second"):
            tasks.create_task(ask(name, DELIVERY))
        await asyncio.sleep(0)
        tasks.create_task(ask("log", LOGS))
        for _ in range(3):
            await asyncio.sleep(0)
        assert entered == ["first", "log"]
        leave.set()
    assert entered == ["first", "log", "second"]


async def test_whoever_gives_up_waiting_takes_no_place() -> None:
    pace = Pace(600, 1, 0)
    async with pace.turn(DELIVERY):
        waiting = asyncio.create_task(anext(_turns(pace)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    async with asyncio.timeout(1), pace.turn(DELIVERY):
        pass


async def _turns(pace: Pace):  # type: ignore[no-untyped-def]
    async with pace.turn(DELIVERY):
        yield


async def test_a_refusal_for_being_too_many_holds_everybody_back() -> None:
    now = 0.0
    pace = Pace(600, 4, 0, clock=lambda: now, draw=lambda: 0.0)
    pace.refused(Unavailable("x", retry_after_seconds=5))
    asking = asyncio.create_task(anext(_turns(pace)))
    await asyncio.sleep(0)

    assert not asking.done()
    asking.cancel()
    await asyncio.wait([asking])
