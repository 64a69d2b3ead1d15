"""Three lanes: who leaves goes first, what is newer counts, a backlog neither fills memory nor holds others up."""

import asyncio
import time

import pytest

from connectors.kafka import catalogue
from connectors.kafka.admin import Admin
from schemas.mutations import Held, Lane, Mutation, Want
from streams.delivery.worker import group_of
from tests.integration.client_world import LIST, OTHER_LIST, ClientWorld, Worker, states, wish
from tests.integration.conftest import NewClient
from tests.world import eventually

pytestmark = pytest.mark.stack

ANN, BEA = "ann@verteiler.example", "bea@verteiler.example"
IMPORTS = "/imports/recipients"
BATCH = 1000
"""Records that a lane takes at once."""


def crowd(world: ClientWorld, count: int, list_id: int = LIST) -> list[Mutation]:
    return [world.mutation(f"p{number}@verteiler.example", wish(list_id=list_id)) for number in range(count)]


async def unread(world: ClientWorld, lane: Lane) -> int:
    """Records of the lane that the worker has not taken in."""
    admin, topic = Admin(world.bus.settings), catalogue.mutations(world.client, lane)
    committed = await admin.group_offsets(group_of(world.client))
    extents = await admin.extents([topic])
    return sum(int(extent.end) - max(0, committed.get(place, 0)) for place, extent in extents.items())


def unfinished(worker: Worker) -> int:
    return int(str(worker.health.detail["unfinished"]))


@pytest.mark.parametrize(("older", "newer"), [(Lane.BULK, Lane.PRIORITY), (Lane.NORMAL, Lane.BULK)])
async def test_a_newer_version_in_one_lane_makes_an_older_one_in_another_obsolete(
    world: ClientWorld, older: Lane, newer: Lane
) -> None:
    first, second = world.mutation(ANN, wish()), world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn"))
    await world.started()
    await world.want(second, lane=newer)
    await world.answer(second)
    await world.want(first, lane=older)
    await eventually(lambda: _is_read(world, older), because="the older version was read")
    await world.rest()

    assert await world.writes() == []
    result = await world.result_of(ANN)
    assert result is not None and result.version == second.version


async def _is_read(world: ClientWorld, lane: Lane) -> bool:
    left = await unread(world, lane)
    return left == 0


async def test_who_leaves_overtakes_a_bulk_load_and_the_import_that_is_under_way(new_client: NewClient) -> None:
    async with new_client(behaviour={"import_rows_per_second": 200}, import_rows=500) as world:
        await world.put(ANN, (OTHER_LIST, "SUBSCRIBED"))
        await world.started()
        await world.want(*crowd(world, 4 * BATCH), lane=Lane.BULK)
        await eventually(lambda: _imports(world), because="an import of the load is under way")
        began = time.monotonic()
        await world.want(
            world.mutation(ANN, wish(Want.UNSUBSCRIBED, list_id=OTHER_LIST, rule="objected")), lane=Lane.PRIORITY
        )
        await eventually(lambda: _state(world, ANN, OTHER_LIST, "UNSUBSCRIBED"), because="she is not mailed any more")

        assert time.monotonic() - began < 3
        assert await world.pool.fetchval("select count(*) from sync.delivery where dirt <> planned") > 2 * BATCH


async def _imports(world: ClientWorld) -> bool:
    return any(write["route"] == f"POST {IMPORTS}" for write in await world.writes())


async def _state(world: ClientWorld, email: str, list_id: int, state: str) -> bool:
    return await world.state(email, list_id) == state


async def test_who_leaves_is_not_subscribed_by_a_row_that_was_gathered_before(new_client: NewClient) -> None:
    """Her row waits for the import that is under way; her withdrawal comes meanwhile."""
    async with new_client(behaviour={"import_rows_per_second": 0}) as world:
        await world.started()
        await world.want(world.mutation(BEA, wish()), lane=Lane.BULK)
        await eventually(lambda: _imports(world), because="an import is under way")
        await world.want(world.mutation(ANN, wish()), lane=Lane.BULK)
        await eventually(lambda: _is_read(world, Lane.BULK), because="her wish was taken in")
        leaving = world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn"))
        await world.want(leaving, lane=Lane.PRIORITY)
        await world.answer(leaving)
        await world.control("POST", "/imports/1/step", {"finish": True})
        await eventually(lambda: _held(world, BEA, Held.SUBSCRIBED), because="the import has ended")
        await world.rest()

        assert await world.person(ANN) is None


async def _held(world: ClientWorld, email: str, state: Held) -> bool:
    held = await world.held(email)
    return held is not None and held.state is state


async def test_nobody_is_subscribed_before_the_priority_lane_was_read_to_its_end(world: ClientWorld) -> None:
    older = world.mutation(ANN, wish())
    leaving = [
        world.mutation(f"p{number}@verteiler.example", wish(Want.UNSUBSCRIBED, rule="withdrawn"))
        for number in range(4 * BATCH)
    ]
    newer = world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="objected"))
    await world.want(older)
    await world.want(*leaving, newer, lane=Lane.PRIORITY)
    await world.started()
    await world.answer(newer)

    assert await world.writes() == []


async def test_a_backlog_in_bulk_keeps_no_sign_up_waiting(new_client: NewClient) -> None:
    async with new_client(most_unfinished=10, import_rows=10) as world:
        await world.control("POST", "/imports/scripts", {"outcome": "NEVER_ENDING", "list_id": LIST})
        await world.want(*crowd(world, 4 * BATCH), lane=Lane.BULK)
        await world.started()
        [result] = await world.delivered(world.mutation(ANN, wish(list_id=OTHER_LIST)))

        assert states(result.lists) == {OTHER_LIST: "subscribed"}
        assert await unread(world, Lane.BULK) > 0


async def test_while_inxmail_is_away_the_backlog_stays_in_kafka_and_is_delivered_afterwards(
    new_client: NewClient,
) -> None:
    async with new_client(most_unfinished=1500, requests_per_minute=1_000_000) as world:
        worker = await world.started()
        plan = {"match": {"path": "/*"}, "fault": {"kind": "status", "status": 503}, "count": 100_000}
        await world.control("POST", "/faults", plan)
        wanted = crowd(world, 8 * BATCH)
        await world.want(*wanted, lane=Lane.BULK)
        await eventually(lambda: unfinished(worker) > 1500, because="the lane is read to its bound")
        await asyncio.sleep(2)  # that nothing more is read has no event of its own
        assert unfinished(worker) <= 1500 + BATCH
        assert await unread(world, Lane.BULK) >= 8 * BATCH - 1500 - 2 * BATCH

        await world.control("DELETE", "/faults")
        told = "select count(*) from sync.delivery where client = $1 and counter is not null and revision = reported"

        async def all_told() -> bool:
            return bool(await world.pool.fetchval(told, world.client) == len(wanted))

        await eventually(all_told, within_seconds=90, because="everything is delivered")
        assert (await world.control("GET", "/state"))["recipients"] == len(wanted)


async def test_more_than_is_kept_in_memory_keeps_no_start_from_catching_up(new_client: NewClient) -> None:
    async with new_client(most_unfinished=100) as world:
        wanted = crowd(world, 3 * BATCH)
        await world.want(*wanted)
        worker = await world.started()
        assert unfinished(worker) <= 100 + 2 * BATCH
        await eventually(lambda: _recipients(world, len(wanted)), within_seconds=60, because="all are delivered")


async def _recipients(world: ClientWorld, count: int) -> bool:
    return bool((await world.control("GET", "/state"))["recipients"] == count)


async def test_a_start_goes_on_with_what_is_unfinished_in_the_order_of_lanes(new_client: NewClient) -> None:
    async with new_client(behaviour={"import_rows_per_second": 0}) as world:
        await world.put(ANN, (OTHER_LIST, "SUBSCRIBED"))
        worker = await world.started()
        await world.fault("hang", method="POST", path="/events/unsubscriptions", seconds=30)
        leaving = world.mutation(ANN, wish(Want.UNSUBSCRIBED, list_id=OTHER_LIST, rule="objected"))
        await world.want(*crowd(world, 50), lane=Lane.BULK)
        await world.want(leaving, lane=Lane.PRIORITY)
        await eventually(lambda: _posts(world, "/events/unsubscriptions", 1), because="the call hangs")
        await eventually(lambda: _is_read(world, Lane.BULK), because="the load is taken in")
        await worker.crash()
        await world.started()
        result = await world.answer(leaving)

        assert states(result.lists) == {OTHER_LIST: "unsubscribed"}
        assert await world.pool.fetchval("select lane from sync.desired where mailbox = $1", leaving.mailbox) == 0


async def _posts(world: ClientWorld, path: str, count: int) -> bool:
    made = sum(write["route"] == f"POST {path}" for write in await world.writes())
    return bool(made >= count)
