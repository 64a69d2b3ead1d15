"""Recipients: creating, reading, changing, deleting, and the filters of the collection."""

from collections.abc import Callable

import pytest

from tests.contract.account import Account, encoded, somebody

Name = Callable[[str], str]


async def _created(account: Account, email: str, **attributes: object) -> int:
    made = await account.post("/recipients", {"email": email, "attributes": attributes})
    assert made.status == 201, made.text
    return int(made.body["id"])


async def test_a_new_recipient_is_on_no_list(writable: Account, list_id: int) -> None:
    email = somebody()
    id_ = await _created(writable, email)

    assert (await writable.get(f"/recipients/{id_}")).body["email"] == email
    assert email not in await writable.subscribed(list_id)


async def test_a_recipient_without_the_member_attributes_is_refused(writable: Account) -> None:
    reply = await writable.post("/recipients", {"email": somebody()})

    assert reply.status == 400
    assert "attributes" in {invalid["field"] for invalid in reply.body["invalidFields"]}


async def test_an_address_is_taken_only_once_upper_and_lower_case_alike(writable: Account) -> None:
    email = somebody()
    await _created(writable, email)
    again = await writable.post("/recipients", {"email": email.upper(), "attributes": {}})

    assert again.status == 409
    assert again.body["type"] == "duplicate-resource"


@pytest.mark.parametrize("email", ["nobody", "a@b", "a b@verteiler.example", "", "a@@verteiler.example"])
async def test_what_is_no_address_is_refused_with_the_field(writable: Account, email: str) -> None:
    reply = await writable.post("/recipients", {"email": email, "attributes": {}})

    assert reply.status == 400
    assert reply.body["type"] == "invalid-request-body"
    assert [invalid["field"] for invalid in reply.body["invalidFields"]] == ["email"]


async def test_attributes_are_given_only_when_asked_for(writable: Account, attribute: Name) -> None:
    email, name = somebody(), attribute("TEXT")
    await _created(writable, email, **{name: "Ann"})
    bare = await writable.recipient(email)
    chosen = await writable.recipient(email, f"&attributes={name}")

    assert bare and "attributes" not in bare
    assert chosen and chosen["attributes"] == {name: "Ann"}


async def test_a_bare_flag_gives_all_attributes(writable: Account, attribute: Name) -> None:
    id_ = await _created(writable, somebody(), **{attribute("TEXT"): "Ann"})
    values = (await writable.get(f"/recipients/{id_}?allAttributes")).body["attributes"]

    assert values[attribute("TEXT")] == "Ann"
    assert values[attribute("DATE_ONLY")] is None


async def test_several_addresses_can_be_looked_for_at_once(writable: Account) -> None:
    first, second = somebody(), somebody()
    ids = {await _created(writable, first), await _created(writable, second)}
    query = ",".join(encoded(email) for email in (first, second, somebody()))
    found = (await writable.get(f"/recipients?email={query}")).items("recipients")

    assert {item["id"] for item in found} == ids


async def test_an_address_with_a_plus_is_found_when_encoded(writable: Account) -> None:
    email = "plus+" + somebody()
    await _created(writable, email)

    assert (await writable.recipient(email) or {})["email"] == email


async def test_an_address_is_found_in_another_case_and_keeps_its_spelling(writable: Account) -> None:
    email = "Ann" + somebody()
    await _created(writable, email)

    assert (await writable.recipient(email.upper()) or {})["email"] == email


@pytest.mark.parametrize("tail", ["", "/"])
async def test_a_patch_by_address_changes_only_what_is_sent(writable: Account, attribute: Name, tail: str) -> None:
    email, text, number = somebody(), attribute("TEXT"), attribute("FLOATING_POINT_NUMBER")
    id_ = await _created(writable, email, **{text: "Ann", number: 1.5})
    reply = await writable.patch(f"/recipients/{encoded(email)}{tail}", {"attributes": {number: 2.5}})
    values = (await writable.get(f"/recipients/{id_}?allAttributes")).body["attributes"]

    assert reply.status == 200 and reply.body["id"] == id_
    assert (values[text], values[number]) == ("Ann", 2.5)


async def test_null_in_a_patch_clears(writable: Account, attribute: Name) -> None:
    id_ = await _created(writable, somebody(), **{attribute("TEXT"): "Ann"})
    await writable.patch(f"/recipients/{id_}", {"attributes": {attribute("TEXT"): None}})

    assert (await writable.get(f"/recipients/{id_}?allAttributes")).body["attributes"][attribute("TEXT")] is None


async def test_the_id_survives_a_new_address(writable: Account) -> None:
    old, new = somebody(), somebody()
    id_ = await _created(writable, old)
    reply = await writable.patch(f"/recipients/{id_}", {"email": new})

    assert reply.status == 200
    assert await writable.recipient(old) is None
    assert (await writable.recipient(new) or {})["id"] == id_


async def test_a_taken_address_is_409_in_a_patch(writable: Account) -> None:
    taken = somebody()
    await _created(writable, taken)
    id_ = await _created(writable, somebody())

    assert (await writable.patch(f"/recipients/{id_}", {"email": taken})).status == 409


async def test_an_unknown_attribute_in_a_patch_is_named_in_the_detail(writable: Account) -> None:
    id_ = await _created(writable, somebody())
    reply = await writable.patch(f"/recipients/{id_}", {"attributes": {"no_such_attribute": 1}})

    assert reply.status == 400
    assert "no_such_attribute" in reply.body["detail"]


async def test_a_patch_that_is_not_a_merge_patch_is_415(writable: Account) -> None:
    id_ = await _created(writable, somebody())
    reply = await writable.request("PATCH", f"/recipients/{id_}", {"attributes": {}}, content_type="application/json")

    assert reply.status == 415


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("FLOATING_POINT_NUMBER", "much", id="text for a number"),
        pytest.param("DATE_ONLY", "31.12.1999", id="a German date"),
        pytest.param("DATE_ONLY", "", id="an empty date"),
        pytest.param("TEXT", "x" * 256, id="a text too long"),
        pytest.param("TEXT", 7, id="a number for a text"),
    ],
)
async def test_a_value_that_does_not_fit_is_refused_and_never_shortened(
    writable: Account, attribute: Name, kind: str, value: object
) -> None:
    id_ = await _created(writable, somebody())
    reply = await writable.patch(f"/recipients/{id_}", {"attributes": {attribute(kind): value}})

    assert reply.status == 400
    assert (await writable.get(f"/recipients/{id_}?allAttributes")).body["attributes"][attribute(kind)] is None


async def test_the_same_address_comes_back_under_a_new_id_without_a_tombstone(writable: Account) -> None:
    email = somebody()
    first = await _created(writable, email)
    deleted = await writable.delete(f"/recipients/{first}")
    gone = await writable.get(f"/recipients/{first}")
    second = await _created(writable, email)

    assert (deleted.status, gone.status) == (204, 404)
    assert second > first


async def test_new_recipients_and_no_changed_ones_come_by_the_upcoming_link(writable: Account) -> None:
    old = await _created(writable, somebody())
    last = await writable.get("/recipients?pageSize=1000")
    while href := last.link("next"):
        last = await writable.get(href)
    await writable.patch(f"/recipients/{old}", {"email": somebody()})
    new = await _created(writable, somebody())
    upcoming = await writable.get(last.link("inx:upcoming") or "")

    assert [item["id"] for item in upcoming.items("recipients")] == [new]


async def test_a_recipient_can_be_found_by_the_value_of_an_attribute(writable: Account, attribute: Name) -> None:
    value = somebody()[:20]
    id_ = await _created(writable, somebody(), **{attribute("TEXT"): value})
    found = (await writable.get(f"/recipients?attributes.{attribute('TEXT')}={value}")).items("recipients")

    assert [item["id"] for item in found] == [id_]


async def test_the_filter_by_attribute_follows_changes_and_deletions(writable: Account, attribute: Name) -> None:
    name, value = attribute("TEXT"), somebody()[:20]
    query = f"/recipients?attributes.{name}={value}"
    first, second = [await _created(writable, somebody(), **{name: value}) for _ in range(2)]
    both = [item["id"] for item in await writable.walk(query, "recipients")]
    await writable.patch(f"/recipients/{first}", {"attributes": {name: "else"}})
    one = [item["id"] for item in await writable.walk(query, "recipients")]
    await writable.delete(f"/recipients/{second}")
    none = await writable.walk(query, "recipients")

    assert (both, one, none) == ([first, second], [second], [])


async def test_recipients_of_any_of_several_lists_are_found_once(writable: Account, list_id: int) -> None:
    body = {"name": f"contract {somebody()}", "type": "STANDARD", "senderAddress": "sender@verteiler.example"}
    other = (await writable.post("/lists", body)).body["id"]
    both, one, left = somebody(), somebody(), somebody()
    for email, joined in ((both, list_id), (both, other), (one, other), (left, other)):
        await writable.post("/events/subscriptions", {"listId": joined, "email": email, "attributes": {}})
    await writable.post("/events/unsubscriptions", {"listId": other, "email": left})
    subscribed = await writable.walk(f"/recipients?subscribedToAny={list_id},{other}", "recipients")
    unsubscribed = await writable.walk(f"/recipients?unsubscribedFromAny={list_id},{other}", "recipients")
    await writable.delete(f"/lists/{other}")

    assert sorted(item["email"] for item in subscribed) == sorted([both, one])
    assert [item["email"] for item in unsubscribed] == [left]


async def test_changed_recipients_are_found_by_their_last_modification(writable: Account, attribute: Name) -> None:
    email, name = somebody(), attribute("TEXT")
    id_ = await _created(writable, email)
    await writable.patch(f"/recipients/{id_}", {"attributes": {name: "new"}})
    found = await writable.walk(
        f"/recipients?email={encoded(email)}&lastModifiedSince=2000-01-01T00:00:00Z", "recipients"
    )
    none = await writable.walk(
        f"/recipients?email={encoded(email)}&lastModifiedSince=2099-01-01T00:00:00Z", "recipients"
    )

    assert ([item["id"] for item in found], none) == ([id_], [])


async def test_a_deleted_recipient_is_404_and_missing_from_the_collection(writable: Account) -> None:
    email = somebody()
    id_ = await _created(writable, email)
    deleted = await writable.delete(f"/recipients/{id_}")

    assert deleted.status == 204
    assert (await writable.get(f"/recipients/{id_}")).status == 404
    assert await writable.recipient(email) is None


async def test_a_page_gives_the_attributes_that_were_chosen_and_no_other(writable: Account, attribute: Name) -> None:
    email, name, other = somebody(), attribute("TEXT"), attribute("DATE_ONLY")
    await _created(writable, email, **{name: "Ann"})
    found = await writable.recipient(email, f"&attributes={name},{other}")

    assert found and found["attributes"] == {name: "Ann", other: None}
