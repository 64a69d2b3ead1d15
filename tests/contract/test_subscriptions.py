"""Coming onto a list and leaving it, one person at a time, and the logs of it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.account import Account, encoded, eventually, somebody


async def _subscribed(account: Account, list_id: int, email: str, **more: object) -> str:
    reply = await account.post("/events/subscriptions", {"listId": list_id, "email": email, "attributes": {}, **more})
    assert reply.status == 200, reply.text
    return str(reply.body["result"])


async def _logged(account: Account, log: str, query: str, count: int) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]] | None:
        found = await account.walk(f"/events/{log}s?{query}", f"{log}-events")
        return found if len(found) >= count else None

    return await eventually(look, why="the event did not become readable")


async def test_a_subscription_answers_200_and_not_201_with_a_result(writable: Account, list_id: int) -> None:
    email = somebody()

    assert await _subscribed(writable, list_id, email) == "VERIFIED_SUBSCRIPTION"
    assert email in await writable.subscribed(list_id)


async def test_the_list_id_may_be_a_text(writable: Account, list_id: int) -> None:
    body = {"listId": str(list_id), "email": somebody(), "attributes": {}}

    assert (await writable.post("/events/subscriptions", body)).status == 200


async def test_a_second_subscription_is_a_duplicate(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email)

    assert await _subscribed(writable, list_id, email) == "DUPLICATE_SUBSCRIPTION"


async def test_a_subscription_brings_attributes(
    writable: Account, list_id: int, attribute: Callable[[str], str]
) -> None:
    email, name = somebody(), attribute("TEXT")
    await _subscribed(writable, list_id, email, attributes={name: "Ann"})

    assert (await writable.recipient(email, f"&attributes={name}") or {})["attributes"] == {name: "Ann"}


async def test_what_is_no_address_cannot_subscribe(writable: Account, list_id: int) -> None:
    reply = await writable.post("/events/subscriptions", {"listId": list_id, "email": "nobody", "attributes": {}})

    assert reply.status == 400
    assert reply.body["type"] == "invalid-request-body"
    assert reply.body["invalidFields"][0]["field"] == "email"


async def test_leaving_answers_200_and_a_second_time_it_is_a_duplicate(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email)
    first = await writable.post("/events/unsubscriptions", {"listId": list_id, "email": email})
    second = await writable.post("/events/unsubscriptions", {"listId": list_id, "email": email})

    assert (first.status, first.body["result"]) == (200, "VERIFIED_UNSUBSCRIPTION")
    assert (second.status, second.body["result"]) == (200, "DUPLICATE_UNSUBSCRIPTION")
    assert email not in await writable.subscribed(list_id)


async def test_who_left_can_be_read_with_the_date(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email)
    await writable.post("/events/unsubscriptions", {"listId": list_id, "email": email})
    query = f"/recipients?unsubscribedFromAny={list_id}&unsubscriptionDatesForLists={list_id}"
    (found,) = await writable.walk(query, "recipients")

    assert found["email"] == email
    assert found["unsubscriptionDates"][0]["listId"] == list_id


async def test_who_is_on_no_list_cannot_leave_it(writable: Account, list_id: int) -> None:
    reply = await writable.post("/events/unsubscriptions", {"listId": list_id, "email": somebody()})

    assert reply.status == 400
    assert reply.body["type"] == "unsubscription-error"


async def test_a_given_permission_is_kept_and_leaving_denies_it(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email, trackingPermission="GRANTED")
    query = f"&trackingPermissionsForLists={list_id}"
    before = await writable.recipient(email, query)
    await writable.post("/events/unsubscriptions", {"listId": list_id, "email": email})
    current = await writable.walk(f"/tracking-permissions?listIds={list_id}", "tracking-permissions")

    assert before and before["trackingPermissions"] == [{"listId": list_id, "trackingPermission": "GRANTED"}]
    assert [item["trackingPermission"] for item in current] == ["DENIED"]


@pytest.mark.parametrize(("log", "parameter"), [("subscription", "listId"), ("unsubscription", "listIds")])
async def test_an_event_is_logged_and_found_by_list_and_type(
    writable: Account, list_id: int, log: str, parameter: str
) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email)
    await writable.post("/events/unsubscriptions", {"listId": list_id, "email": email})
    kind = f"VERIFIED_{log.upper()}"
    (event,) = await _logged(writable, log, f"{parameter}={list_id}&types={kind},OTHER", 1)
    none = await writable.walk(f"/events/{log}s?{parameter}={list_id}&types=OTHER", f"{log}-events")

    assert (event["type"], event["listId"], event["email"]) == (kind, list_id, email)
    assert none == []


async def test_an_event_embeds_its_recipient_with_the_chosen_attributes(
    writable: Account, list_id: int, attribute: Callable[[str], str]
) -> None:
    email, name = somebody(), attribute("TEXT")
    await _subscribed(writable, list_id, email, attributes={name: "Ann"})
    query = f"listId={list_id}&embedded=inx:recipient&recipientAttributes={name}"
    (event,) = await _logged(writable, "subscription", query, 1)
    embedded = event["_embedded"]["inx:recipient"]

    assert (embedded["email"], embedded["attributes"]) == (email, {name: "Ann"})


async def test_events_come_by_the_upcoming_link_once_and_in_order(writable: Account, list_id: int) -> None:
    people = [somebody() for _ in range(3)]
    start = (await writable.get(f"/events/subscriptions?listId={list_id}")).link("inx:upcoming") or ""
    for email in people:
        await _subscribed(writable, list_id, email)

    async def look() -> list[dict[str, Any]] | None:
        found = await writable.walk(start, "subscription-events")
        return found if len(found) == len(people) else None

    events = await eventually(look, why="the events did not become readable")
    ids = [event["id"] for event in events]

    assert {event["email"] for event in events} == set(people)
    assert ids == sorted(set(ids))


async def test_a_deleted_recipient_leaves_its_events_and_no_embedded_object(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email)
    await _logged(writable, "subscription", f"listId={list_id}", 1)
    await writable.delete(f"/recipients/{(await writable.recipient(email) or {})['id']}")
    (event,) = await _logged(writable, "subscription", f"listId={list_id}&embedded=inx:recipient", 1)

    assert "inx:recipient" not in event.get("_embedded", {})


async def test_a_new_recipient_of_an_old_address_is_not_known_to_have_left(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email)
    await writable.post("/events/unsubscriptions", {"listId": list_id, "email": email})
    await writable.delete(f"/recipients/{(await writable.recipient(email) or {})['id']}")
    ended = await writable.imported(f'"email"\n"{email}"\n', f"?listId={list_id}")

    assert (ended["successCount"], ended["failCount"]) == (1, 0)
    assert email in await writable.subscribed(list_id)


async def test_blacklisting_deletes_silently_and_keeps_out(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email)
    entry = await writable.post("/blacklist-entries", {"pattern": email.upper()})
    refused = await writable.post("/events/subscriptions", {"listId": list_id, "email": email, "attributes": {}})
    imported = await writable.imported(f'"email"\n"{email}"\n', f"?listId={list_id}")
    removed = await writable.delete(f"/blacklist-entries/{entry.body['id']}")

    assert (entry.status, removed.status) == (201, 204)
    assert (refused.status, refused.body["type"]) == (400, "blacklisted")
    assert imported["errors"] == [("BLACKLIST_ERROR", email)]
    assert (await writable.get(f"/recipients?email={encoded(email)}")).items("recipients") == []


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/hal+json",
        "application/hal+json;charset=UTF-8",
    ],
)
async def test_a_body_may_come_as_either_kind_of_json(writable: Account, list_id: int, content_type: str) -> None:
    body = {"listId": list_id, "email": somebody(), "attributes": {}}
    reply = await writable.request("POST", "/events/subscriptions", body, content_type=content_type)

    assert reply.status == 200


async def test_a_subscription_takes_numbers_as_text_and_tells_where_it_came_from(
    writable: Account, list_id: int, attribute: Callable[[str], str]
) -> None:
    email, name = somebody(), attribute("FLOATING_POINT_NUMBER")
    more = {"attributes": {name: "12.5"}, "source": "website", "suppliedRemoteAddress": "203.0.113.7"}
    result = await _subscribed(writable, list_id, email, **more)

    assert result == "VERIFIED_SUBSCRIPTION"
    assert (await writable.recipient(email, f"&attributes={name}") or {})["attributes"] == {name: 12.5}


async def test_a_subscription_without_a_permission_leaves_the_one_there_is(writable: Account, list_id: int) -> None:
    email = somebody()
    await _subscribed(writable, list_id, email, trackingPermission="GRANTED")
    await _subscribed(writable, list_id, email)
    current = await writable.walk(f"/tracking-permissions?listIds={list_id}", "tracking-permissions")

    assert [item["trackingPermission"] for item in current] == ["GRANTED"]


async def test_permissions_are_found_by_recipient_and_their_changes_are_logged(writable: Account, list_id: int) -> None:
    email, other = somebody(), somebody()
    for who in (email, other):
        await _subscribed(writable, list_id, who, trackingPermission="GRANTED")
    await writable.post("/events/unsubscriptions", {"listId": list_id, "email": email})
    id_ = (await writable.recipient(email) or {})["id"]
    query = f"/tracking-permissions?listIds={list_id}&recipientIds={id_}"
    current = await writable.walk(query, "tracking-permissions")

    async def look() -> list[dict[str, Any]] | None:
        path = f"/events/tracking-permissions?listIds={list_id}"
        found = [item for item in await writable.walk(path, "tracking-permission-events") if item["recipientId"] == id_]
        return found if len(found) >= 2 else None

    events = await eventually(look, why="the permissions did not become readable")

    assert [(item["recipientId"], item["trackingPermission"]) for item in current] == [(id_, "DENIED")]
    assert [event["trackingPermission"] for event in events] == ["GRANTED", "DENIED"]
    assert {event["listId"] for event in events} == {list_id}


async def test_events_are_found_by_time(writable: Account, list_id: int) -> None:
    await _subscribed(writable, list_id, somebody())
    (event,) = await _logged(writable, "subscription", f"listId={list_id}&startDate=2000-01-01T00:00:00Z", 1)
    later = await writable.walk(
        f"/events/subscriptions?listId={list_id}&startDate=2099-01-01T00:00:00Z", "subscription-events"
    )
    earlier = await writable.walk(
        f"/events/subscriptions?listId={list_id}&endDate=2000-01-01T00:00:00Z", "subscription-events"
    )

    assert event["creationDate"].endswith("Z")
    assert later == earlier == []


async def test_a_blacklist_entry_is_read_replaced_found_and_deleted(writable: Account) -> None:
    name = somebody()
    made = await writable.post("/blacklist-entries", {"pattern": name, "description": "for a test"})
    path = f"/blacklist-entries/{made.body['id']}"
    replaced = await writable.request("PUT", path, {"pattern": f"*{name}"})
    query = f"/blacklist-entries?patternContainsIgnoreCase={name[:20].upper()}"
    found = await writable.walk(f"{query}&lastModifiedSince=2000-01-01T00:00:00Z", "blacklist-entries")
    none = await writable.walk(f"{query}&lastModifiedSince=2099-01-01T00:00:00Z", "blacklist-entries")
    deleted = await writable.delete(path)

    assert (made.status, replaced.status, deleted.status) == (201, 200, 204)
    assert [(item["id"], item["pattern"]) for item in found] == [(made.body["id"], f"*{name}")]
    assert none == []
