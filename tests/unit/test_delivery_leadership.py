"""Who leads, who is dead, and how long a request may take."""

import asyncio
import os

import pytest

from schemas.errors import Fenced, Unavailable
from streams.delivery.leadership import Holder, Leadership
from tests.world import eventually


class Table:
    """A lease table that answers what it is told, its last answer for ever."""

    def __init__(self, *, renews: list[bool | Exception] | None = None, before: str | None = None) -> None:
        self.renews = renews or []
        self.before = before
        self.dead: list[str] = []
        self.renewals = 0

    async def holder(self) -> str | None:
        return self.before

    async def acquire(self, holder: str, seconds: float, dead: list[str]) -> int | None:
        self.dead = dead
        return 7

    async def renew(self, epoch: int, seconds: float) -> bool:
        self.renewals += 1
        answer = self.renews.pop(0) if len(self.renews) > 1 else self.renews[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def release(self, epoch: int) -> None:
        self.before = None


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def leadership(table: Table, clock: Clock, renew_seconds: float = 0.01) -> Leadership:
    return Leadership(table, ttl_seconds=30, renew_seconds=renew_seconds, clock=clock)  # type: ignore[arg-type]


async def test_a_request_ends_before_the_lease_does() -> None:
    clock = Clock()
    lead = leadership(Table(), clock)
    await lead.acquire()
    assert lead.seconds_allowed(20) == 20

    clock.now += 15
    assert lead.seconds_allowed(20) == 14
    clock.now += 14.5
    with pytest.raises(Fenced):
        lead.seconds_allowed(20)


async def test_whoever_was_displaced_stops() -> None:
    lead = leadership(Table(renews=[True, False]), Clock())
    await lead.acquire()

    with pytest.raises(Fenced, match="another worker"):
        await asyncio.wait_for(lead.keep(), 5)


async def test_a_database_that_is_away_is_borne_until_the_lease_runs_out() -> None:
    clock = Clock()
    table = Table(renews=[Unavailable("gone")])
    lead = leadership(table, clock)
    await lead.acquire()
    keeping = asyncio.create_task(lead.keep())
    await eventually(lambda: table.renewals > 1, because="renewals fail")
    assert not keeping.done()

    clock.now += 31
    with pytest.raises(Fenced, match="ran out"):
        await asyncio.wait_for(keeping, 5)


async def test_a_lease_of_a_process_that_is_gone_is_taken_over_at_once() -> None:
    gone = Holder(Holder.present().machine, 2**22 + 1, 1.0)
    table = Table(before=gone.text())
    await leadership(table, Clock()).acquire()

    assert table.dead == [gone.text()]


async def test_a_lease_of_a_living_or_foreign_process_is_waited_for() -> None:
    here = Holder.present()
    for before in (here.text(), Holder("elsewhere", 1, 1.0).text(), "written by hand"):
        table = Table(before=before)
        await leadership(table, Clock()).acquire()
        assert table.dead == []


def test_a_process_id_that_was_given_again_is_another_process() -> None:
    here = Holder.present()

    assert here.pid == os.getpid()
    assert not here.is_dead()
    assert Holder(here.machine, here.pid, here.started_at - 1).is_dead()
    assert Holder.named(here.text()) == here
