"""What people say at Inxmail: in the tables first, then in Kafka, then the cursor."""

import pytest

from schemas.mutations import Held, Outcome, Want
from tests.integration.client_world import LIST, OTHER_LIST, ClientWorld, states, wish
from tests.integration.conftest import NewClient
from tests.world import eventually

pytestmark = pytest.mark.stack

ANN = "ann@verteiler.example"


async def held(world: ClientWorld, state: Held, list_id: int = LIST) -> bool:
    found = await world.held(ANN, list_id)
    return found is not None and found.state is state


async def test_an_opt_out_reaches_kafka_and_the_result(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    await world.later()
    await world.control.person("unsubscribe-by-link", LIST, ANN)
    await eventually(lambda: held(world, Held.UNSUBSCRIBED), because="the opt-out is told")
    [event] = (await world.unsubscriptions()).values()
    cursor = (await world.cursors())["unsubscriptions"]

    assert (event.type, event.list_id, event.mailbox, event.op_id) == (
        "VERIFIED_UNSUBSCRIPTION",
        LIST,
        world.mailbox(ANN),
        None,
    )
    assert event.email == ANN
    assert cursor.last_event_id == event.event_id
    state = await world.held(ANN)
    assert state is not None and state.cause == f"event:{event.event_id}"


async def test_addresses_are_not_kept_once_kafka_has_the_entry(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    await world.control.person("unsubscribe-by-link", LIST, ANN)
    await eventually(world.unsubscriptions, because="the opt-out is told")

    kept = "select count(*) from sync.list_event where client = $1 and (email is not null or not is_produced)"
    await eventually(lambda: _none(world, kept), because="the address is forgotten")


async def _none(world: ClientWorld, query: str) -> bool:
    return bool(await world.pool.fetchval(query, world.client) == 0)


async def test_someone_who_signs_up_by_herself_becomes_known(world: ClientWorld) -> None:
    await world.started()
    await world.control.person("subscribe", LIST, ANN, attributes={"Vorname": "Ann"})
    await eventually(lambda: held(world, Held.SUBSCRIBED), because="the sign-up is told")
    person = await world.person(ANN)

    async def identified() -> bool:
        result = await world.result_of(ANN)
        return result is not None and person is not None and result.recipient_id == person["id"]

    await eventually(identified, because="her recipient id is read")
    [event] = (await world.subscriptions()).values()
    assert event.op_id is None


async def test_whoever_left_and_came_back_by_herself_is_held_as_subscribed(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    await world.control.person("unsubscribe-by-link", LIST, ANN)
    await world.control.person("subscribe", LIST, ANN)
    await eventually(world.subscriptions, because="both were heard")
    await world.rest()

    assert await held(world, Held.SUBSCRIBED)
    assert await world.writes() == []


async def test_an_entry_of_an_unknown_type_goes_on_as_it_is(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    for type_ in ("NEVER_HEARD_OF", "VERIFIED_UNSUBSCRIPTION"):
        await world.control(
            "POST", "/events/unsubscriptions", {"list_id": OTHER_LIST, "type": type_, "email": ANN, "delay_ms": 0}
        )

    async def both() -> bool:
        return len(await world.unsubscriptions()) == 2

    await eventually(both, because="both entries are told")
    assert [event.type for event in (await world.unsubscriptions()).values()] == [
        "NEVER_HEARD_OF",
        "VERIFIED_UNSUBSCRIPTION",
    ]
    assert await held(world, Held.SUBSCRIBED)


async def test_an_entry_without_a_possible_address_is_told_without_a_mailbox(world: ClientWorld) -> None:
    await world.started()
    entry = {"list_id": LIST, "type": "NOT_IN_SYSTEM_UNSUBSCRIPTION", "email": "no address", "delay_ms": 0}
    await world.control("POST", "/events/unsubscriptions", entry)
    found = await eventually(world.unsubscriptions, because="the entry is told")

    [event] = found.values()
    assert (event.mailbox, event.email) == (None, "no address")


async def test_a_lost_cursor_costs_a_second_reading_and_nothing_else(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    worker = await world.started()
    await world.later()
    await world.control.person("unsubscribe-by-link", LIST, ANN)
    await eventually(lambda: held(world, Held.UNSUBSCRIBED), because="the opt-out is told")
    await world.rest()
    await worker.end()
    told = len(await world.records(f"inxmail.{world.client}.unsubscriptions"))
    await world.pool.execute("delete from sync.cursor where client = $1 and stream <> 'recipients'", world.client)
    await world.started()
    await world.rest()

    assert len(await world.records(f"inxmail.{world.client}.unsubscriptions")) == told
    assert await held(world, Held.UNSUBSCRIBED)


async def test_all_tables_lost_are_read_anew_from_the_client(world: ClientWorld) -> None:
    await world.put("bea@verteiler.example", (OTHER_LIST, "SUBSCRIBED"))
    worker = await world.started()
    [before] = await world.delivered(world.mutation(ANN, wish(), values={"20": "Ann"}))
    await worker.end()
    for table in (
        "desired",
        "delivery",
        "delivery_list",
        "effect",
        "cursor",
        "list_event",
        "known_list",
        "open_import",
    ):
        await world.pool.execute(f"delete from sync.{table} where client = $1", world.client)
    writes = len(await world.writes())
    await world.started()
    wanted = "select counter from sync.desired where client = $1"
    await eventually(lambda: world.pool.fetchval(wanted, world.client), because="the lane is read again")
    await world.rest()
    after = await world.result_of(ANN)

    assert len(await world.writes()) == writes
    assert after is not None
    assert (after.recipient_id, states(after.lists), after.values, after.lists[0].claims) == (
        before.recipient_id,
        {LIST: "subscribed"},
        {"20": "Ann"},
        ("C" * 32,),
    )


async def test_an_opt_out_that_was_faster_than_our_withdrawal_is_the_persons_word(new_client: NewClient) -> None:
    async with new_client(poll_seconds=2) as world:
        await world.started()
        await world.delivered(world.mutation(ANN, wish()))
        await world.control.person("unsubscribe-by-link", LIST, ANN)
        [result] = await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
        await eventually(lambda: _entries(world, 2), because="both entries were read")
        hers, ours = (event for _, event in sorted((await world.unsubscriptions()).items()))

        assert result.lists[0].state is Held.UNSUBSCRIBED
        assert (hers.type, hers.op_id) == ("VERIFIED_UNSUBSCRIPTION", None)
        assert ours.type == "DUPLICATE_UNSUBSCRIPTION" and ours.op_id is not None


async def _entries(world: ClientWorld, count: int) -> bool:
    return len(await world.unsubscriptions()) == count


async def test_a_list_that_wants_leaving_confirmed_quarantines_our_withdrawal(world: ClientWorld) -> None:
    await world.control("PATCH", f"/lists/{LIST}", {"opt_out": "DOUBLE"})
    await world.started()
    await world.delivered(world.mutation(ANN, wish()))
    [result] = await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))

    assert (result.outcome, result.error) == (Outcome.QUARANTINED, "pending_unsubscription")
    assert states(result.lists) == {LIST: "subscribed"}


async def test_imports_that_write_log_entries_are_known_as_ours(new_client: NewClient) -> None:
    async with new_client(behaviour={"event_on_import": True}) as world:
        await world.started()
        [result] = await world.delivered(world.mutation(ANN, wish()))
        await eventually(world.subscriptions, because="the entry was read")
        [event] = (await world.subscriptions()).values()
        await world.rest()

        assert event.op_id == result.lists[0].cause
        assert await held(world, Held.SUBSCRIBED)
