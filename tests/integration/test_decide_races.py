"""Two workers stopped between fold and commit: whatever they fold, nothing is missed."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.decide_world import NOW, ROWS, Decoded, World, change, empty, left, new_world, result

pytestmark = pytest.mark.stack

KINDS = [*ROWS, "unsubscription", "result"]
MARKING = [
    "distribution_binding",
    "address",
    "distribution_recipient",
    "consent",
    "suppression",
    "unsubscription",
    "result",
]
"""One kind for each way in which something is marked or settled at once."""


@pytest.fixture(scope="module")
async def world(postgres_server: str) -> AsyncIterator[World]:
    async with new_world(postgres_server) as world:
        yield world


class StoppedPool:
    """A pool whose transactions, all their work done, wait before they commit until they are let go."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.worked = asyncio.Event()
        self.go_on = asyncio.Event()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            yield _StoppedConnection(connection, self)


class _StoppedConnection:
    def __init__(self, connection: Any, pool: StoppedPool) -> None:
        self._connection = connection
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield
            self._pool.worked.set()
            await self._pool.go_on.wait()


async def record_of(world: World, kind: str) -> Decoded:
    if kind == "unsubscription":
        return left()
    if kind == "result":
        mutation = await world.mutation()
        assert mutation is not None
        return result(mutation, at=NOW)
    return change(kind)


async def prepare(world: World, *without: str) -> None:
    """Everything but two kinds of row; where an answer is one of them, the mailbox is asked for beforehand."""
    await empty(world)
    rows = [kind for kind in ROWS if kind not in without and kind != "suppression"]
    if "result" in without:
        await world.fold(*[change(kind) for kind in ROWS if kind != "suppression"])
        await world.sweep()
        return
    for kind in rows:
        await world.fold(change(kind))
    await world.sweep()


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(KINDS, 2)))
async def test_what_two_workers_fold_at_once_is_what_one_would_fold(world: World, first: str, second: str) -> None:
    await prepare(world, first, second)
    records = {kind: await record_of(world, kind) for kind in (first, second)}
    await world.fold(records[first])
    await world.fold(records[second])
    await world.sweep()
    one_worker = await world.decided()

    await prepare(world, first, second)
    records = {kind: await record_of(world, kind) for kind in (first, second)}
    stopped = StoppedPool(world.pool)
    a = asyncio.create_task(world.fold(records[first], pool=stopped))
    await asyncio.wait_for(stopped.worked.wait(), 10)
    b = asyncio.create_task(world.fold(records[second]))
    await asyncio.wait({b}, timeout=0.05)  # it either waits for the first one's locks or needs none of them
    stopped.go_on.set()
    await asyncio.wait_for(asyncio.gather(a, b), 10)
    await world.sweep()

    assert await world.decided() == one_worker


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(MARKING, 2)))
async def test_whom_a_backlog_marks_is_not_missed_by_a_sweeper_at_work(world: World, first: str, second: str) -> None:
    await prepare(world, first, second)
    records = {kind: await record_of(world, kind) for kind in (first, second)}
    await world.fold(records[first])
    await world.sweep()
    await world.fold(records[second])
    await world.sweep()
    one_worker = await world.decided()

    await prepare(world, first, second)
    records = {kind: await record_of(world, kind) for kind in (first, second)}
    await world.fold(records[first], at_once=0)
    stopped = StoppedPool(world.pool)
    sweeper = asyncio.create_task(world.sweep(pool=stopped))
    await asyncio.wait_for(stopped.worked.wait(), 10)  # has taken the marks and decided, and not committed
    folder = asyncio.create_task(world.fold(records[second], at_once=0))
    await asyncio.wait({folder}, timeout=0.05)
    stopped.go_on.set()
    await asyncio.wait_for(asyncio.gather(sweeper, folder), 10)
    await world.sweep()

    assert await world.decided() == one_worker


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(MARKING, 2)))
async def test_a_sweeper_leaves_alone_whom_a_backlog_is_just_marking_again(
    world: World, first: str, second: str
) -> None:
    one_worker = []  # a state that was asked for in between is withdrawn again, and not passed over
    for batches in ((first, second),), ((first,), (second,)):
        await prepare(world, first, second)
        records = {kind: await record_of(world, kind) for kind in (first, second)}
        for batch in batches:
            await world.fold(*[records[kind] for kind in batch])
        await world.sweep()
        one_worker.append(await world.decided())

    await prepare(world, first, second)
    records = {kind: await record_of(world, kind) for kind in (first, second)}
    await world.fold(records[first], at_once=0)
    stopped = StoppedPool(world.pool)
    folder = asyncio.create_task(world.fold(records[second], pool=stopped, at_once=0))
    await asyncio.wait_for(stopped.worked.wait(), 10)  # has marked and folded, and not committed
    sweeper = asyncio.create_task(world.sweep())
    await asyncio.wait({sweeper}, timeout=0.05)
    stopped.go_on.set()
    await asyncio.wait_for(asyncio.gather(sweeper, folder), 10)
    await world.sweep()

    assert await world.decided() in one_worker
