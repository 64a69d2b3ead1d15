"""Lists and attributes."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.account import Account

_TYPES = {"TEXT", "DATE_AND_TIME", "DATE_ONLY", "TIME_ONLY", "INTEGER", "FLOATING_POINT_NUMBER", "BOOLEAN"}
_LIST_TYPES = {"STANDARD", "DYNAMIC", "ADMIN", "SYSTEM"}


def _list(**changes: Any) -> dict[str, Any]:
    return {
        "name": f"contract {uuid4().hex}",
        "type": "STANDARD",
        "senderAddress": "sender@verteiler.example",
    } | changes


async def test_attributes_have_id_name_and_type_and_only_text_has_a_length(api: Account) -> None:
    attributes = await api.walk("/attributes", "attributes")

    assert attributes
    for item in attributes:
        assert isinstance(item["id"], int) and item["type"] in _TYPES and item["_links"]["self"]["href"]
        assert item["type"] == "TEXT" or item.get("maxLength") is None
        assert item["type"] != "TEXT" or 1 <= item["maxLength"] <= 255


async def test_the_address_is_not_among_the_attributes(api: Account) -> None:
    assert "email" not in {item["name"].lower() for item in await api.walk("/attributes", "attributes")}


async def test_one_attribute_reads_as_in_the_collection(api: Account) -> None:
    first = (await api.get("/attributes?pageSize=1")).items("attributes")[0]

    assert (await api.get(f"/attributes/{first['id']}")).body == first


async def test_lists_have_a_type_a_date_and_a_sender(api: Account) -> None:
    lists = await api.walk("/lists", "lists")

    assert lists
    assert all(item["type"] in _LIST_TYPES and item["creationDate"] and item["name"] for item in lists)
    assert all("senderAddress" in item for item in lists if item["type"] == "STANDARD")


async def test_the_size_of_a_list_comes_with_the_time_it_was_counted(api: Account) -> None:
    known = (await api.get("/lists?pageSize=1")).items("lists")[0]["id"]
    body = (await api.get(f"/lists/{known}/count")).body

    assert body["id"] == known
    assert isinstance(body["count"], int)
    assert body["lastCalculatedAt"].endswith("Z")


async def test_a_list_is_created_with_201_read_replaced_and_deleted_with_204(writable: Account) -> None:
    made = await writable.post("/lists", _list(description="for a test"))
    path = f"/lists/{made.body['id']}"
    replaced = await writable.request(
        "PUT",
        path,
        {"name": f"renamed {uuid4().hex}", "senderAddress": "other@verteiler.example", "senderName": "Other"},
        content_type="application/hal+json;charset=UTF-8",
    )
    deleted = await writable.delete(path)
    gone = await writable.get(path)

    assert (made.status, replaced.status, deleted.status, gone.status) == (201, 200, 204, 404)
    assert made.body["type"] == "STANDARD" and made.body["description"] == "for a test"
    assert replaced.body["senderName"] == "Other" and replaced.body["id"] == made.body["id"]


async def test_the_name_of_a_list_is_unique_upper_and_lower_case_alike(writable: Account, list_id: int) -> None:
    name = (await writable.get(f"/lists/{list_id}")).body["name"]
    reply = await writable.post("/lists", _list(name=name.upper()))

    assert reply.status == 409
    assert reply.body["type"] == "duplicate-resource"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"name": None}, "name", id="no name"),
        pytest.param({"name": " padded "}, "name", id="blanks around the name"),
        pytest.param({"name": "x" * 256}, "name", id="a name too long"),
        pytest.param({"senderAddress": "nobody"}, "senderAddress", id="a sender that is no address"),
        pytest.param({"type": "SYSTEM"}, "type", id="a type that cannot be created"),
    ],
)
async def test_a_list_that_is_not_valid_is_400_and_names_the_field(
    writable: Account, changes: dict[str, Any], field: str
) -> None:
    reply = await writable.post("/lists", _list(**changes))

    assert reply.status == 400
    assert reply.body["type"] == "invalid-request-body"
    assert field in {invalid["field"] for invalid in reply.body["invalidFields"]}


async def test_a_setting_takes_true_as_a_text(writable: Account, list_id: int) -> None:
    path = f"/lists/{list_id}/settings/TrackingPermissionDetachedFromMembership"

    assert (await writable.request("PUT", path, {"value": "true"})).status in (200, 204)


async def test_an_attribute_is_created_and_its_name_is_unique(writable: Account) -> None:
    body = {"name": f"contract{uuid4().hex[:12]}", "type": "TEXT", "maxLength": 30}
    made, again = await writable.post("/attributes", body), await writable.post("/attributes", body)

    assert made.status == 201
    assert made.body["maxLength"] == 30
    assert again.status == 409 and again.body["type"] == "duplicate-resource"


async def test_a_body_that_is_no_json_is_400(writable: Account) -> None:
    reply = await writable.request("POST", "/lists", data=b"{", content_type="application/json")

    assert reply.status == 400
    assert reply.body["type"] == "invalid-request-body"


async def test_the_types_this_suite_needs_exist(attribute: Callable[[str], str]) -> None:
    assert attribute("TEXT") and attribute("DATE_ONLY") and attribute("FLOATING_POINT_NUMBER")


async def test_lists_are_found_by_the_time_of_their_creation(writable: Account, list_id: int) -> None:
    later = await writable.walk("/lists?createdAfter=2099-01-01T00:00:00Z", "lists")
    since = await writable.walk("/lists?createdAfter=2000-01-01T00:00:00Z&pageSize=100", "lists")
    before = await writable.walk("/lists?createdBefore=2000-01-01T00:00:00Z", "lists")

    assert later == before == []
    assert list_id in {item["id"] for item in since}


async def test_a_list_keeps_all_its_optional_fields(writable: Account) -> None:
    optional = {
        "senderName": "Sender",
        "replyToAddress": "reply@verteiler.example",
        "replyToName": "Reply",
        "description": "for a test",
    }
    made = await writable.post("/lists", _list(**optional))
    read = await writable.get(f"/lists/{made.body['id']}")
    again = await writable.request("PUT", f"/lists/{made.body['id']}", _list(type="STANDARD"))
    await writable.delete(f"/lists/{made.body['id']}")

    assert {name: read.body[name] for name in optional} == optional
    assert again.status == 200  # the type may be sent along


async def test_new_lists_come_by_the_upcoming_link(writable: Account) -> None:
    page = await writable.get("/lists?pageSize=100")
    while href := page.link("next"):
        page = await writable.get(href)
    made = await writable.post("/lists", _list())
    new = await writable.walk(page.link("inx:upcoming") or "", "lists")
    await writable.delete(f"/lists/{made.body['id']}")

    assert [item["id"] for item in new] == [made.body["id"]]


async def test_an_attribute_needs_no_more_than_name_and_type(writable: Account) -> None:
    made = await writable.post("/attributes", {"name": f"contract{uuid4().hex[:12]}", "type": "INTEGER"})

    assert made.status == 201
    assert made.body["type"] == "INTEGER"
    assert {"creationDate", "modificationDate"} <= set(made.body)


async def test_if_modified_since_is_honoured_on_attributes(api: Account) -> None:
    old = await api.request("GET", "/attributes", headers={"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"})
    new = await api.request("GET", "/attributes", headers={"If-Modified-Since": "Thu, 01 Jan 2099 00:00:00 GMT"})

    assert old.status == 200 and old.items("attributes")
    assert new.status == 304 or new.items("attributes") == []
