"""What holds for every request: addresses, authentication, media types, headers, paging, links, dates, problems."""

import re

import pytest

from tests.contract.account import Account

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_RATE_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


async def test_the_root_holds_links_to_the_resources_and_nothing_else(api: Account) -> None:
    reply = await api.get("/")

    assert reply.status == 200
    assert list(reply.body) == ["_links"]
    assert {
        "inx:attributes",
        "inx:recipients",
        "inx:lists",
        "inx:recipient-imports",
        "inx:subscription-events",
        "inx:unsubscription-events",
        "inx:bounces",
        "curies",
    } <= set(reply.body["_links"])
    assert "self" not in reply.body["_links"]


async def test_the_links_of_the_root_start_with_the_base_url_that_was_called(api: Account) -> None:
    links = (await api.get("/")).body["_links"]

    assert links["inx:recipient-imports"]["href"] == f"{api.base_url}/imports/recipients"
    assert links["inx:subscription-events"]["href"] == f"{api.base_url}/events/subscriptions"
    assert links["curies"][0]["name"] == "inx" and links["curies"][0]["templated"] is True


@pytest.mark.parametrize("path", ["/lists", "/lists/", "//lists/", "//lists//?pageSize=5"])
async def test_trailing_and_double_slashes_are_accepted(api: Account, path: str) -> None:
    assert (await api.get(path)).status == 200


async def test_without_credentials_nothing_is_told(api: Account) -> None:
    reply = await api.request("GET", "/lists", authorized=False)

    assert reply.status == 401
    assert "inx:lists" not in reply.text


async def test_a_success_is_hal(api: Account) -> None:
    reply = await api.get("/lists")

    assert reply.headers["Content-Type"].replace(" ", "").lower() == "application/hal+json;charset=utf-8"


@pytest.mark.parametrize("path", ["/lists/999999999", "/recipients/999999999", "/attributes/999999999"])
async def test_an_unknown_object_is_404_about_blank_as_a_problem(api: Account, path: str) -> None:
    reply = await api.get(path)

    assert reply.status == 404
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    assert reply.body["type"] == "about:blank"
    assert reply.body["title"]


@pytest.mark.parametrize("path", ["/lists", "/lists/999999999", "/recipients?pageSize=1"])
async def test_the_rate_headers_are_on_every_answer(api: Account, path: str) -> None:
    reply = await api.get(path)

    assert all(reply.headers[name].isdigit() for name in _RATE_HEADERS)


async def test_the_remaining_budget_falls_and_the_reset_counts_seconds(api: Account) -> None:
    first, second = await api.get("/"), await api.get("/")

    if first.headers["X-RateLimit-Reset"] >= second.headers["X-RateLimit-Reset"]:  # same window
        assert int(second.headers["X-RateLimit-Remaining"]) < int(first.headers["X-RateLimit-Remaining"])
    assert 0 <= int(second.headers["X-RateLimit-Reset"]) <= 60


async def test_a_page_links_to_itself_and_to_the_first_and_names_its_curies(api: Account) -> None:
    links = (await api.get("/attributes?pageSize=1")).body["_links"]

    assert {"self", "first"} <= set(links)
    assert links["self"]["href"].startswith(f"{api.base_url}/attributes")


async def test_pages_follow_next_until_it_is_absent_and_only_then_comes_upcoming(api: Account) -> None:
    reply = await api.get("/attributes?pageSize=2")
    seen = [item["id"] for item in reply.items("attributes")]
    while href := reply.link("next"):
        assert reply.link("inx:upcoming") is None
        assert "afterId=" in href and "pageSize=2" in href
        reply = await api.get(href)
        seen += [item["id"] for item in reply.items("attributes")]

    assert reply.link("inx:upcoming")
    assert seen == sorted(set(seen))
    assert len(seen) == len(await api.walk("/attributes?pageSize=100", "attributes"))


async def test_an_upcoming_link_with_nothing_new_is_empty_and_has_an_upcoming_link_again(api: Account) -> None:
    last = await api.get("/attributes?pageSize=100")
    while href := last.link("next"):
        last = await api.get(href)
    upcoming = await api.get(last.link("inx:upcoming") or "")

    assert upcoming.status == 200
    assert upcoming.items("attributes") == []
    assert upcoming.link("inx:upcoming")
    assert upcoming.link("next") is None


async def test_filters_are_carried_in_the_links(api: Account) -> None:
    reply = await api.get("/events/subscriptions?types=VERIFIED_SUBSCRIPTION&startDate=2099-01-01T00:00:00Z&pageSize=1")

    assert "types=VERIFIED_SUBSCRIPTION" in (reply.link("inx:upcoming") or "")


async def test_dates_are_utc_to_the_second(api: Account) -> None:
    lists = (await api.get("/lists?pageSize=5")).items("lists")

    assert lists
    assert all(_TIMESTAMP.fullmatch(item["creationDate"]) for item in lists)


async def test_a_collection_without_a_match_is_200_and_not_404(api: Account) -> None:
    reply = await api.get("/recipients?email=nobody-at-all%40verteiler.example")

    assert reply.status == 200
    assert reply.items("recipients") == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/recipients/abc", "type-mismatch"),
        ("/lists?pageSize=many", "type-mismatch"),
        ("/events/subscriptions?startDate=yesterday", "invalid-parameter-value"),
    ],
)
async def test_a_value_that_makes_no_sense_is_400_with_a_short_token(api: Account, path: str, kind: str) -> None:
    reply = await api.get(path)

    assert reply.status == 400
    assert reply.body["type"] == kind


async def test_server_info_is_a_cheap_probe(api: Account) -> None:
    assert (await api.get("/serverinfo")).status == 200


@pytest.mark.parametrize("accept", ["application/json", "application/hal+json", "*/*"])
async def test_either_kind_of_json_may_be_accepted(api: Account, accept: str) -> None:
    assert (await api.request("GET", "/lists?pageSize=1", headers={"Accept": accept})).status == 200


async def test_answers_may_not_be_kept_framed_or_guessed_at(api: Account) -> None:
    headers = (await api.get("/")).headers

    assert "no-cache" in headers["Cache-Control"]
    assert headers["X-Content-Type-Options"].lower() == "nosniff"
    assert headers["X-Frame-Options"].upper() == "DENY"


async def test_the_next_link_carries_the_filters(api: Account) -> None:
    reply = await api.get("/lists?createdAfter=2000-01-01T00:00:00Z&pageSize=1")
    if len(await api.walk("/lists?pageSize=2", "lists")) < 2:
        pytest.skip("there is only one list")

    assert "createdAfter=2000" in (reply.link("next") or "")


async def test_items_link_to_themselves(api: Account) -> None:
    for relation in ("lists", "attributes"):
        item = (await api.get(f"/{relation}?pageSize=1")).items(relation)[0]

        assert item["_links"]["self"]["href"].rstrip("/").endswith(f"/{relation}/{item['id']}")
        assert (await api.get(item["_links"]["self"]["href"])).body["id"] == item["id"]
