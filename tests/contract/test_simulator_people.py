"""The double processes, and what people and tests do at the simulator itself."""

import pytest

from tests.contract.account import Account, encoded, somebody
from tests.contract.conftest import Simulated

_LISTS = [{"name": "single"}, {"name": "double", "optIn": "DOUBLE", "optOut": "DOUBLE"}]
_SINGLE, _DOUBLE = 7, 8


async def _types(account: Account, log: str) -> list[str]:
    await account.control.advance(1)
    return [event["type"] for event in await account.walk(f"/events/{log}s", f"{log}-events")]


async def _subscribe(account: Account, list_id: int, email: str, **more: object) -> str:
    reply = await account.post("/events/subscriptions", {"listId": list_id, "email": email, "attributes": {}, **more})
    return str(reply.body["result"])


async def test_a_double_opt_in_takes_effect_only_when_confirmed(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        more = {"attributes": {"Vorname": "Ann"}, "trackingPermission": "GRANTED"}
        result = await _subscribe(account, _DOUBLE, email, **more)
        pending = await account.recipient(email)
        confirmed = await account.control.person("confirm-opt-in", _DOUBLE, email)
        found = await account.recipient(email, f"&attributes=Vorname&trackingPermissionsForLists={_DOUBLE}")
        types = await _types(account, "subscription")

    assert (result, pending, confirmed) == ("PENDING_SUBSCRIPTION", None, True)
    assert found and found["attributes"] == {"Vorname": "Ann"}
    assert found["trackingPermissions"] == [{"listId": _DOUBLE, "trackingPermission": "GRANTED"}]
    assert types == ["PENDING_SUBSCRIPTION", "PENDING_SUBSCRIPTION_DONE"]


async def test_a_second_request_while_pending_starts_the_confirmation_again(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        results = [await _subscribe(account, _DOUBLE, email) for _ in range(2)]

    assert results == ["PENDING_SUBSCRIPTION"] * 2


async def test_an_unconfirmed_subscription_times_out_by_the_clock(simulator: Simulated) -> None:
    async with simulator({"opt_in_timeout_hours": 24}, lists=_LISTS) as account:
        email = somebody()
        await _subscribe(account, _DOUBLE, email)
        await account.control.advance(25 * 3600)
        types = await _types(account, "subscription")
        confirmed = await account.control.person("confirm-opt-in", _DOUBLE, email)

    assert types == ["PENDING_SUBSCRIPTION", "SUBSCRIPTION_TIMED_OUT"]
    assert confirmed is False


@pytest.mark.parametrize(
    ("action", "type_"),
    [
        ("time-out-opt-in", "SUBSCRIPTION_TIMED_OUT"),
        ("bounce-opt-in", "SUBSCRIPTION_VERIFICATION_BOUNCED"),
    ],
)
async def test_a_pending_subscription_can_come_to_nothing(simulator: Simulated, action: str, type_: str) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        await _subscribe(account, _DOUBLE, email)
        await account.control.person(action, _DOUBLE, email)
        types = await _types(account, "subscription")
        subscribed = await account.subscribed(_DOUBLE)

    assert types[-1] == type_
    assert subscribed == set()


async def test_leaving_while_pending_takes_the_request_back(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        await _subscribe(account, _DOUBLE, email)
        left = await account.post("/events/unsubscriptions", {"listId": _DOUBLE, "email": email})
        confirmed = await account.control.person("confirm-opt-in", _DOUBLE, email)

    assert left.status == 200
    assert confirmed is False


async def test_an_import_settles_a_pending_subscription(simulator: Simulated) -> None:
    async with simulator({"import_rows_per_second": None, "import_start_ms": 0}, lists=_LISTS) as account:
        email = somebody()
        await _subscribe(account, _DOUBLE, email)
        await account.imported(f'"email"\n"{email}"\n', f"?listId={_DOUBLE}")
        state = await account.control("GET", "/state")
        subscribed = await account.subscribed(_DOUBLE)

    assert subscribed == {email}
    assert [known["pending_subscriptions"] for known in state["lists"] if known["id"] == _DOUBLE] == [0]


async def test_with_double_opt_out_a_person_stays_until_confirmed(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        await account.control(
            "POST", "/recipients", {"email": email, "memberships": [{"list_id": _DOUBLE, "state": "SUBSCRIBED"}]}
        )
        asked = await account.post("/events/unsubscriptions", {"listId": _DOUBLE, "email": email})
        still = await account.subscribed(_DOUBLE)
        await account.control.person("confirm-opt-out", _DOUBLE, email)
        gone = await account.subscribed(_DOUBLE)
        types = await _types(account, "unsubscription")

    assert asked.body == {"result": "PENDING_UNSUBSCRIPTION"}
    assert (still, gone) == ({email}, set())
    assert types == ["PENDING_UNSUBSCRIPTION", "PENDING_UNSUBSCRIPTION_DONE"]


async def test_an_unconfirmed_unsubscription_lapses_and_the_person_stays(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        await account.control(
            "POST", "/recipients", {"email": email, "memberships": [{"list_id": _DOUBLE, "state": "SUBSCRIBED"}]}
        )
        await account.control.person("request-unsubscription", _DOUBLE, email)
        await account.control.person("time-out-opt-out", _DOUBLE, email)
        types = await _types(account, "unsubscription")
        subscribed = await account.subscribed(_DOUBLE)

    assert types[-1] == "UNSUBSCRIPTION_TIMED_OUT"
    assert subscribed == {email}


@pytest.mark.parametrize(
    ("action", "type_"),
    [
        ("unsubscribe-by-link", "VERIFIED_UNSUBSCRIPTION"),
        ("unsubscribe-by-header", "LIST_UNSUBSCRIBE_HEADER_UNSUBSCRIPTION"),
        ("unsubscribe-by-user", "MANUAL_UNSUBSCRIPTION"),
    ],
)
async def test_a_person_leaves_in_several_ways(simulator: Simulated, action: str, type_: str) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        await _subscribe(account, _SINGLE, email, trackingPermission="GRANTED")
        await account.control.person(action, _SINGLE, email, occurred_at="2020-02-02T02:02:02Z")
        await account.control.advance(1)
        (event,) = await account.walk("/events/unsubscriptions", "unsubscription-events")
        permissions = await account.walk("/events/tracking-permissions", "tracking-permission-events")
        subscribed = await account.subscribed(_SINGLE)

    assert (event["type"], event["creationDate"], event["email"]) == (type_, "2020-02-02T02:02:02Z", email)
    assert [item["trackingPermission"] for item in permissions] == ["GRANTED", "DENIED"]
    assert subscribed == set()


async def test_a_raw_event_of_an_unknown_type_changes_nothing_but_the_log(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        await _subscribe(account, _SINGLE, email)
        body = {"list_id": _SINGLE, "type": "NEVER_HEARD_OF", "email": email, "delay_ms": 0}
        await account.control("POST", "/events/unsubscriptions", body)
        (event,) = await account.walk("/events/unsubscriptions", "unsubscription-events")
        subscribed = await account.subscribed(_SINGLE)

    assert (event["type"], event["email"]) == ("NEVER_HEARD_OF", email)
    assert subscribed == {email}


async def test_a_recipient_is_changed_and_deleted_behind_the_back_without_an_event(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        email = somebody()
        on = {"list_id": _SINGLE, "state": "SUBSCRIBED", "tracking_permission": "GRANTED"}
        await account.control(
            "POST", "/recipients", {"email": email, "attributes": {"Ort": "Ulm"}, "memberships": [on]}
        )
        path = f"/recipients/{encoded(email)}"
        off = {"attributes": {"Ort": "Bonn"}, "memberships": [{"list_id": _SINGLE, "state": "UNSUBSCRIBED"}]}
        changed = await account.control("PATCH", path, off)
        await account.control("DELETE", path)
        gone = await account.control("GET", path, expect=404)
        state = await account.control("GET", "/state")

    assert changed["attributes"]["Ort"] == "Bonn"
    assert [(m["list_id"], m["state"], m["tracking_permission"]) for m in changed["memberships"]] == [
        (_SINGLE, "UNSUBSCRIBED", "DENIED")
    ]
    assert "error" in gone
    assert all(log["visible"] == log["buffered"] == 0 for log in state["events"].values())


async def test_the_last_list_left_deletes_when_the_list_says_so(simulator: Simulated) -> None:
    async with simulator(lists=[{"name": "leaving", "deleteWhenLeft": True}]) as account:
        email = somebody()
        await _subscribe(account, _SINGLE, email)
        await account.post("/events/unsubscriptions", {"listId": _SINGLE, "email": email})

        assert await account.recipient(email) is None


@pytest.mark.parametrize(
    ("list_id", "kind"), [(1, "subscription-error"), (7, "subscription-error"), (99, "about:blank")]
)
async def test_dynamic_and_system_lists_take_no_subscriptions(simulator: Simulated, list_id: int, kind: str) -> None:
    async with simulator(lists=[{"name": "dynamic", "type": "DYNAMIC"}]) as account:
        body = {"listId": list_id, "email": somebody(), "attributes": {}}
        reply = await account.post("/events/subscriptions", body)

    assert reply.status == (404 if list_id == 99 else 400)
    assert reply.body["type"] == kind


async def test_a_non_member_can_be_answered_with_a_result_instead(simulator: Simulated) -> None:
    async with simulator({"unsubscribe_non_member": "answer"}, lists=_LISTS) as account:
        email = somebody()
        await account.post("/recipients", {"email": email, "attributes": {}})
        replies = [
            await account.post("/events/unsubscriptions", {"listId": _SINGLE, "email": who})
            for who in (email, somebody())
        ]

    assert [reply.body["result"] for reply in replies] == ["NOT_IN_LIST_UNSUBSCRIPTION", "NOT_IN_SYSTEM_UNSUBSCRIPTION"]


async def test_a_detached_list_keeps_a_permission_of_a_non_member(simulator: Simulated) -> None:
    async with simulator(lists=_LISTS) as account:
        setting = f"/lists/{_SINGLE}/settings/TrackingPermissionDetachedFromMembership"
        await account.request("PUT", setting, {"value": "true"})
        none = {"list_id": _SINGLE, "state": "NONE", "tracking_permission": "GRANTED"}
        await account.control("POST", "/recipients", {"email": somebody(), "memberships": [none]})
        current = await account.walk(f"/tracking-permissions?listIds={_SINGLE}", "tracking-permissions")
        subscribed = await account.subscribed(_SINGLE)

    assert [item["trackingPermission"] for item in current] == ["GRANTED"]
    assert subscribed == set()


@pytest.mark.parametrize(("applies", "city"), [(True, "Bonn"), (False, "Ulm")])
async def test_a_duplicate_subscription_may_bring_attributes(simulator: Simulated, applies: bool, city: str) -> None:
    async with simulator({"duplicate_subscription_applies_attributes": applies}, lists=_LISTS) as account:
        email = somebody()
        await account.post("/recipients", {"email": email, "attributes": {"Ort": "Aachen"}})
        await _subscribe(account, _SINGLE, email, attributes={"Ort": "Ulm"})
        first = await account.recipient(email, "&attributes=Ort")
        await _subscribe(account, _SINGLE, email, attributes={"Ort": "Bonn"})
        second = await account.recipient(email, "&attributes=Ort")

    assert first and first["attributes"]["Ort"] == "Ulm"
    assert second and second["attributes"]["Ort"] == city


async def test_a_pattern_deletes_and_blocks_upper_and_lower_case_alike(simulator: Simulated) -> None:
    async with simulator({"import_rows_per_second": None, "import_start_ms": 0}) as account:
        people = ["Ann@Blocked.example", "ben@blocked.example", "eve@free.example"]
        await account.control("POST", "/recipients", [{"email": email} for email in people])
        entry = await account.post("/blacklist-entries", {"pattern": "*@BLOCKED.example"})
        left = [item["email"] for item in await account.walk("/recipients", "recipients")]
        csv = '"email"\n' + "".join(f'"{email.upper()}"\n' for email in people)
        blocked = await account.imported(csv)
        path = f"/blacklist-entries/{entry.body['id']}"
        narrowed = await account.request("PUT", path, {"pattern": "ann@blocked.example"})
        narrow = await account.imported(csv)
        found = await account.walk("/blacklist-entries?patternContainsIgnoreCase=ANN", "blacklist-entries")

    assert left == ["eve@free.example"]
    assert [error for error, _ in blocked["errors"]] == ["BLACKLIST_ERROR"] * 2
    assert narrowed.status == 200
    assert narrow["errors"] == [("BLACKLIST_ERROR", "ANN@BLOCKED.EXAMPLE")]
    assert [item["pattern"] for item in found] == ["ann@blocked.example"]
