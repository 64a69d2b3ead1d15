"""From mutations to what a client holds, on real PostgreSQL and Kafka, against the simulator over HTTP."""

import pytest

from schemas.mutations import Held, Outcome, Want
from tests.integration.client_world import (
    BIRTHDAY,
    FIRST_NAME,
    LAST_NAME,
    LIST,
    OTHER_LIST,
    REVENUE,
    ClientWorld,
    shifted,
    states,
    wish,
)
from tests.integration.conftest import NewClient
from tests.world import eventually

pytestmark = pytest.mark.stack

ANN = "ann@verteiler.example"


async def test_a_new_mailbox_is_created_and_subscribed_with_its_values(world: ClientWorld) -> None:
    await world.started()
    values = {FIRST_NAME: " Ann ", BIRTHDAY: "2000-02-29Z", REVENUE: "12.5000"}
    [result] = await world.delivered(world.mutation(ANN, wish(), values=values))
    person = await world.person(ANN)

    assert person is not None
    assert await world.state(ANN) == "SUBSCRIBED"
    assert {name: person["attributes"][name] for name in ("Vorname", "Geburtstag", "Umsatz")} == {
        "Vorname": "Ann",
        "Geburtstag": "2000-02-29",
        "Umsatz": 12.5,
    }
    assert (result.outcome, result.recipient_id) == (Outcome.APPLIED, person["id"])
    assert result.values == {FIRST_NAME: "Ann", BIRTHDAY: "2000-02-29", REVENUE: "12.5"}
    assert [(held.state, held.claims) for held in result.lists] == [(Held.SUBSCRIBED, ("C" * 32,))]


async def test_a_changed_value_of_a_known_recipient_is_one_patch_of_that_value_alone(world: ClientWorld) -> None:
    await world.started()
    await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: "Ann", LAST_NAME: "Ohm"}))
    before = len(await world.writes())
    [result] = await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: "Anna", LAST_NAME: "Ohm"}))
    person = await world.person(ANN)

    assert [write["route"] for write in (await world.writes())[before:]] == ["PATCH /recipients/{id}"]
    assert result.values == {FIRST_NAME: "Anna", LAST_NAME: "Ohm"}
    assert person is not None and person["attributes"]["Vorname"] == "Anna"


async def test_many_changed_recipients_go_by_one_import_without_a_list(new_client: NewClient) -> None:
    async with new_client(bulk_threshold=2) as world:
        await world.started()
        emails = [f"p{number}@verteiler.example" for number in range(6)]
        await world.delivered(*(world.mutation(email, wish(), values={FIRST_NAME: "A"}) for email in emails))
        before = len(await world.writes())
        await world.delivered(*(world.mutation(email, wish(), values={FIRST_NAME: "B"}) for email in emails))
        writes = (await world.writes())[before:]

        assert {write["route"] for write in writes} == {"POST /imports/recipients"}
        assert all("listId" not in write["query"] for write in writes)
        for email in emails:
            person = await world.person(email)
            assert person is not None and person["attributes"]["Vorname"] == "B"


async def test_null_clears_a_value_and_a_value_that_is_not_named_stays(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"), Vorname="Ann", Nachname="Ohm", Ort="Ulm")
    await world.started()
    await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: None, LAST_NAME: "Ohm"}))
    person = await world.person(ANN)

    assert person is not None
    assert (person["attributes"]["Vorname"], person["attributes"]["Ort"]) == (None, "Ulm")
    assert len(await world.writes()) == 1


async def test_whoever_should_leave_is_unsubscribed_and_it_is_known_as_ours(world: ClientWorld) -> None:
    await world.started()
    await world.delivered(world.mutation(ANN, wish()))
    [result] = await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
    effect = next(each for each in await world.effects() if each.kind == "unsubscribe")

    assert await world.state(ANN) == "UNSUBSCRIBED"
    assert states(result.lists) == {LIST: "unsubscribed"}
    assert (result.lists[0].cause, result.lists[0].claims) == (effect.op_id, ())
    await eventually(world.unsubscriptions, because="the log was read")
    assert [event.op_id for event in (await world.unsubscriptions()).values()] == [effect.op_id]


@pytest.mark.parametrize("max_in_flight", [1, 4])
async def test_whoever_was_withdrawn_by_us_comes_back(new_client: NewClient, max_in_flight: int) -> None:
    async with new_client(max_in_flight=max_in_flight) as world:
        await world.started()
        await world.delivered(world.mutation(ANN, wish()))
        await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))
        [result] = await world.delivered(world.mutation(ANN, wish()))

        assert await world.state(ANN) == "SUBSCRIBED"
        assert states(result.lists) == {LIST: "subscribed"}
        assert (await world.writes())[-1]["query"] == {"listId": str(LIST), "resubscribe": "true"}


async def test_whoever_left_comes_back_only_with_a_proof_that_is_newer(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    await world.control.person("unsubscribe-by-link", LIST, ANN)
    await eventually(world.unsubscriptions, because="the opt-out was heard")
    old = world.mutation(ANN, wish(proof=shifted(-86400 * 3650)))
    await world.want(old)
    await world.rest_without(old)

    assert await world.state(ANN) == "UNSUBSCRIBED"
    assert await world.writes() == []

    [result] = await world.delivered(world.mutation(ANN, wish(proof=shifted(120))))
    assert await world.state(ANN) == "SUBSCRIBED"
    assert states(result.lists) == {LIST: "subscribed"}


async def test_whoever_left_before_anybody_listened_is_not_brought_back(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "UNSUBSCRIBED"))
    await world.started()
    mutation = world.mutation(ANN, wish())
    await world.want(mutation)
    await world.rest_without(mutation)

    assert await world.state(ANN) == "UNSUBSCRIBED"
    assert await world.writes() == []


async def test_what_the_client_holds_is_told_at_the_first_start(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"), (OTHER_LIST, "UNSUBSCRIBED"), Vorname="Ann")
    await world.started()
    result = await eventually(lambda: world.result_of(ANN), because="what is held is told")

    assert states(result.lists) == {LIST: "subscribed", OTHER_LIST: "unsubscribed"}
    assert (result.version, result.values) == (None, {})
    assert "recipients" in await world.cursors()


async def test_a_mailbox_wanted_on_two_lists_is_subscribed_to_both(world: ClientWorld) -> None:
    await world.started()
    mutation = world.mutation(ANN, wish(), wish(list_id=OTHER_LIST), values={FIRST_NAME: "Ann"})
    [result] = await world.delivered(mutation)
    person = await world.person(ANN)

    assert states(result.lists) == {LIST: "subscribed", OTHER_LIST: "subscribed"}
    assert person is not None and person["attributes"]["Vorname"] == "Ann"


async def test_nobody_is_created_for_nothing(world: ClientWorld) -> None:
    await world.started()
    [result] = await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="objected")))

    assert (result.outcome, result.recipient_id, result.lists) == (Outcome.APPLIED, None, ())
    assert await world.writes() == []


async def test_a_field_at_fault_is_named_and_the_rest_is_sent(world: ClientWorld) -> None:
    await world.started()
    values = {FIRST_NAME: "x" * 101, LAST_NAME: "Ohm", BIRTHDAY: "tomorrow", "999": "?"}
    [result] = await world.delivered(world.mutation(ANN, wish(), values=values))
    person = await world.person(ANN)

    assert person is not None and person["attributes"]["Nachname"] == "Ohm"
    assert result.outcome is Outcome.APPLIED
    assert result.rejected_values == {
        FIRST_NAME: "too_long",
        BIRTHDAY: "type_mismatch",
        "999": "attribute_unknown",
    }


async def test_an_attribute_that_was_made_meanwhile_is_found(world: ClientWorld) -> None:
    await world.started()
    made = await world.account.post("/attributes", {"name": "Hobby", "type": "TEXT", "maxLength": 50})
    attribute = str(made.body["id"])
    [result] = await world.delivered(world.mutation(ANN, wish(), values={attribute: "Schach"}))
    person = await world.person(ANN)

    assert person is not None and person["attributes"]["Hobby"] == "Schach"
    assert result.rejected_values == {}


async def test_a_list_that_was_made_meanwhile_is_read_before_anything_is_concluded(world: ClientWorld) -> None:
    await world.started()
    made = await world.account.post(
        "/lists", {"name": "Neu", "type": "STANDARD", "senderAddress": "a@verteiler.example"}
    )
    list_id = made.body["id"]
    await world.put(ANN, (list_id, "SUBSCRIBED"))
    [result] = await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, list_id=list_id, rule="withdrawn")))

    assert await world.state(ANN, list_id) == "UNSUBSCRIBED"
    assert states(result.lists) == {list_id: "unsubscribed"}


async def test_the_spelling_of_the_client_is_used_for_what_it_already_has(world: ClientWorld) -> None:
    await world.put("Ann@BÜCHER.example", (LIST, "SUBSCRIBED"))
    await world.started()
    email = "ann@xn--bcher-kva.example"
    [result] = await world.delivered(world.mutation(email, wish(Want.UNSUBSCRIBED, rule="withdrawn")))

    assert states(result.lists) == {LIST: "unsubscribed"}
    assert await world.state("Ann@BÜCHER.example") == "UNSUBSCRIBED"


async def test_a_list_to_be_kept_is_left_alone(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    [result] = await world.delivered(world.mutation(ANN, wish(Want.KEEP)))

    assert states(result.lists) == {LIST: "subscribed"}
    assert await world.writes() == []


async def test_only_the_newest_mutation_of_a_mailbox_counts_in_whatever_order_they_come(world: ClientWorld) -> None:
    newest = world.mutation(ANN, wish(), values={FIRST_NAME: "new"}, counter=9)
    older = world.mutation(ANN, wish(Want.UNSUBSCRIBED), values={FIRST_NAME: "old"}, counter=8)
    await world.started()
    await world.delivered(newest)
    await world.want(older)
    await world.rest()
    person = await world.person(ANN)

    assert await world.state(ANN) == "SUBSCRIBED"
    assert person is not None and person["attributes"]["Vorname"] == "new"


async def test_nothing_is_sent_or_told_twice_when_everything_is_said_again(world: ClientWorld) -> None:
    worker = await world.started()
    mutation = world.mutation(ANN, wish(), values={FIRST_NAME: "Ann"})
    await world.delivered(mutation)
    writes, told = len(await world.writes()), len(await world.records(f"inxmail.{world.client}.results"))
    await world.want(mutation)
    await world.rest()
    await worker.end()
    await world.started()
    await world.rest()

    assert len(await world.writes()) == writes
    assert len(await world.records(f"inxmail.{world.client}.results")) == told


async def test_a_record_that_is_no_mutation_is_parked_and_what_follows_flows_on(world: ClientWorld) -> None:
    await world.started()
    await world.garbage()
    await world.delivered(world.mutation(ANN, wish()))

    assert await world.state(ANN) == "SUBSCRIBED"
    assert world.client in {letter.flow.removeprefix("client-") for letter in await world.dead_letters()}


async def test_a_thousand_new_mailboxes_take_few_requests(world: ClientWorld) -> None:
    await world.started()
    mutations = [
        world.mutation(f"n{number}@verteiler.example", wish(), values={FIRST_NAME: f"N{number}"})
        for number in range(1000)
    ]
    await world.want(*mutations)

    async def all_answered() -> bool:
        results = await world.results()
        return sum(each.version is not None for each in results.values()) == 1000

    await eventually(all_answered, within_seconds=30, because="a thousand answers")
    counters = await world.control("GET", "/counters")
    assert counters["writes"] <= 12
    assert (await world.control("GET", "/state"))["recipients"] == 1000
