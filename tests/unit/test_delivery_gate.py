"""A far side that fails is asked less and less, by one request at a time, and nothing is ever given up."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import AnswerLost, Fenced, Misconfigured, PipelineError, Refused, Unavailable
from streams.delivery.gate import FAILURES, Circuit, Gate, backoff_seconds
from tests.virtual_time import VirtualLoop

DOWN = Unavailable("Inxmail failed (503)")


def in_virtual_time(work: Callable[[Gate, asyncio.AbstractEventLoop], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work(Gate(clock=loop.time, pause_seconds=60), loop))


async def opened(gate: Gate) -> None:
    for _ in range(FAILURES):
        await gate.passage()
        gate.failed(DOWN)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e5))
def test_a_wait_is_at_most_half_a_minute_unless_more_was_asked_for(
    failures: int, draw: float, asked_for: float | None
) -> None:
    seconds = backoff_seconds(failures, draw=draw, asked_for=asked_for)

    assert (asked_for or 0) <= seconds <= max(30, asked_for or 0)


def test_a_few_failures_only_slow_it_down() -> None:
    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(FAILURES - 1):
            await gate.passage()
            gate.failed(AnswerLost("cut off"))
        assert gate.circuit is Circuit.CLOSED
        await asyncio.gather(*(gate.passage() for _ in range(9)))
        assert loop.time() < 5

    in_virtual_time(work)


def test_while_it_is_down_one_request_tries_and_the_others_wait_for_what_becomes_of_it() -> None:
    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        await opened(gate)
        assert gate.circuit is Circuit.OPEN
        waiting = [asyncio.create_task(gate.passage()) for _ in range(5)]
        await gate.sight()
        await asyncio.sleep(0.5)
        assert sum(each.done() for each in waiting) == 1
        assert gate.circuit is Circuit.HALF_OPEN

        gate.failed(DOWN)
        await asyncio.sleep(20)
        assert sum(each.done() for each in waiting) == 2

        gate.succeeded()
        await asyncio.wait(waiting, timeout=0.1)
        assert all(each.done() for each in waiting)
        assert gate.circuit is Circuit.CLOSED

    in_virtual_time(work)


def test_a_try_that_tells_nothing_does_not_keep_the_others_waiting_for_ever() -> None:
    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        await opened(gate)
        await gate.passage()
        before = loop.time()
        await gate.passage()
        assert loop.time() - before == pytest.approx(30)

    in_virtual_time(work)


def test_six_hours_without_an_answer_cost_few_tries_and_two_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tries = 0

    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        async def ask() -> str:
            nonlocal tries
            tries += 1
            if loop.time() < 6 * 3600:
                raise DOWN
            return "done"

        answers = await asyncio.gather(*(gate.insist(ask) for _ in range(20)))
        assert answers == ["done"] * 20
        assert loop.time() < 6 * 3600 + 60
        assert gate.failures == {"Unavailable": tries - 20}

    in_virtual_time(work)

    assert tries < 2500
    assert [record.message for record in caplog.records] == [
        "Inxmail does not answer; it is tried from time to time, and nothing is dropped",
        "Inxmail answers again",
    ]


def test_what_was_under_way_when_it_opened_does_not_make_the_wait_longer() -> None:
    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        await opened(gate)
        for _ in range(20):
            gate.failed(DOWN)
        before = loop.time()
        await gate.sight()
        assert loop.time() - before <= 0.25 * 2**FAILURES

    in_virtual_time(work)


def test_a_wait_that_is_asked_for_is_kept() -> None:
    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        gate.failed(Unavailable("too many", retry_after_seconds=90))
        await gate.passage()
        assert loop.time() >= 90

    in_virtual_time(work)


def test_a_client_that_refuses_us_is_paused_tried_by_one_and_resumed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(4):  # all that were under way
            gate.failed(Misconfigured("401"))
        assert (gate.circuit, gate.paused_because) == (Circuit.PAUSED, "401")
        waiting = [asyncio.create_task(gate.passage()) for _ in range(3)]
        await asyncio.sleep(60.1)
        assert sum(each.done() for each in waiting) == 1
        gate.succeeded()
        await asyncio.wait(waiting, timeout=1)
        assert (gate.circuit, gate.paused_because) == (Circuit.CLOSED, None)
        assert all(each.done() for each in waiting)

    in_virtual_time(work)

    assert [record.message for record in caplog.records] == ["client paused", "client resumed"]


def test_a_refusal_is_an_answer() -> None:
    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        await opened(gate)

        async def ask() -> None:
            raise Refused("no", status=400)

        with pytest.raises(Refused):
            await gate.insist(ask)
        assert gate.circuit is Circuit.CLOSED

    in_virtual_time(work)


def test_whoever_is_fenced_stops() -> None:
    async def work(gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        async def ask() -> None:
            raise Fenced("another leads")

        with pytest.raises(PipelineError):
            await gate.insist(ask)

    in_virtual_time(work)
