"""Killed anywhere, frozen, doubled: nothing is lost, nothing forbidden is sent, nobody is subscribed who left."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from connectors.store.ledger import LeaseTable, Ledger, open_pool
from schemas.errors import Fenced
from schemas.mutations import Held, Lane, Want
from streams.settings import LeaseSettings
from tests.integration.client_world import KEY, LIST, ClientWorld, states, wish
from tests.integration.conftest import NewClient
from tests.world import eventually

pytestmark = pytest.mark.stack

ANN = "ann@verteiler.example"
BY_STEP = {"import_rows_per_second": 0}
IMPORTS = "/imports/recipients"

_PROCESS = """
import asyncio, sys, uvloop
from streams.delivery.worker import run
from streams.settings import Settings
uvloop.run(run(Settings(), sys.argv[1], asyncio.Event()))
"""


async def posts(world: ClientWorld, route: str = f"POST {IMPORTS}") -> int:
    return sum(write["route"] == route for write in await world.writes())


async def finish(world: ClientWorld, import_id: int = 1) -> None:
    await world.control("POST", f"/imports/{import_id}/step", {"finish": True})


@asynccontextmanager
async def in_a_process(world: ClientWorld) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process of its own, which can be killed and frozen."""
    kafka = world.bus.settings
    account = world.inxmail.model_dump() | {"password": world.inxmail.password.get_secret_value()}
    settings = {
        "VERTEILER_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "VERTEILER_KAFKA__REGISTRY_URL": kafka.registry_url,
        "VERTEILER_DATABASE__SYNC_DSN": world.dsn,
        "VERTEILER_LEASE__TTL_SECONDS": str(world.lease.ttl_seconds),
        "VERTEILER_LEASE__RENEW_SECONDS": str(world.lease.renew_seconds),
        "VERTEILER_HMAC_KEYS": f'["{KEY.hex()}"]',
    }
    settings |= {f"VERTEILER_INXMAIL__{world.client.upper()}__{name.upper()}": str(v) for name, v in account.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROCESS, world.client, env=os.environ | settings, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def leads(world: ClientWorld, epoch: int) -> None:
    held = "select epoch from fence.lease where client = $1 and expires_at > clock_timestamp()"

    async def found() -> bool:
        return bool(await world.pool.fetchval(held, world.client) == epoch)

    await eventually(found, because=f"epoch {epoch} leads")


# imports


async def test_an_import_left_open_by_a_crash_is_watched_to_its_end_and_not_sent_again(new_client: NewClient) -> None:
    async with new_client(behaviour=BY_STEP) as world:
        worker = await world.started()
        mutation = world.mutation(ANN, wish())
        await world.want(mutation)
        await eventually(
            lambda: world.pool.fetchval(
                "select true from sync.open_import where client = $1 and phase = 'posted'", world.client
            ),
            because="the import is known to be accepted",
        )
        await worker.crash()
        await finish(world)
        await world.started()
        result = await world.answer(mutation)

        assert states(result.lists) == {LIST: "subscribed"}
        assert await posts(world) == 1


@pytest.mark.parametrize("fault", ["cut-after", "cut-before", "truncate"])
async def test_an_import_whose_answer_was_lost_is_looked_for_before_anything_is_repeated(
    world: ClientWorld, fault: str
) -> None:
    await world.fault(fault, method="POST", path=IMPORTS)
    await world.started()
    [result] = await world.delivered(world.mutation(ANN, wish()))
    outcomes = [effect.outcome for effect in await world.effects() if effect.kind == "import"]

    assert states(result.lists) == {LIST: "subscribed"}
    assert result.recipient_id is not None
    assert (await world.control("GET", "/state"))["imports"] == {"SUCCESS": 1}
    assert outcomes.count("lost") == 1


async def test_while_an_import_of_unknown_fate_is_under_way_nothing_is_concluded(new_client: NewClient) -> None:
    async with new_client(behaviour=BY_STEP) as world:
        await world.fault("cut-after", method="POST", path=IMPORTS)
        await world.started()
        mutation = world.mutation(ANN, wish())
        await world.want(mutation)
        await eventually(lambda: posts(world), because="the import was sent")
        await asyncio.sleep(3)  # longer than an import takes to become visible
        assert await world.result_of(ANN) is None

        await finish(world)
        result = await world.answer(mutation)
        assert states(result.lists) == {LIST: "subscribed"}
        assert await posts(world) == 1


async def test_an_import_that_was_written_down_and_perhaps_never_sent_is_found_out_about(world: ClientWorld) -> None:
    await world.fault("hang", method="POST", path=IMPORTS, seconds=30)
    worker = await world.started()
    mutation = world.mutation(ANN, wish())
    await world.want(mutation)
    await eventually(lambda: posts(world), because="the import hangs")
    await worker.crash()
    await world.started()
    result = await world.answer(mutation)

    assert states(result.lists) == {LIST: "subscribed"}
    assert (await world.control("GET", "/state"))["imports"] == {"SUCCESS": 1}


async def test_whoever_leaves_while_an_import_brings_her_back_stays_away(new_client: NewClient) -> None:
    """The race that must never be lost: the import's row takes effect, she leaves, the import ends well."""
    async with new_client(behaviour=BY_STEP) as world:
        await world.started()
        await world.put(ANN, (LIST, "SUBSCRIBED"))
        await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
        before = await posts(world)
        back = world.mutation(ANN, wish())
        await world.want(back)
        await eventually(lambda: _one_more(world, before), because="the resubscribing import is under way")
        [import_id] = [each["id"] for each in await world.account.walk("/imports/recipients", "recipient-imports")]
        await world.control("POST", f"/imports/{import_id}/step", {"rows": 1})
        assert await world.state(ANN) == "SUBSCRIBED"
        await world.control.person("unsubscribe-by-link", LIST, ANN)
        await finish(world, import_id)
        await eventually(lambda: _held(world, Held.UNSUBSCRIBED), because="she is known to have left")
        await world.rest_without(back)

        assert await world.state(ANN) == "UNSUBSCRIBED"
        assert await posts(world) == before + 1


async def _one_more(world: ClientWorld, before: int) -> bool:
    return await posts(world) == before + 1


async def _held(world: ClientWorld, state: Held) -> bool:
    held = await world.held(ANN)
    return held is not None and held.state is state


async def test_whoever_leaves_before_a_resubscribing_import_is_sent_is_heard_at_the_door(new_client: NewClient) -> None:
    async with new_client(poll_seconds=60) as world:
        await world.started()
        await world.delivered(world.mutation(ANN, wish()))
        await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
        await world.control.person("unsubscribe-by-link", LIST, ANN)
        await asyncio.sleep(0.1)  # its write buffer; the next poll is a minute away
        before = await posts(world)
        back = world.mutation(ANN, wish())
        await world.want(back)
        await eventually(world.unsubscriptions, because="the log is drained before the import")
        await asyncio.sleep(1)  # the absence of an import has no event of its own

        assert await posts(world) == before
        assert await world.state(ANN) == "UNSUBSCRIBED"


async def test_whoever_leaves_while_a_resubscribing_import_waits_for_its_turn_is_heard_at_the_door(
    new_client: NewClient,
) -> None:
    async with new_client(max_in_flight=2) as world:  # one place for deliveries, one for the logs
        await world.put("bea@verteiler.example", (LIST, "SUBSCRIBED"))
        await world.started()
        await world.delivered(world.mutation(ANN, wish()))
        await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
        before = await posts(world)
        await world.fault("delay", method="PATCH", path="/recipients/*", seconds=3)
        await world.want(world.mutation("bea@verteiler.example", wish(), values={"20": "Bea"}))
        await world.want(world.mutation(ANN, wish()))
        intended = "select true from sync.open_import where client = $1 and resubscribe and phase = 'intended'"
        await eventually(lambda: world.pool.fetchval(intended, world.client), because="the import waits for its turn")
        await world.control.person("unsubscribe-by-link", LIST, ANN)
        await eventually(
            lambda: world.pool.fetchval(
                "select true from sync.open_import where client = $1 and resubscribe and outcome = 'undone'",
                world.client,
            ),
            because="the door turned the import back",
        )

        assert await posts(world) == before
        assert await world.state(ANN) == "UNSUBSCRIBED"


# single calls


@pytest.mark.parametrize("fault", ["cut-after", "cut-before", "status-after"])
async def test_an_unsubscription_whose_answer_was_lost_is_repeated_and_stays_ours(
    world: ClientWorld, fault: str
) -> None:
    await world.started()
    await world.delivered(world.mutation(ANN, wish()))
    await world.fault(fault, method="POST", path="/events/unsubscriptions", status=502)
    [result] = await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
    await eventually(world.unsubscriptions, because="the log was read")
    [op_id] = {effect.op_id for effect in await world.effects() if effect.kind == "unsubscribe"}
    first = min((await world.unsubscriptions()).items())[1]

    assert await world.state(ANN) == "UNSUBSCRIBED"
    assert [held.cause for held in result.lists] == [op_id]
    assert first.op_id == op_id


async def test_a_call_left_open_by_a_crash_is_made_again(world: ClientWorld) -> None:
    worker = await world.started()
    await world.delivered(world.mutation(ANN, wish()))
    await world.fault("hang", method="POST", path="/events/unsubscriptions", seconds=30)
    leaving = world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn"))
    await world.want(leaving)
    await eventually(lambda: posts(world, "POST /events/unsubscriptions"), because="the call hangs")
    await worker.crash()
    await world.started()
    result = await world.answer(leaving)

    assert states(result.lists) == {LIST: "unsubscribed"}
    assert await world.state(ANN) == "UNSUBSCRIBED"


async def test_a_result_that_was_not_told_is_told_at_the_next_start(world: ClientWorld) -> None:
    worker = await world.started()
    mutation = world.mutation(ANN, wish())
    await world.delivered(mutation)
    await worker.crash()
    await world.pool.execute("update sync.delivery set reported = 0 where client = $1", world.client)
    told = len(await world.records(f"inxmail.{world.client}.results"))
    await world.started()

    async def again() -> bool:
        return len(await world.records(f"inxmail.{world.client}.results")) == told + 1

    await eventually(again, because="the result is told again")


# leadership


async def test_one_leads_and_the_other_stands_by_until_the_first_stops(world: ClientWorld) -> None:
    first = await world.started()
    second = world.start()
    await asyncio.sleep(1)
    assert not second.health.ready

    await first.end()
    await eventually(lambda: second.health.ready, because="the second leads")
    await world.delivered(world.mutation(ANN, wish()))
    assert second.health.detail["epoch"] == 2


async def test_a_leader_that_was_displaced_writes_nothing_more(world: ClientWorld) -> None:
    first = await world.started()
    await world.pool.execute("update fence.lease set epoch = epoch + 1, holder = 'x' where client = $1", world.client)
    await world.want(world.mutation(ANN, wish()))
    await asyncio.wait([first.task], timeout=20)

    assert isinstance(first.task.exception(), Fenced)
    assert await world.writes() == []


async def test_after_a_kill_the_next_worker_leads_at_once(new_client: NewClient) -> None:
    async with new_client(behaviour=BY_STEP, lease=LeaseSettings(ttl_seconds=60, renew_seconds=5)) as world:
        mutation = world.mutation(ANN, wish())
        async with in_a_process(world) as process:
            await leads(world, 1)
            await world.want(mutation)
            await eventually(lambda: posts(world), because="an import is under way")
            process.send_signal(signal.SIGKILL)
            await process.wait()
        began = time.monotonic()
        await world.started()
        assert time.monotonic() - began < 30
        for each in await world.account.walk("/imports/recipients", "recipient-imports"):
            await finish(world, each["id"])
        result = await world.answer(mutation)

        assert states(result.lists) == {LIST: "subscribed"}
        assert await posts(world) == 1


async def test_a_worker_that_was_frozen_and_runs_again_sends_nothing(new_client: NewClient) -> None:
    async with new_client(lease=LeaseSettings(ttl_seconds=4, renew_seconds=1), poll_seconds=0.2) as world:
        async with in_a_process(world) as zombie:
            await leads(world, 1)
            zombie.send_signal(signal.SIGSTOP)
            await world.started()
            await leads(world, 2)
            await world.delivered(world.mutation(ANN, wish()))
            before = await world.control("GET", "/counters")
            zombie.send_signal(signal.SIGCONT)
            await asyncio.wait_for(zombie.wait(), 20)
            assert zombie.stderr is not None
            said = (await zombie.stderr.read()).decode()
        after = await world.control("GET", "/counters")

        assert zombie.returncode != 0
        assert "Fenced" in said or "LedgerLost" in said  # the latter when it froze inside a transaction
        assert after["writes"] == before["writes"]


async def test_a_worker_that_froze_in_the_middle_of_its_calls_repeats_none_of_them_afterwards(
    new_client: NewClient,
) -> None:
    """Of those that were past the check, which are as many as may be in flight, the last may still go out."""
    people = [f"p{number}@verteiler.example" for number in range(40)]
    lease = LeaseSettings(ttl_seconds=4, renew_seconds=1)
    async with new_client(lease=lease, poll_seconds=0.2, timeout_seconds=2) as world:
        for email in people:
            await world.put(email, (LIST, "SUBSCRIBED"))
        leaving = [world.mutation(email, wish(Want.UNSUBSCRIBED, rule="withdrawn")) for email in people]
        route = "POST /events/unsubscriptions"
        async with in_a_process(world) as zombie:
            await leads(world, 1)
            await world.fault("delay", method="POST", path="/events/unsubscriptions", seconds=0.3, count=40)
            await world.want(*leaving)
            await eventually(lambda: _at_least(world, route, 8), because="it is in the middle of its calls")
            zombie.send_signal(signal.SIGSTOP)
            await world.started()
            await leads(world, 2)
            for each in leaving:
                await world.answer(each, within_seconds=40)
            await world.rest()
            before = await posts(world, route)
            zombie.send_signal(signal.SIGCONT)
            await asyncio.wait_for(zombie.wait(), 20)
        after = await posts(world, route)
        results = await world.results()

        assert zombie.returncode != 0
        assert after - before <= world.inxmail.max_in_flight
        assert {states(results[world.mailbox(email)].lists)[LIST] for email in people} == {"unsubscribed"}
        assert {results[world.mailbox(email)].version for email in people} == {each.version for each in leaving}


async def _at_least(world: ClientWorld, route: str, count: int) -> bool:
    return await posts(world, route) >= count


async def test_a_worker_that_froze_before_it_sent_an_import_that_resubscribes_does_not_send_it_afterwards(
    new_client: NewClient,
) -> None:
    """It is frozen while it reads the log before that import; she leaves by herself while the next one leads."""
    lease = LeaseSettings(ttl_seconds=4, renew_seconds=1)
    async with new_client(lease=lease, poll_seconds=1, timeout_seconds=2) as world:
        await world.put(ANN, (LIST, "SUBSCRIBED"))
        async with in_a_process(world) as zombie:
            await leads(world, 1)
            await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
            await world.fault("delay", method="GET", path="/events/unsubscriptions", seconds=1.5, count=1000)
            back = world.mutation(ANN, wish())
            await world.want(back)
            taken = "select true from sync.desired where client = $1 and counter = 2"
            await eventually(lambda: world.pool.fetchval(taken, world.client), because="the wish was taken in")
            zombie.send_signal(signal.SIGSTOP)
            await world.control("DELETE", "/faults")
            imported = await posts(world)
            await world.control.person("unsubscribe-by-link", LIST, ANN)
            await world.later()
            await world.started()
            await leads(world, 2)
            await eventually(lambda: _heard(world), because="the next one has heard that she left")
            zombie.send_signal(signal.SIGCONT)
            await asyncio.wait_for(zombie.wait(), 20)
        await world.rest_without(back)

        assert await posts(world) == imported
        assert await world.state(ANN) == "UNSUBSCRIBED"


async def _heard(world: ClientWorld) -> bool:
    return any(event.op_id is None for event in (await world.unsubscriptions()).values())


# catching up


async def test_what_is_superseded_in_the_lane_is_never_carried_out(world: ClientWorld) -> None:
    await world.want(world.mutation(ANN, wish()), world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="objected")))
    await world.started()
    await eventually(lambda: world.result_of(ANN), because="the newest is answered")

    assert await world.writes() == []


async def test_nobody_is_subscribed_before_the_logs_were_drained(world: ClientWorld) -> None:
    """An opt-out that was made while no worker ran counts against a wish that waits in the lane."""
    await world.control(
        "POST",
        "/events/unsubscriptions",
        {"list_id": LIST, "type": "NOT_IN_LIST_UNSUBSCRIPTION", "email": ANN, "delay_ms": 0},
    )
    mutation = world.mutation(ANN, wish())
    await world.want(mutation)
    await world.started()
    await world.rest_without(mutation)

    assert await world.writes() == []


async def test_a_leader_that_froze_inside_a_transaction_does_not_keep_the_next_one_out(world: ClientWorld) -> None:
    pool = await open_pool(world.dsn, transaction_seconds=0.5)
    table = LeaseTable(pool, world.client)
    epoch = await table.acquire("frozen", 0.2, [])
    assert epoch is not None
    inside = asyncio.Event()

    async def freeze() -> None:
        async with Ledger(pool, world.client, epoch).transaction() as books:
            inside.set()
            await asyncio.sleep(3)
            await books.deliveries.dirty((Lane.PRIORITY, ""), 1)

    frozen = asyncio.create_task(freeze())
    await inside.wait()
    await asyncio.sleep(0.3)  # the lease runs out
    assert await asyncio.wait_for(table.acquire("next", 5, []), 5) == epoch + 1

    await asyncio.wait([frozen])
    assert isinstance(frozen.exception(), Fenced)
    pool.terminate()
