"""Bulk imports: what is answered at once, what becomes of the rows, what is told about those that failed."""

from collections.abc import Callable

import pytest

from tests.contract.account import Account, encoded, eventually, somebody

Name = Callable[[str], str]


def _csv(*rows: tuple[str, ...]) -> str:
    return "".join(";".join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)


async def _left(account: Account, list_id: int) -> str:
    """Somebody who was on the list and has unsubscribed."""
    email = somebody()
    await account.post("/events/subscriptions", {"listId": list_id, "email": email, "attributes": {}})
    reply = await account.post("/events/unsubscriptions", {"listId": list_id, "email": email})
    assert reply.status == 200
    return email


async def test_an_import_answers_201_with_state_new_and_zero_counts(writable: Account, list_id: int) -> None:
    reply = await writable.upload(_csv(("email",), (somebody(),)), f"?listId={list_id}")
    body = reply.body
    await writable.ended(body["id"])

    assert reply.status == 201
    assert (body["state"], body["successCount"], body["failCount"]) == ("NEW", 0, 0)
    assert body["_links"]["self"]["href"].endswith(f"/imports/recipients/{body['id']}")
    assert body["_links"]["inx:files"]["href"].endswith(f"/imports/recipients/{body['id']}/files")


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
async def test_an_import_creates_and_subscribes(writable: Account, list_id: int, compressed: bool) -> None:
    people = [somebody() for _ in range(5)]
    ended = await writable.imported(
        _csv(("email",), *((email,) for email in people)), f"?listId={list_id}", compressed=compressed
    )

    assert (ended["state"], ended["successCount"], ended["failCount"]) == ("SUCCESS", 5, 0)
    assert await writable.subscribed(list_id) == set(people)


async def test_without_a_list_an_import_subscribes_nobody(writable: Account, list_id: int, attribute: Name) -> None:
    email, name = somebody(), attribute("TEXT")
    await writable.imported(_csv(("email", name), (email, "Ann")))

    assert (await writable.recipient(email, f"&attributes={name}") or {})["attributes"] == {name: "Ann"}
    assert await writable.subscribed(list_id) == set()


async def test_the_columns_may_come_in_any_order_and_quotes_are_doubled(writable: Account, attribute: Name) -> None:
    email, name = somebody(), attribute("TEXT")
    await writable.imported(f'"{name}";"email"\n"Ann ""die""; Gute";"{email}"\n')

    assert (await writable.recipient(email, f"&attributes={name}") or {})["attributes"] == {name: 'Ann "die"; Gute'}


async def test_an_unknown_column_is_a_warning_and_the_row_succeeds(writable: Account, list_id: int) -> None:
    ended = await writable.imported(_csv(("email", "NoSuchColumn"), (somebody(), "x")), f"?listId={list_id}")

    assert (ended["state"], ended["successCount"], ended["failCount"]) == ("SUCCESS", 1, 0)
    assert ended["errors"] == [("COLUMN_NOT_FOUND_WARN", "NoSuchColumn")]


async def test_who_left_stays_unsubscribed_and_the_row_fails(writable: Account, list_id: int, attribute: Name) -> None:
    email, name = await _left(writable, list_id), attribute("TEXT")
    ended = await writable.imported(_csv(("email", name), (email, "Ann")), f"?listId={list_id}")

    assert (ended["state"], ended["successCount"], ended["failCount"]) == ("SUCCESS", 0, 1)
    assert ended["errors"] == [("UNSUBSCRIPTION_ERROR", email)]
    assert await writable.subscribed(list_id) == set()
    assert (await writable.recipient(email, f"&attributes={name}") or {})["attributes"] == {name: None}


async def test_resubscribe_brings_back_who_left_with_the_permission_denied(writable: Account, list_id: int) -> None:
    email = await _left(writable, list_id)
    ended = await writable.imported(_csv(("email",), (email,)), f"?listId={list_id}&resubscribe=true")
    found = await writable.recipient(email, f"&trackingPermissionsForLists={list_id}")

    assert ended["successCount"] == 1
    assert email in await writable.subscribed(list_id)
    assert found and found["trackingPermissions"] == [{"listId": list_id, "trackingPermission": "DENIED"}]


async def test_the_permission_column_grants(writable: Account, list_id: int) -> None:
    email = somebody()
    await writable.imported(_csv(("email", "trackingPermission"), (email, "GRANTED")), f"?listId={list_id}")
    found = await writable.recipient(email, f"&trackingPermissionsForLists={list_id}")

    assert found and found["trackingPermissions"] == [{"listId": list_id, "trackingPermission": "GRANTED"}]


async def test_truncate_takes_subscribers_off_and_leaves_who_left(writable: Account, list_id: int) -> None:
    left, stays, comes = await _left(writable, list_id), somebody(), somebody()
    await writable.imported(_csv(("email",), (stays,)), f"?listId={list_id}")
    await writable.imported(_csv(("email",), (comes,)), f"?listId={list_id}&truncate=true")
    unsubscribed = await writable.walk(f"/recipients?unsubscribedFromAny={list_id}", "recipients")

    assert await writable.subscribed(list_id) == {comes}
    assert [item["email"] for item in unsubscribed] == [left]
    assert await writable.recipient(stays) is not None


async def test_imports_write_no_subscription_events(writable: Account, list_id: int) -> None:
    await writable.imported(_csv(("email",), (somebody(),)), f"?listId={list_id}")
    marker = somebody()
    await writable.post("/events/subscriptions", {"listId": list_id, "email": marker, "attributes": {}})

    async def look() -> list[dict[str, object]] | None:
        return await writable.walk(f"/events/subscriptions?listId={list_id}", "subscription-events") or None

    events = await eventually(look, why="the event did not become readable")

    assert [event["email"] for event in events] == [marker]


async def test_a_bad_row_fails_alone_and_the_import_still_succeeds(
    writable: Account, list_id: int, attribute: Name
) -> None:
    good, bad = somebody(), somebody()
    header = ("email", attribute("FLOATING_POINT_NUMBER"))
    rows = _csv(header, (good, "1.5"), (bad, "much"), ("nobody", "")) + '"only one cell"\r\n'
    ended = await writable.imported(rows, f"?listId={list_id}")

    assert (ended["state"], ended["successCount"], ended["failCount"]) == ("SUCCESS", 1, 3)
    assert [error for error, _ in ended["errors"]] == ["ATTRIBUTE_PARSE_ERROR", "EMAIL_PARSE_ERROR", "LINE_PARSE_ERROR"]
    assert await writable.subscribed(list_id) == {good}


async def test_a_file_without_the_column_email_fails_as_a_whole(writable: Account, list_id: int) -> None:
    ended = await writable.imported(_csv(("mail",), (somebody(),)), f"?listId={list_id}")

    assert ended["state"] == "FAILED"
    assert [error for error, _ in ended["errors"]] == ["HEADER_ERROR"]


async def test_an_empty_cell_clears_by_default_and_leaves_in_mode_update(writable: Account, attribute: Name) -> None:
    name = attribute("TEXT")
    ids = {}
    for query in ("", "?importConflictMode=UPDATE", "?importConflictMode=KEEP_EXISTING"):
        email = ids[query] = somebody()
        await writable.post("/recipients", {"email": email, "attributes": {name: "Ann"}})
        await writable.imported(_csv(("email", name), (email, "")), query)
    values = [
        (await writable.recipient(email, f"&attributes={name}") or {})["attributes"][name] for email in ids.values()
    ]

    assert values == [None, "Ann", "Ann"]


async def test_the_same_address_twice_counts_twice_and_the_last_row_wins(writable: Account, attribute: Name) -> None:
    email, name = somebody(), attribute("TEXT")
    ended = await writable.imported(_csv(("email", name), (email, "first"), (email.upper(), "last")))

    assert ended["successCount"] == 2
    assert (await writable.recipient(email, f"&attributes={name}") or {})["attributes"] == {name: "last"}


async def test_the_file_of_an_import_has_a_state_of_its_own(writable: Account, list_id: int) -> None:
    ended = await writable.imported(_csv(("email",), (somebody(),)), f"?listId={list_id}")
    (file,) = await writable.walk(f"/imports/recipients/{ended['id']}/files", "files")

    assert file["state"] == "SUCCESSFUL"


async def test_an_import_that_was_started_is_among_the_executions(writable: Account, list_id: int) -> None:
    ended = await writable.imported(_csv(("email",), (somebody(),)), f"?listId={list_id}")

    assert ended["id"] in {item["id"] for item in await writable.walk("/imports/recipients", "recipient-imports")}


async def test_an_import_without_a_file_is_400(writable: Account, list_id: int) -> None:
    reply = await writable.request(
        "POST",
        f"/imports/recipients?listId={list_id}",
        data=b'--P\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--P--\r\n',
        content_type="multipart/form-data; boundary=P",
    )

    assert (reply.status, reply.body["type"]) == (400, "missing-request-part")


async def test_an_import_that_is_not_multipart_is_415(writable: Account) -> None:
    reply = await writable.request("POST", "/imports/recipients", data=b"email\n", content_type="text/csv")

    assert reply.status == 415


async def test_who_is_imported_is_found_by_list_and_address_together(writable: Account, list_id: int) -> None:
    here, elsewhere = somebody(), somebody()
    await writable.imported(_csv(("email",), (here,)), f"?listId={list_id}")
    await writable.post("/recipients", {"email": elsewhere, "attributes": {}})
    query = f"/recipients?subscribedTo={list_id}&email={encoded(here)},{encoded(elsewhere)}"

    assert [item["email"] for item in (await writable.get(query)).items("recipients")] == [here]


async def test_an_import_is_taken_as_the_vendors_own_connector_sends_it(
    writable: Account, list_id: int, attribute: Name
) -> None:
    """A double slash, both flags spelled out, a header meant for a part, capitals before the address, empty cells."""
    email, name, other = somebody(), attribute("TEXT"), attribute("DATE_ONLY")
    csv = f'"{other}";"{name}";"email";"trackingPermission"\n"";"Ann";"{email}";"GRANTED"\n'
    head = '------X\r\nContent-Disposition: form-data; name="file"; filename="datafile.csv"\r\nContent-Type: text/csv'
    reply = await writable.request(
        "POST",
        f"//imports/recipients/?listId={list_id}&resubscribe=false&truncate=false",
        data=f"{head}\r\n\r\n{csv}\r\n------X--".encode(),
        content_type="multipart/form-data; boundary=----X",
        headers={"Content-Disposition": 'form-data; name="file"; filename="datafile.csv"'},
    )
    ended = await writable.ended(reply.body["id"])
    found = await writable.recipient(email, f"&attributes={name},{other}&trackingPermissionsForLists={list_id}")

    assert (reply.status, ended["state"], ended["failCount"], ended["errors"]) == (201, "SUCCESS", 0, [])
    assert found and found["attributes"] == {name: "Ann", other: None}
    assert found["trackingPermissions"] == [{"listId": list_id, "trackingPermission": "GRANTED"}]


async def test_an_import_only_ever_moves_forward(writable: Account, list_id: int) -> None:
    order = ["NEW", "PROCESSING", "SUCCESS"]
    started = await writable.upload(_csv(("email",), *((somebody(),) for _ in range(200))), f"?listId={list_id}")
    states = [started.body["state"]]

    async def look() -> bool | None:
        states.append((await writable.get(f"/imports/recipients/{started.body['id']}")).body["state"])
        return states[-1] == "SUCCESS" or None

    await eventually(look, why="the import did not end")

    assert states == sorted(states, key=order.index)


async def test_who_was_removed_is_imported_again_and_who_left_is_not(writable: Account, list_id: int) -> None:
    removed, left = somebody(), await _left(writable, list_id)
    await writable.imported(_csv(("email",), (removed,)), f"?listId={list_id}")
    await writable.imported(_csv(("email",), (somebody(),)), f"?listId={list_id}&truncate=true")
    ended = await writable.imported(_csv(("email",), (removed,), (left,)), f"?listId={list_id}")

    assert ended["errors"] == [("UNSUBSCRIPTION_ERROR", left)]
    assert removed in await writable.subscribed(list_id)
