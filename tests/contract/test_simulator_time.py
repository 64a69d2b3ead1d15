"""What the simulator shows while time passes; the clock stands still until a test advances it."""

from tests.contract.account import Account, somebody
from tests.contract.conftest import Simulated

_LIST = 7


def _rows(count: int) -> str:
    return '"email"\n' + "".join(f'"{index:05}@verteiler.example"\n' for index in range(count))


async def _state(account: Account, import_id: int) -> tuple[str, int, int]:
    body = (await account.get(f"/imports/recipients/{import_id}")).body
    return body["state"], body["successCount"], len(await account.subscribed(_LIST))


async def test_an_import_advances_by_the_clock_and_its_rows_become_visible_one_by_one(simulator: Simulated) -> None:
    async with simulator({"import_rows_per_second": 100, "import_start_ms": 1000}) as account:
        id_ = (await account.upload(_rows(250), f"?listId={_LIST}")).body["id"]
        seen = [await _state(account, id_)]
        for seconds in (0.5, 0.5, 1, 1, 1):
            await account.control.advance(seconds)
            seen.append(await _state(account, id_))

    assert seen == [
        ("NEW", 0, 0),
        ("NEW", 0, 0),
        ("PROCESSING", 0, 0),
        ("PROCESSING", 100, 100),
        ("PROCESSING", 200, 200),
        ("SUCCESS", 250, 250),
    ]


async def test_the_rate_of_imports_can_be_changed_while_one_runs(simulator: Simulated) -> None:
    async with simulator({"import_rows_per_second": 10, "import_start_ms": 0}) as account:
        id_ = (await account.upload(_rows(250), f"?listId={_LIST}")).body["id"]
        await account.control.advance(1)
        slow = await _state(account, id_)
        await account.control.options(import_rows_per_second=200)
        await account.control.advance(1)
        fast = await _state(account, id_)

    assert slow == ("PROCESSING", 10, 10)
    assert fast == ("PROCESSING", 210, 210)


async def test_an_import_at_rate_zero_moves_only_by_hand(simulator: Simulated) -> None:
    async with simulator({"import_rows_per_second": 0, "import_start_ms": 0}) as account:
        id_ = (await account.upload(_rows(3), f"?listId={_LIST}")).body["id"]
        await account.control.advance(3600)
        waiting = await _state(account, id_)
        await account.control("POST", f"/imports/{id_}/step", {"rows": 2})
        halfway = await _state(account, id_)
        await account.control("POST", f"/imports/{id_}/step", {"finish": True})
        done = await _state(account, id_)

    assert [waiting, halfway, done] == [("PROCESSING", 0, 0), ("PROCESSING", 2, 2), ("SUCCESS", 3, 3)]


async def test_an_event_is_readable_only_after_the_write_buffer_and_keeps_its_true_time(simulator: Simulated) -> None:
    async with simulator({"event_delay_ms": 500}) as account:
        await account.control.person("subscribe", _LIST, somebody())
        await account.control.advance(0.4)
        early = await account.walk("/events/subscriptions", "subscription-events")
        await account.control.advance(7.1)
        (late,) = await account.walk("/events/subscriptions", "subscription-events")

    assert early == []
    assert late["creationDate"] == "2026-01-01T00:00:00Z"


async def test_following_upcoming_loses_nothing_where_following_timestamps_does(simulator: Simulated) -> None:
    async with simulator() as account:
        slow, quick = somebody(), somebody()
        await account.control.person("unsubscribe-by-link", _LIST, slow, delay_ms=5000)
        await account.control.advance(1)
        await account.control.person("unsubscribe-by-link", _LIST, quick, delay_ms=0)
        first = await account.get("/events/unsubscriptions")
        newest = first.items("unsubscription-events")[-1]["creationDate"]
        await account.control.advance(10)
        by_link = await account.walk(first.link("inx:upcoming") or "", "unsubscription-events")
        by_time = await account.walk(f"/events/unsubscriptions?startDate={newest}", "unsubscription-events")

    assert [event["email"] for event in by_link] == [slow]
    assert slow not in {event["email"] for event in by_time}


async def test_with_ids_given_at_creation_a_late_event_appears_behind_a_reader(simulator: Simulated) -> None:
    async with simulator({"event_ids": "creation"}) as account:
        slow, quick = somebody(), somebody()
        await account.control.person("unsubscribe-by-link", _LIST, slow, delay_ms=5000)
        await account.control.person("unsubscribe-by-link", _LIST, quick, delay_ms=0)
        first = await account.get("/events/unsubscriptions")
        await account.control.advance(10)
        by_link = await account.walk(first.link("inx:upcoming") or "", "unsubscription-events")
        everything = await account.walk("/events/unsubscriptions", "unsubscription-events")

    assert by_link == []
    assert [event["email"] for event in everything] == [slow, quick]


async def test_a_new_recipient_can_appear_late_in_the_collection_and_is_not_passed_over(simulator: Simulated) -> None:
    async with simulator({"recipient_delay_ms": 2000}) as account:
        made = await account.post("/recipients", {"email": somebody(), "attributes": {}})
        first = await account.get("/recipients")
        alone = await account.get(f"/recipients/{made.body['id']}")
        await account.control.advance(2)
        upcoming = await account.get(first.link("inx:upcoming") or "")

    assert first.items("recipients") == []
    assert alone.status == 200
    assert [item["id"] for item in upcoming.items("recipients")] == [made.body["id"]]


async def test_the_count_of_a_list_is_stale_straight_after_an_import(simulator: Simulated) -> None:
    async with simulator({"import_rows_per_second": None, "import_start_ms": 0}) as account:
        await account.control.advance(3600)
        await account.imported(_rows(5), f"?listId={_LIST}")
        stale = (await account.get(f"/lists/{_LIST}/count")).body
        await account.control.advance(2)
        fresh = (await account.get(f"/lists/{_LIST}/count")).body

    assert (stale["count"], stale["lastCalculatedAt"]) == (0, "2026-01-01T00:00:00Z")
    assert (fresh["count"], fresh["lastCalculatedAt"]) == (5, "2026-01-01T01:00:01Z")


async def test_only_changes_of_address_and_attributes_count_as_modified(simulator: Simulated) -> None:
    async with simulator() as account:
        touched, only_subscribed = somebody(), somebody()
        await account.control(
            "POST", "/recipients", [{"email": touched}, {"email": only_subscribed}, {"email": somebody()}]
        )
        await account.control.advance(60)
        await account.patch(
            f"/recipients/{(await account.recipient(touched) or {})['id']}", {"attributes": {"Ort": "X"}}
        )
        await account.control.person("subscribe", _LIST, only_subscribed)
        found = await account.walk("/recipients?lastModifiedSince=2026-01-01T00:01:00Z", "recipients")

    assert [(item["email"], item["lastModified"]) for item in found] == [(touched, "2026-01-01T00:01:00Z")]


async def test_a_patch_that_changes_nothing_is_no_modification(simulator: Simulated) -> None:
    async with simulator() as account:
        email = somebody()
        made = await account.post("/recipients", {"email": email, "attributes": {"Ort": "Ulm"}})
        before = await account.control("GET", "/counters")
        await account.control.advance(60)
        reply = await account.patch(f"/recipients/{made.body['id']}", {"email": email, "attributes": {"Ort": "Ulm"}})
        after = await account.control("GET", "/counters")

    assert reply.body["lastModified"] == made.body["lastModified"]
    assert (after["writes"] - before["writes"], after["changes"] - before["changes"]) == (1, 0)


async def test_a_walk_meets_what_is_added_and_misses_nobody_when_others_are_deleted(simulator: Simulated) -> None:
    async with simulator() as account:
        people = [{"email": f"{index}@verteiler.example"} for index in range(6)]
        ids = (await account.control("POST", "/recipients", people))["ids"]
        page = await account.get("/recipients?pageSize=2")
        seen = [item["id"] for item in page.items("recipients")]
        await account.delete(f"/recipients/{ids[0]}")
        await account.delete(f"/recipients/{ids[3]}")
        (added,) = (await account.control("POST", "/recipients", {"email": somebody()}))["ids"]
        seen += [item["id"] for item in await account.walk(page.link("next") or "", "recipients")]

    assert seen == [ids[0], ids[1], ids[2], ids[4], ids[5], added]


async def test_an_exactly_full_last_page_offers_no_next(simulator: Simulated) -> None:
    async with simulator() as account:
        await account.control("POST", "/recipients", [{"email": somebody()} for _ in range(4)])
        page = await account.get("/recipients?pageSize=4")

    assert len(page.items("recipients")) == 4
    assert page.link("next") is None and page.link("inx:upcoming")


async def test_a_recipient_that_joins_a_list_later_is_not_new_in_the_collection_of_that_list(
    simulator: Simulated,
) -> None:
    async with simulator() as account:
        early, late = somebody(), somebody()
        await account.control("POST", "/recipients", [{"email": early}, {"email": late}])
        await account.control.person("subscribe", _LIST, early)
        upcoming = (await account.get(f"/recipients?subscribedTo={_LIST}")).link("inx:upcoming") or ""
        await account.control.person("subscribe", _LIST, late)
        new = await account.walk(upcoming, "recipients")

    assert new == []


async def test_the_clock_can_be_set_and_frozen(simulator: Simulated) -> None:
    async with simulator() as account:
        frozen = await account.control("POST", "/clock", {"set": "2030-05-01T10:00:00+02:00", "freeze": True})
        later = await account.control("POST", "/clock", {"advance_seconds": 90, "freeze": False})

    assert (frozen["now"], frozen["frozen"]) == ("2030-05-01T08:00:00Z", True)
    assert (later["now"], later["frozen"]) == ("2030-05-01T08:01:30Z", False)


async def test_the_start_of_a_time_filter_is_inclusive_and_its_end_exclusive(simulator: Simulated) -> None:
    async with simulator({"event_delay_ms": 0}) as account:
        for second in range(3):
            body = {"list_id": _LIST, "type": "X", "email": somebody(), "occurred_at": f"2026-01-01T00:00:0{second}Z"}
            await account.control("POST", "/events/subscriptions", body)
        window = "startDate=2026-01-01T00:00:00Z&endDate=2026-01-01T00:00:02Z"
        found = await account.walk(f"/events/subscriptions?{window}", "subscription-events")

    assert [event["creationDate"][-3:] for event in found] == ["00Z", "01Z"]
