"""`kill -9` of any process amid a load and live edits: nothing is lost, nobody who left is subscribed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.world import Place, World, eventually

pytestmark = [pytest.mark.stack, pytest.mark.chaos]

PEOPLE = 300
LEAVING = 20
PROCESSES = [
    "decide-changes-0",
    "decide-changes-1",
    "decide-objections-0",
    "decide-objections-1",
    "client-a",
    "write-back",
    "capture",
    "connect",
    "registry",
    "kafka",
    "postgres",
]


async def load(stack: World, place: Place, prefix: str) -> list[tuple[str, str]]:
    """Insert many people with proofs in one statement each: (address GGUID, e-mail)."""
    emails = [stack.email(prefix) for _ in range(PEOPLE)]
    day_ago = datetime.now(UTC) - timedelta(days=1)
    async with stack.crm.acquire() as crm, crm.transaction():
        rows = await crm.fetch(
            "insert into crm.address (email1, first_name) select e, 'before' from unnest($1::text[]) e"
            " returning gguid, email1",
            emails,
        )
        gguids = [row["gguid"] for row in rows]
        await crm.execute(
            "insert into crm.distribution_recipient (distribution_gguid, baf_client_id, address_gguid)"
            " select $1, $2, g from unnest($3::text[]) g",
            place.distribution,
            place.client,
            gguids,
        )
        await crm.execute(
            "insert into crm.consent (address_gguid, distribution_gguid, baf_client_id, kind, captured_at)"
            " select g, $1, $2, 'written', $4 from unnest($3::text[]) g",
            place.distribution,
            place.client,
            gguids,
            day_ago,
        )
    return [(row["gguid"], row["email1"]) for row in rows]


async def subscribed(stack: World, place: Place) -> dict[str, Any]:
    """E-mail → first name of everyone subscribed at the place."""
    visitor = stack.clients[place.client]
    found = await visitor.recipients({"subscribedTo": str(place.list_id)}, ["Vorname"])
    return {seen.email: seen.values["Vorname"] for seen in found}


async def leave(stack: World, place: Place, email: str) -> None:
    when = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"action": "unsubscribe-by-link", "list_id": place.list_id, "email": email, "occurred_at": when}
    await stack.clients[place.client].control("POST", "/people", body)


@pytest.mark.timeout(420)
@pytest.mark.parametrize("process", PROCESSES)
async def test_a_killed_process_loses_nothing_and_brings_nobody_back(stack: World, process: str) -> None:
    place = await stack.place("a")
    first = await load(stack, place, "load")

    async def some_arrived() -> bool:
        decided = await stack.sync.fetchval(
            "select count(*) from sync.claim where distribution = $1", place.distribution
        )
        return int(decided) > 0

    await eventually(some_arrived, within_seconds=60, because="the load has begun to be folded")
    former = stack.kill(process)
    if process == "postgres":  # the CRM itself is away: its users wait
        await stack.comes_back(process, former, within_seconds=120)
    second = await load(stack, place, "more")
    await stack.comes_back(process, former, within_seconds=120)
    everyone = {email: "before" for _, email in (*first, *second)}

    async def all_there() -> bool:
        there = await subscribed(stack, place)
        assert there == everyone, f"{len(there)} of {len(everyone)}"
        return True

    await eventually(all_there, within_seconds=150, because="everyone arrived with the right values")

    leaving = [email for _, email in first[:LEAVING]]
    edited = second[:LEAVING]
    edits = [stack.update("address", address, first_name="after") for address, _ in (*edited, *first[:LEAVING])]
    departures = [leave(stack, place, email) for email in leaving]
    edit_half, leave_half = len(edits) // 2, len(departures) // 2
    await asyncio.gather(*edits[:edit_half], *departures[:leave_half])
    former = stack.kill(process)
    if process == "postgres":  # the CRM itself is away: its users wait
        await stack.comes_back(process, former, within_seconds=120)
    await asyncio.gather(*edits[edit_half:], *departures[leave_half:])
    await stack.comes_back(process, former, within_seconds=120)
    expected = {email: name for email, name in everyone.items() if email not in leaving}
    expected |= {email: "after" for _, email in edited}

    async def as_expected() -> bool:
        there = await subscribed(stack, place)
        assert there.keys() == expected.keys(), f"{len(there)} of {len(expected)}"
        assert there == expected, "other values"
        return True

    await eventually(as_expected, within_seconds=150, because="edits and departures took effect")

    async def crm_knows() -> bool:
        count = await stack.crm.fetchval(
            "select count(*) from crm.distribution_recipient_status s"
            " join crm.distribution_recipient r on r.gguid = s.distribution_recipient_gguid"
            " where r.distribution_gguid = $1 and s.subscription_state = 'unsubscribed'",
            place.distribution,
        )
        return int(count) == LEAVING

    await eventually(crm_knows, within_seconds=60, because="the CRM shows everyone who left")
