"""From records to decisions on a real database: positions, content, held changes, wide rows."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from connectors.store.decisions import Decisions, Noted
from schemas.mutations import Held, Mutation, Want
from tests.integration.decide_world import RING, ROWS, World, change, empty, gguid, left, new_world, result

pytestmark = pytest.mark.stack

BASE = [table for table in ROWS if table != "suppression"]


@pytest.fixture(scope="module")
async def shared_world(postgres_server: str) -> AsyncIterator[World]:
    async with new_world(postgres_server) as world:
        yield world


@pytest.fixture
async def world(shared_world: World) -> World:
    await empty(shared_world)
    return shared_world


async def asked(world: World, **columns: dict[str, Any]) -> Mutation:
    await world.fold(*[change(table, **columns.get(table, {})) for table in BASE])
    await world.sweep()
    mutation = await world.mutation()
    assert mutation is not None
    return mutation


async def delivered(world: World) -> Mutation:
    mutation = await asked(world)
    await world.fold(result(mutation))
    return mutation


def want(mutation: Mutation | None) -> tuple[Want, str]:
    assert mutation is not None
    return mutation.lists[0].want, mutation.lists[0].rule


async def test_a_claim_with_a_proof_becomes_one_mutation_of_the_whole_mailbox(world: World) -> None:
    mutation = await asked(world)

    assert want(mutation) == (Want.SUBSCRIBED, "member")
    assert (mutation.email, mutation.values, mutation.claims) == ("ann@example.com", {"1": "Ann"}, (gguid(12),))


async def test_the_same_record_again_produces_nothing(world: World) -> None:
    await delivered(world)

    assert await world.fold(*[change(table) for table in BASE]) == []
    await world.sweep()
    assert await world.fold(change("address")) == []


async def test_an_older_position_changes_nothing(world: World) -> None:
    await asked(world)
    await world.fold(change("address", "u", first_name="Anna", lsn=1_000_000))
    await world.fold(change("address", "u", first_name="Old", lsn=999_999))

    mutation = await world.mutation()

    assert mutation is not None
    assert mutation.values == {"1": "Anna"}


async def test_a_deletion_that_arrives_late_does_not_outlive_a_newer_row(world: World) -> None:
    await asked(world)
    await world.fold(change("distribution_recipient", "u", lsn=1_000_001))
    await world.fold(change("distribution_recipient", "d", lsn=1_000_000))

    assert want(await world.mutation()) == (Want.SUBSCRIBED, "member")


async def test_a_deleted_recipient_is_withdrawn_and_its_status_buried(world: World) -> None:
    await delivered(world)

    topics = await world.fold(change("distribution_recipient", "d"))

    assert want(await world.mutation()) == (Want.UNSUBSCRIBED, "withdrawn")
    assert "crm.recipient-status" in topics
    assert await world.status() is None


async def test_a_restored_recipient_comes_back(world: World) -> None:
    await delivered(world)
    await world.fold(change("distribution_recipient", "u", deleted_at="2026-10-01T00:00:00Z"))
    await world.fold(change("distribution_recipient", "u", deleted_at=None))

    assert want(await world.mutation()) == (Want.SUBSCRIBED, "member")


async def test_an_unsubscription_heard_at_inxmail_reaches_mailbox_status_and_suppression_file(world: World) -> None:
    await delivered(world)

    topics = await world.fold(left())

    status = await world.status()
    assert want(await world.mutation()) == (Want.UNSUBSCRIBED, "objected")
    assert status is not None
    assert (status["subscription_state"], status["state_event_id"]) == ("unsubscribed", "unsubscriptions:1")
    assert "crm.suppressions" in topics


async def test_its_suppression_coming_back_from_the_crm_changes_nothing(world: World) -> None:
    await delivered(world)
    await world.fold(left())
    mutation = await world.mutation()
    assert mutation is not None
    await world.fold(result(mutation, state=Held.UNSUBSCRIBED))

    assert await world.fold(change("suppression", since="2026-02-02T00:00:00.000Z")) == []


async def test_re_adding_someone_who_left_needs_a_newer_proof(world: World) -> None:
    await delivered(world)
    await world.fold(left())
    await world.fold(change("distribution_recipient", "d"))
    await world.fold(change("distribution_recipient", "c", gguid=gguid(99)))

    assert want(await world.mutation()) == (Want.UNSUBSCRIBED, "objected")

    newer = "2026-03-01T00:00:00.000Z"
    await world.fold(change("consent", gguid=gguid(98), captured_at=newer, inserttimestamp=newer))

    assert want(await world.mutation()) == (Want.SUBSCRIBED, "member")


async def test_an_e_mail_change_is_held_and_shown(world: World) -> None:
    await delivered(world)

    await world.fold(change("address_profile", "u", email="new@example.com"))

    status = await world.status()
    assert await world.mutation("new@example.com") is None
    assert want(await world.mutation()) == (Want.SUBSCRIBED, "member")
    assert status is not None
    assert (status["sync_state"], status["last_error_code"]) == ("held", "email_change_held")


async def test_an_e_mail_change_before_the_answer_is_held_too(world: World) -> None:
    mutation = await asked(world)

    await world.fold(change("address_profile", "u", email="new@example.com"))
    await world.fold(result(mutation))

    assert await world.mutation("new@example.com") is None
    assert want(await world.mutation()) == (Want.SUBSCRIBED, "member")


async def test_someone_who_leaves_while_her_e_mail_change_is_held_has_left(world: World) -> None:
    await delivered(world)
    await world.fold(change("address_profile", "u", email="new@example.com"))
    await world.fold(left())

    assert want(await world.mutation()) == (Want.UNSUBSCRIBED, "objected")


async def test_another_spelling_is_the_same_mailbox(world: World) -> None:
    await delivered(world)

    assert await world.fold(change("address_profile", "u", email="  ANN@EXAMPLE.COM ")) == []


async def test_an_emptied_e_mail_is_withdrawn_and_not_unsubscribed(world: World) -> None:
    await delivered(world)
    await world.fold(change("address_profile", "u", email=None), change("address", "u", email1=None))

    status = await world.status()

    assert want(await world.mutation()) == (Want.UNSUBSCRIBED, "withdrawn")
    assert status is not None
    assert status["subscription_state"] == "withdrawn"


async def test_a_shared_mailbox_loses_one_claim_and_stays(world: World) -> None:
    await delivered(world)
    await world.fold(
        change("address", gguid=gguid(20), first_name="Bob", email1="ann@example.com"),
        change("distribution_recipient", gguid=gguid(22), address_gguid=gguid(20), profile_gguid=None),
    )
    shared = await world.mutation()
    await world.fold(change("distribution_recipient", "d"))
    mutation = await world.mutation()

    assert shared is not None
    assert shared.claims == (gguid(12), gguid(22))
    assert mutation is not None
    assert (want(mutation), mutation.leader, mutation.values) == (
        (Want.SUBSCRIBED, "member"),
        gguid(22),
        {"1": "Bob"},
    )


async def test_a_pattern_added_later_blocks_whom_it_matches(world: World) -> None:
    await delivered(world)
    await world.fold(
        change(
            "suppression",
            gguid=gguid(50),
            scope="global",
            match="pattern",
            pattern="*@example.com",
            reason="blacklist",
            baf_client_id=None,
            distribution_gguid=None,
            email_hmac=None,
        )
    )
    await world.sweep()

    assert want(await world.mutation()) == (Want.UNSUBSCRIBED, "blocked")


async def test_a_paused_client_is_left_alone_and_resumes(world: World) -> None:
    await delivered(world)
    await world.fold(change("baf_client", "u", state="paused"))
    await world.sweep()
    await world.fold(change("distribution_recipient", "u", desired="not_member"))
    paused = await world.mutation()
    await world.fold(change("baf_client", "u", state="active"))
    await world.sweep()

    assert want(paused)[0] is Want.KEEP
    assert want(await world.mutation()) == (Want.UNSUBSCRIBED, "withdrawn")


async def test_the_state_does_not_depend_on_the_order_of_the_records(world: World) -> None:
    await delivered(world)
    await world.fold(left())
    expected = await world.decided()
    mutation = await world.mutation()
    assert mutation is not None

    await empty(world)
    await world.fold(left(), result(mutation))
    for table in reversed(BASE):
        await world.fold(change(table))
    await world.sweep()
    again = await world.decided()

    assert again.keys() == expected.keys()
    assert (
        again["inxmail.a.mutations", mutation.mailbox]["lists"]
        == expected["inxmail.a.mutations", mutation.mailbox]["lists"]
    )


async def test_a_record_overtaken_on_its_way_to_the_broker_is_produced_again(world: World) -> None:
    mutation = await asked(world)
    topic, key = f"inxmail.a.mutations.{await world.lane()}", mutation.mailbox
    async with world.pool.acquire() as connection, connection.transaction():
        store = Decisions(connection)
        newest = mutation.version.counter

        assert await store.note([Noted(topic, key, newest, 0, 100)]) == []
        assert await store.note([Noted(topic, key, newest - 1, 0, 101)]) == [(topic, key)]
        assert await store.note([Noted(topic, key, newest, 0, 102)]) == []


async def test_what_was_never_produced_is_found(world: World) -> None:
    await asked(world)
    async with world.pool.acquire() as connection:
        lost = await Decisions(connection).never_emitted(0.0, 100)

    assert {row["topic"] for row in lost} == {
        f"inxmail.a.mutations.{await world.lane()}",
        "crm.recipient-status",
    }
    assert RING.mailbox_ref("a", "ann@example.com") in {row["key"] for row in lost}


async def test_what_one_edit_leads_to_travels_in_the_normal_lane_and_what_a_backlog_leads_to_behind(
    world: World,
) -> None:
    await asked(world)
    assert await world.lane() == "normal"

    await empty(world)
    await world.fold(*[change(table) for table in BASE], at_once=0)
    await world.sweep()
    assert await world.lane() == "bulk"


async def test_leaving_travels_in_the_priority_lane_whatever_it_follows_from(world: World) -> None:
    await delivered(world)
    await world.fold(left(at="2026-10-20"), at_once=0)
    assert await world.lane() == "priority"


async def test_a_version_in_the_bulk_lane_never_overtakes_one_that_is_not_answered(world: World) -> None:
    first = await asked(world)
    await world.fold(change("address", "u", first_name="Anna"), at_once=0)
    await world.sweep()
    second = await world.mutation()

    assert second is not None
    assert (await world.lane(), second.version > first.version) == ("normal", True)


async def test_a_load_tells_the_crm_of_a_membership_when_it_is_answered_or_when_no_answer_comes(world: World) -> None:
    await world.fold(*[change(table) for table in BASE], at_once=0)

    assert await world.sweep() == ["inxmail.a.mutations.bulk"]
    async with world.pool.acquire() as connection:
        late = await Decisions(connection).never_emitted(0.0, 100)
    assert "crm.recipient-status" in {row["topic"] for row in late}

    mutation = await world.mutation()
    assert mutation is not None
    assert await world.fold(result(mutation)) == ["crm.recipient-status"]
