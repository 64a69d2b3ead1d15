"""The whole system, driven as its users drive it: SQL on the CRM, Inxmail's API with people's actions."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.world import Place, World, eventually

pytestmark = pytest.mark.stack


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


async def subscriber(stack: World, place: Place, **columns: Any) -> tuple[str, str, str]:
    """A person with an old proof who is subscribed at the place: address, recipient, e-mail."""
    email = columns.pop("email", None) or stack.email()
    address = await stack.person(email, **columns)
    recipient = await join(stack, place, address)
    await stack.arrives(place, email.strip().lower())
    return address, recipient, email


async def join(stack: World, place: Place, address: str, **consent: Any) -> str:
    recipient = await stack.member(place, address, proof=None)
    await prove(stack, place, address, **({"captured_at": ago(days=1)} | consent))
    return recipient


async def prove(stack: World, place: Place, address: str, **columns: Any) -> None:
    await stack.insert(
        "consent",
        address_gguid=address,
        distribution_gguid=place.distribution,
        baf_client_id=place.client,
        **({"kind": "written"} | columns),
    )


async def leave(stack: World, place: Place, email: str, *, by: str = "link") -> None:
    """The person leaves the list at Inxmail."""
    body = {"action": f"unsubscribe-by-{by}", "list_id": place.list_id, "email": email}
    await stack.clients[place.client].control("POST", "/people", body)


async def past(moment: datetime) -> None:
    """Wait until that moment lies behind us by more than clocks may differ (one second, in the tests' settings)."""
    await eventually(lambda: datetime.now(UTC) > moment, because="proofs from now on are newer")


async def settles(stack: World, *, within_seconds: float = 30.0) -> None:
    """Wait until nothing that was decided is unproduced or unanswered."""
    query = (
        "select not exists (select from sync.emission where emitted_version < version)"
        " and not exists (select from sync.mailbox where (answered_epoch, answered_version) < (epoch, version))"
        " and not exists (select from sync.dirty_person) and not exists (select from sync.dirty_mailbox)"
    )
    await eventually(lambda: stack.sync.fetchval(query), within_seconds=within_seconds, because="the pipeline settles")


async def test_a_new_member_with_consent_is_created_subscribed_and_shown_with_id_and_date(stack: World) -> None:
    place = await stack.place()
    email = stack.email()
    address = await stack.person(email, first_name="Ann", town="Köln")
    recipient = await join(stack, place, address)

    seen = await stack.arrives(place, email, Vorname="Ann", Ort="Köln")

    row = await stack.shows(recipient, "subscribed")
    assert row["inxmail_recipient_id"] == seen.id
    assert row["subscribed_at"] is not None


async def test_a_member_without_proof_is_not_created_and_the_crm_says_why(stack: World) -> None:
    place = await stack.place()
    email = stack.email()
    recipient = await stack.member(place, await stack.person(email), proof=None)

    row = await stack.shows(recipient, "rejected")

    assert row["last_error_code"] == "no_proof"
    assert await stack.clients["a"].recipients({"email": email}) == []


async def test_a_changed_field_reaches_inxmail(stack: World) -> None:
    place = await stack.place()
    address, _, email = await subscriber(stack, place, first_name="Ann")

    await stack.update("address", address, first_name="Anna")

    await stack.arrives(place, email, Vorname="Anna")


async def test_a_deleted_recipient_leaves_the_list_and_a_restored_one_returns(stack: World) -> None:
    place = await stack.place()
    _, recipient, email = await subscriber(stack, place)

    await stack.update("distribution_recipient", recipient, deleted_at=datetime.now(UTC))
    await stack.becomes(place, email, "unsubscribed")
    await stack.update("distribution_recipient", recipient, deleted_at=None)

    await stack.becomes(place, email, "subscribed")
    await stack.shows(recipient, "subscribed")


async def test_a_row_deleted_for_good_leaves_the_list(stack: World) -> None:
    place = await stack.place()
    _, recipient, email = await subscriber(stack, place)

    await stack.crm.execute("delete from crm.distribution_recipient where gguid = $1", recipient)

    await stack.becomes(place, email, "unsubscribed")


async def test_an_emptied_e_mail_is_withdrawn(stack: World) -> None:
    place = await stack.place()
    address, recipient, email = await subscriber(stack, place)

    await stack.update("address", address, email1=None)

    await stack.becomes(place, email, "unsubscribed")
    await stack.shows(recipient, "withdrawn")


async def test_other_spellings_are_one_mailbox(stack: World) -> None:
    place = await stack.place()
    email = stack.email("Jörg.Ünal")
    await subscriber(stack, place, email=f"  {email.upper()} ")
    other = await stack.person(email.title())
    recipient = await join(stack, place, other)

    await stack.shows(recipient, "subscribed")

    assert len(await stack.clients["a"].recipients({"email": email.lower()})) == 1


async def test_a_shared_mailbox_is_one_recipient_and_leaving_it_is_everybodys(stack: World) -> None:
    place = await stack.place()
    email = stack.email("info")
    recipients = []
    for name in ("Ann", "Bob", "Eve"):
        recipients.append(await join(stack, place, await stack.person(email, first_name=name)))
    for recipient in recipients:
        await stack.shows(recipient, "subscribed")

    await leave(stack, place, email)

    for recipient in recipients:
        await stack.shows(recipient, "unsubscribed")
    assert len(await stack.clients["a"].recipients({"email": email})) == 1


async def test_leaving_in_one_client_leaves_the_other_subscribed(stack: World) -> None:
    here, there = await stack.place("a"), await stack.place("b")
    email = stack.email()
    address = await stack.person(email)
    in_a, in_b = await join(stack, here, address), await join(stack, there, address)
    await stack.arrives(here, email)
    await stack.arrives(there, email)

    await leave(stack, here, email, by="header")

    await stack.shows(in_a, "unsubscribed")
    await settles(stack)
    await stack.shows(in_b, "subscribed")
    assert await stack.state(there, email) == "subscribed"


async def test_who_left_stays_away_until_a_newer_proof(stack: World) -> None:
    place = await stack.place()
    address, recipient, email = await subscriber(stack, place)
    await leave(stack, place, email)
    await stack.shows(recipient, "unsubscribed")

    await stack.crm.execute("delete from crm.distribution_recipient where gguid = $1", recipient)
    again = await stack.member(place, address, proof=None)
    row = await stack.shows(again, "unsubscribed")
    await settles(stack)
    assert row["last_error_code"] == "objected"
    assert await stack.state(place, email) == "unsubscribed"

    await past(row["unsubscribed_at"] + timedelta(seconds=2))
    await prove(stack, place, address)
    await stack.becomes(place, email, "subscribed")
    await stack.shows(again, "subscribed")


async def test_an_unsubscription_leaves_a_suppression_that_names_its_event(stack: World) -> None:
    place = await stack.place()
    _, recipient, email = await subscriber(stack, place)
    await leave(stack, place, email)
    await stack.shows(recipient, "unsubscribed")

    async def row() -> Any:
        return await stack.crm.fetchrow(
            "select * from crm.suppression where distribution_gguid = $1", place.distribution
        )

    found = await eventually(row, because="the suppression file has the unsubscription")
    assert (found["scope"], found["reason"], found["origin"]) == ("list", "unsubscribe", "inxmail")


async def test_a_crm_users_note_that_the_person_left_is_an_objection(stack: World) -> None:
    place = await stack.place()
    address, recipient, email = await subscriber(stack, place)

    await stack.update("distribution_recipient", recipient, desired="not_member", desired_reason="person_request")
    await stack.becomes(place, email, "unsubscribed")
    await stack.update("distribution_recipient", recipient, desired="member", desired_reason="manual")

    row = await stack.shows(recipient, "unsubscribed")
    await settles(stack)
    assert row["state_reason"] in ("objected", "person_request")
    assert await stack.state(place, email) == "unsubscribed"
    assert address


async def test_an_edit_and_an_unsubscription_that_cross_both_count(stack: World) -> None:
    place = await stack.place()
    address, recipient, email = await subscriber(stack, place, first_name="Ann")

    await asyncio.gather(leave(stack, place, email), stack.update("address", address, first_name="Anna"))

    await stack.shows(recipient, "unsubscribed")
    await settles(stack)
    assert await stack.state(place, email) == "unsubscribed"
    (seen,) = await stack.clients["a"].recipients({"email": email}, ["Vorname"])
    assert seen.values["Vorname"] == "Anna"


async def test_an_e_mail_change_is_held_and_makes_no_second_recipient(stack: World) -> None:
    place = await stack.place()
    address, recipient, email = await subscriber(stack, place)
    new = stack.email("new")

    await stack.update("address", address, email1=new)

    async def held() -> bool:
        row = await stack.status(recipient)
        return row is not None and row["sync_state"] == "held"

    await eventually(held, because="the CRM shows the change as held")
    await settles(stack)
    assert await stack.state(place, email) == "subscribed"
    assert await stack.clients["a"].recipients({"email": new}) == []


async def test_an_impossible_e_mail_is_shown_and_everything_behind_it_flows_on(stack: World) -> None:
    place = await stack.place()
    impossible = await stack.member(place, await stack.person("not an address"))
    _, recipient, _ = await subscriber(stack, place)

    row = await stack.shows(impossible, "rejected")

    assert (row["sync_state"], row["last_error_code"]) == ("quarantined", "email_impossible")
    await stack.shows(recipient, "subscribed")


async def test_an_unknown_type_of_event_is_parked_and_what_follows_is_heard(stack: World) -> None:
    place = await stack.place()
    _, recipient, email = await subscriber(stack, place)
    _, other, other_email = await subscriber(stack, place)
    event = {"list_id": place.list_id, "type": "SOMETHING_NEW", "email": email, "delay_ms": 0}

    await stack.clients["a"].control("POST", "/events/unsubscriptions", event)
    await leave(stack, place, other_email)

    await stack.shows(other, "unsubscribed")

    async def frozen() -> bool:
        row = await stack.status(recipient)
        return row is not None and bool(row["is_frozen"])

    await eventually(frozen, because="the list is frozen for whom we did not understand")
    assert await stack.state(place, email) == "subscribed"


async def test_nothing_is_sent_and_nothing_written_once_all_is_done(stack: World) -> None:
    place = await stack.place()
    address, recipient, email = await subscriber(stack, place, first_name="Ann")
    await stack.update("address", address, first_name="Anna")
    await leave(stack, place, email)
    await stack.shows(recipient, "unsubscribed")
    await settles(stack)

    async def now() -> tuple[Any, ...]:
        mutations = await stack.sync.fetchval("select coalesce(sum(version), 0) from sync.emission")
        rows = await stack.crm.fetchval(
            "select (select coalesce(sum(pipeline_version), 0) from crm.distribution_recipient_status)"
            " || ' ' || (select count(*) from crm.suppression)"
        )
        return mutations, rows, await stack.writes()

    async def polled(after: dict[str, int], cycles: int) -> bool:
        seen = [
            await visitor.requests_since(after[client], route="GET /events/unsubscriptions")
            for client, visitor in stack.clients.items()
        ]
        return min(len(requests) for requests in seen) >= cycles

    async def two_cycles() -> None:
        after = {client: await visitor.last_request() for client, visitor in stack.clients.items()}
        await eventually(lambda: polled(after, 2), because="both clients are polled twice")

    await two_cycles()  # whatever earlier tests left under way ends here
    before = await now()
    await two_cycles()

    assert await now() == before
