"""Budget, credentials, options, log and the page that describes them."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from yarl import URL

from connectors.inxmail_simulator.options import Behaviour, options_from
from connectors.inxmail_simulator.values import AttributeType
from schemas.errors import Misconfigured
from tests.contract.account import somebody
from tests.contract.conftest import Simulated

_PAGE = Path(__file__).parents[2] / "docs" / "inxmail-simulator.md"


async def test_beyond_the_budget_it_is_429_until_the_window_ends(simulator: Simulated) -> None:
    async with simulator({"requests_per_minute": 3}) as account:
        replies = [await account.get("/") for _ in range(4)]
        await account.control.advance(59)
        still = await account.get("/")
        await account.control.advance(1)
        again = await account.get("/")

    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert [reply.headers["X-RateLimit-Remaining"] for reply in replies] == ["2", "1", "0", "0"]
    assert replies[0].headers["X-RateLimit-Reset"] == "60"
    assert replies[3].body["type"] == "about:blank" and "Retry-After" not in replies[3].headers
    assert (still.status, still.headers["X-RateLimit-Reset"], again.status) == (429, "1", 200)


async def test_retry_after_comes_when_the_option_says_so(simulator: Simulated) -> None:
    async with simulator({"requests_per_minute": 1, "retry_after": True}) as account:
        await account.get("/")
        reply = await account.get("/")

    assert (reply.status, reply.headers["Retry-After"]) == (429, "60")


@pytest.mark.parametrize(("share", "status"), [(False, 200), (True, 429)])
async def test_each_credential_has_a_budget_of_its_own_unless_shared(
    simulator: Simulated, share: bool, status: int
) -> None:
    async with simulator({"requests_per_minute": 1, "share_budget": share}) as account:
        await account.get("/")
        account.authorization = "Basic c2Vjb25kOnNlY29uZCBzZWNyZXQ="  # second:second secret
        reply = await account.get("/")

    assert reply.status == status


async def test_a_wrong_secret_is_401_with_a_challenge_and_rate_headers(simulator: Simulated) -> None:
    async with simulator() as account:
        account.authorization = "Basic d29ya2VyOndyb25n"
        reply = await account.get("/")

    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert "X-RateLimit-Limit" in reply.headers


async def test_the_control_api_takes_its_own_token_only(simulator: Simulated) -> None:
    async with simulator() as account:
        await account.get("/")
        root = account.base_url.removesuffix("/demo/rest/v1")
        with_basic = await account.request("GET", f"{root}/_control/state")
        with_nothing = await account.request("POST", f"{root}/_control/reset", {}, authorized=False)
        counters = await account.control("GET", "/counters")

    assert (with_basic.status, with_nothing.status) == (401, 401)
    assert counters["requests"] == 1


@pytest.mark.parametrize(
    "path",
    [
        "/recipients/101/lists",
        "/lists/7/memberships",
        "/lists/7/settings",
        "/imports/advanced",
        "/split-test-mailings",
        "/mailings/1/links",
        "/sendings/1",
        "/test-profiles",
    ],
)
async def test_what_has_no_known_form_is_501_with_a_clear_message(simulator: Simulated, path: str) -> None:
    async with simulator() as account:
        reply = await account.get(path)

    assert reply.status == 501
    assert "documented" in reply.body["detail"] or "not simulated" in reply.body["detail"]


async def test_a_guess_answers_only_when_named_in_the_options(simulator: Simulated) -> None:
    async with simulator({"undocumented": ["memberships", "recipient-lists"]}) as account:
        email = somebody()
        id_ = (await account.post("/recipients", {"email": email, "attributes": {}})).body["id"]
        added = await account.post("/lists/7/memberships", {"recipientIds": [id_]})
        lists = await account.walk(f"/recipients/{id_}/lists", "lists")
        removed = await account.delete(f"/lists/7/memberships/{id_}")
        left = await account.walk("/recipients?unsubscribedFromAny=7", "recipients")

    assert (added.status, removed.status) == (204, 204)
    assert [item["id"] for item in lists] == [7]
    assert left == []


@pytest.mark.parametrize(("over", "status"), [("reject", 400), ("clamp", 200)])
async def test_too_large_a_page_is_refused_or_clamped(simulator: Simulated, over: str, status: int) -> None:
    async with simulator({"page_size_over_maximum": over, "page_size_maximum": 2}) as account:
        reply = await account.get("/attributes?pageSize=3")

    assert reply.status == status
    assert status != 200 or len(reply.items("attributes")) == 2


@pytest.mark.parametrize("always", [False, True])
async def test_an_empty_page_may_come_with_an_empty_array(simulator: Simulated, always: bool) -> None:
    async with simulator({"embedded_when_empty": always}) as account:
        body = (await account.get("/recipients")).body

    assert body.get("_embedded") == ({"inx:recipients": []} if always else None)


async def test_header_names_can_be_lower_case_throughout(simulator: Simulated) -> None:
    async with simulator({"lower_case_headers": True}) as account:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(account.base_url).port)
        writer.write(b"GET /demo/rest/v1 HTTP/1.1\r\nHost: localhost\r\n\r\n")  # a client library would hide the case
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
    names = [line.partition(":")[0] for line in head.splitlines()[1:-1]]

    assert "x-ratelimit-limit" in names and "content-length" in names
    assert names == [name.lower() for name in names]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/recipients/101", "PATCH"), ("DELETE", "/attributes/19", "GET"), ("DELETE", "/lists", "POST")],
)
async def test_a_method_that_is_not_offered_is_405(simulator: Simulated, method: str, path: str, allowed: str) -> None:
    async with simulator() as account:
        reply = await account.request(method, path)

    assert reply.status == 405
    assert allowed in reply.headers["Allow"]


@pytest.mark.parametrize(("accept", "status"), [("text/html", 406), ("*/*", 200), ("application/json", 200)])
async def test_an_accept_header_without_json_is_406(simulator: Simulated, accept: str, status: int) -> None:
    async with simulator() as account:
        assert (await account.request("GET", "/", headers={"Accept": accept})).status == status


@pytest.mark.parametrize(("how", "status", "count"), [("filter", 200, 0), ("not-modified", 304, 0), ("ignore", 200, 6)])
async def test_if_modified_since_on_attributes(simulator: Simulated, how: str, status: int, count: int) -> None:
    async with simulator({"if_modified_since": how}) as account:
        headers = {"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}
        reply = await account.request("GET", "/attributes", headers=headers)

    assert reply.status == status
    assert status == 304 or len(reply.items("attributes")) == count


async def test_the_request_log_names_no_person(simulator: Simulated) -> None:
    async with simulator() as account:
        email = "ann.secret@verteiler.example"
        await account.post("/recipients", {"email": email, "attributes": {"Ort": "Geheimstadt"}})
        await account.patch("/recipients/ann.secret%40verteiler.example", {"attributes": {"Ort": "Geheimdorf"}})
        await account.get("/recipients?email=ann.secret%40verteiler.example&attributes.Ort=Geheimdorf&pageSize=5")
        log = await account.control("GET", "/requests")
        writes = await account.control("GET", "/requests?writes_only")
        rest = await account.control("GET", f"/requests?after_id={log['last_id']}")

    assert "secret" not in str(log) and "Geheim" not in str(log)
    assert [entry["path"] for entry in log["requests"]] == ["/recipients", "/recipients/{email}", "/recipients"]
    assert log["requests"][-1]["query"] == {"email": None, "attributes.*": None, "pageSize": "5"}
    assert [entry["method"] for entry in writes["requests"]] == ["POST", "PATCH"]
    assert rest["requests"] == []


async def test_an_attribute_can_be_of_every_type_and_a_text_gets_a_length(simulator: Simulated) -> None:
    async with simulator(attributes=[]) as account:
        replies = [await account.post("/attributes", {"name": kind, "type": kind}) for kind in AttributeType]
        shown = await account.walk("/attributes", "attributes")

    assert {reply.status for reply in replies} == {201}
    assert [item["type"] for item in shown] == list(AttributeType)
    assert [item["name"] for item in shown if "maxLength" in item] == ["TEXT"]


async def test_a_refused_write_is_no_write(simulator: Simulated) -> None:
    async with simulator() as account:
        await account.post("/recipients", {"email": "nobody", "attributes": {}})
        counters = await account.control("GET", "/counters")

    assert (counters["requests"], counters["writes"]) == (1, 0)


async def test_a_reset_brings_back_the_seeds(simulator: Simulated) -> None:
    async with simulator() as account:
        before = await account.control("GET", "/state")
        await account.control("POST", "/recipients", [{"email": somebody()} for _ in range(3)])
        await account.post("/lists", {"name": "x", "type": "STANDARD", "senderAddress": "s@verteiler.example"})
        await account.control.options(page_size_default=1)
        after = await account.control("POST", "/reset", {})
        options = await account.control("GET", "/options")

    assert after == before
    assert options["page_size_default"] == 100


async def test_the_dump_is_paged_and_streamed(simulator: Simulated) -> None:
    async with simulator() as account:
        ids = (await account.control("POST", "/recipients", [{"email": somebody()} for _ in range(5)]))["ids"]
        first = await account.control("GET", "/recipients?limit=3")
        second = await account.control("GET", f"/recipients?limit=3&after_id={first['next_after_id']}")

    assert [item["id"] for item in first["recipients"] + second["recipients"]] == ids
    assert second["next_after_id"] is None


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("PATCH", "/options", {"import_rows_per_second": -1}),
        ("PATCH", "/options", {"no_such_option": 1}),
        ("POST", "/people", {"action": "dance", "list_id": 7, "email": "a@verteiler.example"}),
        ("POST", "/people", {"action": "subscribe", "list_id": 99, "email": "a@verteiler.example"}),
        ("POST", "/recipients", {"email": "nobody"}),
        ("POST", "/faults", {"fault": {"kind": "earthquake"}}),
        ("POST", "/events/subscriptions", {"list_id": 7}),
        ("POST", "/clock", {"set": "tomorrow"}),
    ],
)
async def test_a_control_request_that_makes_no_sense_says_why(
    simulator: Simulated, method: str, path: str, document: object
) -> None:
    async with simulator() as account:
        reply = await account.control(method, path, document, expect=400)

    assert reply["error"]


def test_wrong_options_are_all_named_at_once_without_a_secret() -> None:
    env = {"INXMAIL_SIMULATOR_CREDENTIALS": '{"user": "hush-hush"}'}
    with pytest.raises(Misconfigured) as caught:
        options_from(
            '{"port": 70000, "behaviour": {"page_size_default": 0}, "colour": "blue", "faults": [{"fault": 1}]}',
            env,
        )

    message = str(caught.value)
    assert all(name in message for name in ("CONTROL_TOKEN", "port", "behaviour.page_size_default", "colour", "faults"))
    assert "hush-hush" not in message


def test_secrets_do_not_show_in_the_options() -> None:
    env = {"INXMAIL_SIMULATOR_CREDENTIALS": '{"user": "hush-hush"}', "INXMAIL_SIMULATOR_CONTROL_TOKEN": "psst"}
    shown = repr(options_from(None, env))

    assert "hush-hush" not in shown and "psst" not in shown


def test_every_option_stands_on_the_page_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", _PAGE.read_text("utf-8"), re.MULTILINE))

    assert {name: json.loads(text) for name, text in rows.items()} == Behaviour().model_dump(mode="json")
