"""A far side that throttles, fails, refuses: nothing is dropped, and what is at fault is named."""

import time

import pytest

from schemas.mutations import Outcome, Want
from tests.integration.client_world import FIRST_NAME, LAST_NAME, LIST, OTHER_LIST, ClientWorld, states, wish
from tests.integration.conftest import NewClient
from tests.world import eventually

pytestmark = pytest.mark.stack

ANN, BEA = "ann@verteiler.example", "bea@verteiler.example"
IMPORTS = "/imports/recipients"


async def imports(world: ClientWorld) -> list[dict[str, object]]:
    return await world.account.walk("/imports/recipients", "recipient-imports")


@pytest.mark.parametrize(
    ("fault", "more"),
    [
        pytest.param("status", {"status": 502, "html": True}, id="a gateway's page"),
        pytest.param("status", {"status": 429, "retry_after_seconds": 1}, id="too many"),
        pytest.param("cut-before", {}, id="a connection that breaks"),
        pytest.param("truncate", {}, id="an answer that is cut off"),
    ],
)
async def test_a_write_of_attributes_is_repeated_until_it_is_done(
    world: ClientWorld, fault: str, more: dict[str, object]
) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    await world.fault(fault, method="PATCH", path="/recipients/*", count=2, **more)
    [result] = await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: "Ann"}))
    person = await world.person(ANN)

    assert result.outcome is Outcome.APPLIED
    assert person is not None and person["attributes"]["Vorname"] == "Ann"


async def test_a_client_that_rejects_the_credentials_is_paused_and_nothing_is_dropped(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    worker = await world.started()
    await world.fault("status", method="*", path="*", count=4, status=401)
    await eventually(lambda: worker.health.detail.get("paused"), because="the client is paused")
    mutation = world.mutation(ANN, wish(), values={FIRST_NAME: "Ann"})
    await world.want(mutation)
    await world.answer(mutation)
    await eventually(lambda: worker.health.detail.get("paused") is None, because="the client is resumed")

    person = await world.person(ANN)
    assert person is not None and person["attributes"]["Vorname"] == "Ann"


async def test_a_far_side_that_is_down_at_the_start_is_waited_for(world: ClientWorld) -> None:
    await world.fault("status", method="*", path="*", count=5, status=503)
    await world.started()
    await world.delivered(world.mutation(ANN, wish()))

    assert await world.state(ANN) == "SUBSCRIBED"


async def test_every_row_error_is_told_for_its_mailbox_and_the_other_rows_stand(world: ClientWorld) -> None:
    await world.started()
    codes = {
        1: "BLACKLIST_ERROR",
        2: "EMAIL_PARSE_ERROR",
        3: "SAVE_ERROR",
        4: "LINE_PARSE_ERROR",
        5: "UNSUBSCRIPTION_ERROR",
    }
    await world.control("POST", "/imports/scripts", {"row_errors": codes})
    mutations = [world.mutation(f"p{number}@verteiler.example", wish()) for number in range(7)]
    results = {result.email: result for result in await world.delivered(*mutations)}
    subscribed = [email for email in results if await world.state(email) == "SUBSCRIBED"]
    errors = sorted(result.error for result in results.values() if result.error)

    assert len(subscribed) == 2
    assert all(states(results[email].lists) == {LIST: "subscribed"} for email in subscribed)
    assert errors == ["blacklisted", "email_refused", "held_unsubscribed", "line_parse_error", "save_error"]
    # Refused because she had left: a state, and only a newer proof changes it.
    assert [each.email for each in results.values() if states(each.lists) == {LIST: "unsubscribed"}] != []
    assert len(await imports(world)) == 1


async def test_of_values_that_an_import_refuses_only_the_one_at_fault_is_kept_back(world: ClientWorld) -> None:
    """The import does not say which it is: a single call does."""
    await world.started()
    await world.control("POST", "/imports/scripts", {"row_errors": {1: "ATTRIBUTE_PARSE_ERROR"}})
    problem = {"status": 400, "type": "invalid-request-body"}
    await world.fault("status", method="PATCH", path="/recipients/*", count=2, **problem)
    values = {FIRST_NAME: "Ann", LAST_NAME: "Ohm"}
    [result] = await world.delivered(world.mutation(ANN, wish(), values=values))
    person = await world.person(ANN)

    assert await world.state(ANN) == "SUBSCRIBED"
    assert result.outcome is Outcome.APPLIED
    assert list(result.rejected_values.values()) == ["invalid_request_body"]
    assert person is not None
    assert len([name for name in ("Vorname", "Nachname") if person["attributes"][name] is not None]) == 1


async def test_a_row_that_ends_every_import_is_told_and_the_others_stand(new_client: NewClient) -> None:
    async with new_client() as world:
        await world.started()
        for _ in range(8):
            await world.control("POST", "/imports/scripts", {"outcome": "FAILED_HEADER", "list_id": LIST})
        [poison] = await world.delivered(world.mutation(ANN, wish()), within_seconds=60)
        await world.control("DELETE", "/imports/scripts")
        [other] = await world.delivered(world.mutation(BEA, wish()), within_seconds=60)

    assert (poison.outcome, poison.error) == (Outcome.QUARANTINED, "import_failed")
    assert states(other.lists) == {LIST: "subscribed"}


@pytest.mark.parametrize("outcome", ["FAILED_HALFWAY", "CANCELED", "FAILED_HEADER"])
async def test_an_import_that_did_not_complete_is_read_and_finished_by_another(
    world: ClientWorld, outcome: str
) -> None:
    await world.started()
    await world.control("POST", "/imports/scripts", {"outcome": outcome})
    mutations = [world.mutation(f"p{number}@verteiler.example", wish()) for number in range(6)]
    results = await world.delivered(*mutations, within_seconds=40)

    assert all(states(result.lists) == {LIST: "subscribed"} for result in results)
    assert [await world.state(result.email) for result in results] == ["SUBSCRIBED"] * 6


async def test_a_file_that_is_too_large_is_sent_in_parts(new_client: NewClient) -> None:
    async with new_client(behaviour={"import_max_bytes": 1200}) as world:
        mutations = [world.mutation(f"p{number}-{number * 7919}@verteiler.example", wish()) for number in range(100)]
        await world.want(*mutations)
        await world.started()
        await world.answer(mutations[-1], within_seconds=40)
        for each in mutations:
            await world.answer(each)

        assert (await world.control("GET", "/state"))["recipients"] == 100


async def test_a_list_that_somebody_else_imports_into_is_waited_for(new_client: NewClient) -> None:
    async with new_client(behaviour={"import_busy_list": "lock"}) as world:
        await world.started()
        await world.control.options(import_rows_per_second=0)
        await world.account.upload('"email"\r\n"visitor@verteiler.example"', f"?listId={LIST}")
        mutation = world.mutation(ANN, wish())
        await world.want(mutation)
        await world.rest_without(mutation)
        await world.control("POST", "/imports/1/step", {"finish": True})
        await world.control.options(import_rows_per_second=5000)
        result = await world.answer(mutation)

        assert states(result.lists) == {LIST: "subscribed"}


async def test_a_list_that_is_not_there_quarantines_the_mailbox_and_not_the_others(world: ClientWorld) -> None:
    await world.started()
    lost, found = world.mutation(ANN, wish(list_id=999)), world.mutation(BEA, wish())
    missing, good = await world.delivered(lost, found)

    assert (missing.outcome, missing.error) == (Outcome.QUARANTINED, "list_missing")
    assert (good.outcome, states(good.lists)) == (Outcome.APPLIED, {LIST: "subscribed"})


async def test_a_recipient_that_vanished_is_told_and_not_brought_back(world: ClientWorld) -> None:
    await world.started()
    await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: "Ann"}))
    person = await world.person(ANN)
    assert person is not None
    await world.control("DELETE", f"/recipients/{person['id']}")
    [result] = await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: "Anna"}))

    assert (result.outcome, result.error, result.recipient_id) == (Outcome.QUARANTINED, "recipient_missing", None)
    assert states(result.lists) == {LIST: "none"}
    assert await world.person(ANN) is None


async def test_a_recipient_that_was_made_anew_is_found_under_its_new_id(world: ClientWorld) -> None:
    await world.started()
    await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: "Ann"}))
    person = await world.person(ANN)
    assert person is not None
    await world.control("DELETE", f"/recipients/{person['id']}")
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    [result] = await world.delivered(world.mutation(ANN, wish(), values={FIRST_NAME: "Anna"}))
    again = await world.person(ANN)

    assert again is not None and again["attributes"]["Vorname"] == "Anna"
    assert result.recipient_id == again["id"] != person["id"]


async def test_a_blacklisted_address_is_quarantined_and_not_tried_again(world: ClientWorld) -> None:
    await world.account.post("/blacklist-entries", {"pattern": ANN})
    await world.started()
    [result] = await world.delivered(world.mutation(ANN, wish()))
    await world.rest()

    assert (result.outcome, result.error) == (Outcome.QUARANTINED, "blacklisted")
    assert len(await imports(world)) == 1


async def test_whoever_is_no_member_is_simply_not_subscribed(world: ClientWorld) -> None:
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    await world.control(
        "PATCH", "/recipients/ann%40verteiler.example", {"memberships": [{"list_id": LIST, "state": "NONE"}]}
    )
    [result] = await world.delivered(world.mutation(ANN, wish(Want.UNSUBSCRIBED, rule="withdrawn")))

    assert (result.outcome, states(result.lists)) == (Outcome.APPLIED, {LIST: "none"})


async def test_a_value_that_a_patch_refuses_is_named_and_the_others_are_written(world: ClientWorld) -> None:
    """The far side counts otherwise than its definition says."""
    await world.put(ANN, (LIST, "SUBSCRIBED"))
    await world.started()
    problem = {"status": 400, "type": "invalid-request-body"}
    await world.fault("status", method="PATCH", path="/recipients/*", count=2, **problem)
    values = {FIRST_NAME: "Ann", LAST_NAME: "Ohm"}
    [result] = await world.delivered(world.mutation(ANN, wish(), values=values))

    assert result.outcome is Outcome.APPLIED
    assert list(result.rejected_values.values()) == ["invalid_request_body"]
    assert len(result.values) - 1 == sum(value is not None for value in result.values.values())


async def test_a_value_whose_attribute_is_made_later_is_written_then(new_client: NewClient) -> None:
    async with new_client(definitions_seconds=0.3) as world:
        first = await world.account.post("/attributes", {"name": "Erste", "type": "TEXT", "maxLength": 9})
        later = str(first.body["id"] + 1)
        await world.started()
        values = {FIRST_NAME: "Ann", later: "new"}
        [result] = await world.delivered(world.mutation(ANN, wish(), values=values))
        assert result.rejected_values == {later: "attribute_unknown"}
        await world.account.post("/attributes", {"name": "Zweite", "type": "TEXT", "maxLength": 9})

        async def written() -> bool:
            person = await world.person(ANN)
            return person is not None and person["attributes"].get("Zweite") == "new"

        await eventually(written, because="the value is written once its attribute is there")
        await eventually(lambda: _nothing_rejected(world), because="it is told")


async def _nothing_rejected(world: ClientWorld) -> bool:
    result = await world.result_of(ANN)
    return result is not None and not result.rejected_values


async def test_an_import_that_never_ends_holds_its_mailboxes_and_nobody_else(new_client: NewClient) -> None:
    async with new_client(import_deadline_seconds=0.5) as world:
        worker = await world.started()
        await world.control("POST", "/imports/scripts", {"outcome": "NEVER_ENDING", "list_id": LIST})
        held = world.mutation(ANN, wish())
        await world.want(held)
        await eventually(lambda: worker.health.detail.get("imports_overdue"), because="it is reported")
        [result] = await world.delivered(world.mutation(BEA, wish(list_id=OTHER_LIST)))

        assert states(result.lists) == {OTHER_LIST: "subscribed"}
        assert await world.result_of(ANN) is None


async def test_deliveries_wait_for_the_budget_and_the_logs_do_not(new_client: NewClient) -> None:
    async with new_client(behaviour={"requests_per_minute": 60}, requests_per_minute=60, poll_seconds=1) as world:
        people = [f"p{number}@verteiler.example" for number in range(60)]
        for email in (*people, ANN):
            await world.put(email, (LIST, "SUBSCRIBED"))
        await world.started()
        await world.want(*(world.mutation(email, wish(Want.UNSUBSCRIBED, rule="withdrawn")) for email in people))
        began = time.monotonic()
        await world.control.person("unsubscribe-by-link", LIST, ANN)

        async def heard() -> bool:
            return any(event.email == ANN for event in (await world.unsubscriptions()).values())

        await eventually(heard, within_seconds=10, because="the opt-out is heard in time")
        assert time.monotonic() - began < 8
        assert "429" not in (await world.control("GET", "/counters"))["by_status"]
