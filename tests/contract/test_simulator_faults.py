"""The ways in which the simulator fails on demand."""

import asyncio
import json
import time

import aiohttp
import pytest

from tests.contract.account import Account, somebody
from tests.contract.conftest import Simulated

_INSTANT = {"import_rows_per_second": None, "import_start_ms": 0}


async def _plan(account: Account, method: str, path: str, kind: str, **more: object) -> None:
    fault = {"kind": kind} | {name: more.pop(name) for name in list(more) if name not in ("count", "skip", "list_id")}
    match = {"method": method, "path": path, "list_id": more.pop("list_id", None)}
    await account.control("POST", "/faults", {"match": match, "fault": fault, **more})


async def _attempt(account: Account, email: str) -> bool:
    """Whether the answer to creating a recipient arrived."""
    try:
        await account.post("/recipients", {"email": email, "attributes": {}})
    except aiohttp.ClientError:
        return False
    return True


@pytest.mark.parametrize(("kind", "carried_out"), [("cut-before", False), ("cut-after", True)])
async def test_a_connection_is_cut_before_or_after_the_request_is_carried_out(
    simulator: Simulated, kind: str, carried_out: bool
) -> None:
    async with simulator() as account:
        email = somebody()
        await _plan(account, "POST", "/recipients", kind)
        answered = await _attempt(account, email)
        exists = await account.recipient(email) is not None
        (entry,) = (await account.control("GET", "/requests?method=POST"))["requests"]

    assert not answered
    assert exists is carried_out
    assert (entry["status"], entry["write"], entry["fault"]) == (0, carried_out, kind)


async def test_an_import_whose_answer_is_lost_is_among_the_executions_and_runs(simulator: Simulated) -> None:
    async with simulator(_INSTANT) as account:
        email = somebody()
        await _plan(account, "POST", "/imports/recipients", "cut-after")
        with pytest.raises(aiohttp.ClientError):
            await account.upload(f'"email"\n"{email}"\n', "?listId=7")
        (execution,) = await account.walk("/imports/recipients", "recipient-imports")
        ended = await account.ended(execution["id"])
        subscribed = await account.subscribed(7)

    assert ended["successCount"] == 1
    assert subscribed == {email}


async def test_a_status_is_answered_as_often_as_asked_and_nothing_is_carried_out(simulator: Simulated) -> None:
    async with simulator() as account:
        body = {"email": somebody(), "attributes": {}}
        await _plan(account, "POST", "/recipients", "status", status=503, retry_after_seconds=7, skip=1, count=2)
        skipped = await account.post("/recipients", {"email": somebody(), "attributes": {}})
        replies = [await account.post("/recipients", body) for _ in range(3)]

    assert skipped.status == 201
    assert [reply.status for reply in replies] == [503, 503, 201]
    assert replies[0].headers["Retry-After"] == "7"
    assert replies[0].headers["Content-Type"].startswith("application/problem+json")


async def test_a_status_can_be_answered_although_it_was_carried_out(simulator: Simulated) -> None:
    async with simulator() as account:
        email = somebody()
        await _plan(account, "POST", "/recipients", "status-after", status=500)
        reply = await account.post("/recipients", {"email": email, "attributes": {}})
        found = await account.recipient(email)

    assert reply.status == 500
    assert found is not None


async def test_a_gateway_answers_with_a_page_of_html(simulator: Simulated) -> None:
    async with simulator() as account:
        await _plan(account, "GET", "/lists*", "status", status=502, html=True)
        reply = await account.get("/lists")

    assert reply.status == 502
    assert reply.headers["Content-Type"].startswith("text/html")


async def test_a_body_can_end_halfway(simulator: Simulated) -> None:
    async with simulator() as account:
        await _plan(account, "GET", "/lists", "truncate")
        with pytest.raises(aiohttp.ClientPayloadError):
            await account.get("/lists")


@pytest.mark.parametrize(("kind", "carried_out"), [("delay", False), ("delay-after", True), ("hang", False)])
async def test_an_answer_can_be_late_before_or_after_it_is_carried_out(
    simulator: Simulated, kind: str, carried_out: bool
) -> None:
    async with simulator() as account:
        email = somebody()
        await _plan(account, "POST", "/recipients", kind, seconds=60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await account.post("/recipients", {"email": email, "attributes": {}})
        exists = await account.recipient(email) is not None

    assert exists is carried_out


async def test_a_fault_can_be_meant_for_one_list_only(simulator: Simulated) -> None:
    async with simulator() as account:
        await _plan(account, "POST", "/events/subscriptions", "status", status=500, list_id=8, count=None)
        bodies: list[dict[str, object]] = [
            {"listId": list_id, "email": somebody(), "attributes": {}} for list_id in (7, 8)
        ]
        statuses = [(await account.post("/events/subscriptions", body)).status for body in bodies]

    assert statuses == [200, 500]


async def test_a_plan_can_be_taken_back(simulator: Simulated) -> None:
    async with simulator() as account:
        await _plan(account, "*", "*", "status", status=500, count=None)
        failing = await account.get("/lists")
        await account.control("DELETE", "/faults")
        working = await account.get("/lists")

    assert (failing.status, working.status) == (500, 200)


@pytest.mark.parametrize(
    ("outcome", "state", "rows", "errors"),
    [
        ("FAILED_HEADER", "FAILED", 0, ["HEADER_ERROR"]),
        ("FAILED_TRUNCATE", "FAILED", 0, ["DELETE_RECIPIENTS_ERROR"]),
        ("FAILED_HALFWAY", "FAILED", 2, ["IMPORT_CRASHED_ERROR"]),
        ("CANCELED", "CANCELED", 2, []),
    ],
)
async def test_an_import_can_be_made_to_end_badly(
    simulator: Simulated, outcome: str, state: str, rows: int, errors: list[str]
) -> None:
    async with simulator(_INSTANT) as account:
        await account.control("POST", "/imports/scripts", {"outcome": outcome})
        csv = '"email"\n' + "".join(f'"{somebody()}"\n' for _ in range(4))
        ended = await account.imported(csv, "?listId=7")
        (file,) = await account.walk(f"/imports/recipients/{ended['id']}/files", "files")
        subscribed = await account.subscribed(7)
        second = await account.imported(csv, "?listId=7")

    assert (ended["state"], ended["successCount"], file["state"]) == (state, rows, state)
    assert [error for error, _ in ended["errors"]] == errors
    assert len(subscribed) == rows
    assert second["state"] == "SUCCESS"


async def test_an_import_can_be_made_never_to_end(simulator: Simulated) -> None:
    async with simulator(_INSTANT) as account:
        await account.control("POST", "/imports/scripts", {"outcome": "NEVER_ENDING"})
        started = await account.upload(f'"email"\n"{somebody()}"\n', "?listId=7")
        await account.control.advance(86_400)
        body = (await account.get(f"/imports/recipients/{started.body['id']}")).body

    assert (body["state"], body["successCount"]) == ("PROCESSING", 1)


async def test_rows_can_be_made_to_fail_with_any_code(simulator: Simulated) -> None:
    async with simulator(_INSTANT) as account:
        script = {"row_errors": {"2": "IGNORED_IMPORT_ERROR"}, "every": 3, "every_error": "SAVE_ERROR"}
        await account.control("POST", "/imports/scripts", script)
        people = [somebody() for _ in range(4)]
        ended = await account.imported('"email"\n' + "".join(f'"{email}"\n' for email in people), "?listId=7")
        subscribed = await account.subscribed(7)

    assert ended["errors"] == [("IGNORED_IMPORT_ERROR", people[1]), ("SAVE_ERROR", people[2])]
    assert (ended["successCount"], ended["failCount"]) == (2, 2)
    assert subscribed == {people[0], people[3]}


async def test_a_permission_without_a_list_is_a_warning(simulator: Simulated) -> None:
    async with simulator(_INSTANT) as account:
        email = somebody()
        ended = await account.imported(f'"email";"trackingPermission"\n"{email}";"GRANTED"\n')

    assert (ended["successCount"], ended["failCount"]) == (1, 0)
    assert ended["errors"] == [("IGNORED_TRACKING_PERMISSION_WARN", email)]


async def test_a_file_that_only_claims_to_be_gzip_fails_as_a_whole(simulator: Simulated) -> None:
    async with simulator(_INSTANT) as account:
        head = b'--P\r\nContent-Disposition: form-data; name="file"; filename="x.gz"\r\nContent-Encoding: gzip\r\n\r\n'
        reply = await account.request(
            "POST",
            "/imports/recipients",
            data=head + b'"email"\n\r\n--P--',
            content_type="multipart/form-data; boundary=P",
        )
        ended = await account.ended(reply.body["id"])

    assert ended["state"] == "FAILED"


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        pytest.param(b'"email"\n"a@x.example"\xff\n"b@x.example"\n', ["LINE_PARSE_ERROR"], id="broken quoting"),
        pytest.param(b'"email"\na\xff@x.example\n"b@x.example"\n', ["LINE_PARSE_ERROR"], id="no UTF-8"),
        pytest.param(b'\xef\xbb\xbf"email"\n"b@x.example"\n\n', [], id="byte order mark and a blank line"),
        pytest.param("email\nä@ö.example\n".encode(), [], id="umlauts without quotes"),
    ],
)
async def test_a_line_that_cannot_be_read_fails_alone(simulator: Simulated, data: bytes, errors: list[str]) -> None:
    async with simulator(_INSTANT) as account:
        head = b'--P\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n'
        reply = await account.request(
            "POST",
            "/imports/recipients?listId=7",
            data=head + data + b"\r\n--P--",
            content_type="multipart/form-data; boundary=P",
        )
        ended = await account.ended(reply.body["id"])

    assert (ended["state"], ended["successCount"]) == ("SUCCESS", 1)
    assert [error for error, _ in ended["errors"]] == errors


async def test_a_busy_list_can_be_locked(simulator: Simulated) -> None:
    async with simulator({"import_busy_list": "lock"}) as account:
        csv = f'"email"\n"{somebody()}"\n'
        first, second = await account.upload(csv, "?listId=7"), await account.upload(csv, "?listId=7")
        elsewhere = await account.upload(csv, "?listId=8")

    assert (first.status, elsewhere.status) == (201, 201)
    assert (second.status, second.body["type"]) == (400, "locked-resource")


@pytest.mark.parametrize("path", ["/imports/recipients", "/recipients"])
async def test_too_large_a_body_is_413(simulator: Simulated, path: str) -> None:
    async with simulator({"import_max_bytes": 1000}) as account:
        if path == "/recipients":
            reply = await account.post(path, {"email": somebody(), "attributes": {"Ort": "x" * 1000}})
        else:
            reply = await account.upload('"email"\n' * 1000)

    assert reply.status == 413


async def test_half_a_body_can_pass_for_the_whole(simulator: Simulated) -> None:
    async with simulator() as account:
        await _plan(account, "GET", "/lists", "half-body")
        reply = await account.get("/lists")

    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = reply.body


async def test_a_body_can_arrive_slowly(simulator: Simulated) -> None:
    async with simulator() as account:
        await _plan(account, "GET", "/lists", "slow", seconds=0.3)
        began = time.perf_counter()
        slow = await account.get("/lists")
        took = time.perf_counter() - began
        quick = await account.get("/lists")

    assert slow.body == quick.body
    assert took >= 0.25


async def test_a_fault_can_be_meant_for_requests_with_a_parameter(simulator: Simulated) -> None:
    async with simulator() as account:
        match = {"path": "/attributes", "query": {"afterId": "*", "pageSize": "[12]"}}
        plan = {"match": match, "fault": {"kind": "status", "status": 502}, "count": None}
        await account.control("POST", "/faults", plan)
        first = await account.get("/attributes?pageSize=2")
        statuses = [(await account.get(path)).status for path in (first.link("next") or "", "/attributes?afterId=1")]

    assert (first.status, statuses) == (200, [502, 200])


_CHANCE = [
    {"match": {"path": "/lists"}, "fault": {"kind": "status", "status": 502}, "count": None, "probability": 0.5},
    {"match": {"path": "/attributes"}, "fault": {"kind": "status", "status": 503}, "count": 3, "probability": 0.5},
]


async def test_a_scenario_with_a_seed_strikes_the_same_requests_again(simulator: Simulated) -> None:
    async def struck(account: Account, seed: int, between: int) -> list[int]:
        await account.control("PUT", "/faults", {"plans": _CHANCE, "seed": seed})
        statuses = []
        for _ in range(20):
            statuses.append((await account.get("/lists")).status)
            for _ in range(between):  # requests that only the other plan looks at
                await account.get("/attributes")
        return statuses

    async with simulator() as account:
        first, again, other = [await struck(account, *how) for how in ((7, 0), (7, 2), (8, 0))]
        hits = [plan["hits"] for plan in (await account.control("GET", "/faults"))["faults"]]

    assert first == again != other
    assert set(first) == {200, 502}
    assert hits == [other.count(502), 0]


async def test_faults_in_the_options_are_in_force_from_the_start_and_after_a_reset(simulator: Simulated) -> None:
    async with simulator(faults=[{"match": {"path": "/lists"}, "fault": {"kind": "status", "status": 503}}]) as account:
        before = [(await account.get("/lists")).status for _ in range(2)]
        await account.control("POST", "/reset", {})
        after = [(await account.get("/lists")).status for _ in range(2)]

    assert before == after == [503, 200]


async def test_a_regenerated_secret_shuts_out_whoever_has_the_old_one(simulator: Simulated) -> None:
    async with simulator() as account:
        before = await account.get("/lists")
        users = await account.control("PUT", "/credentials/worker", {"secret": "regenerated"})
        shut_out = await account.get("/lists")
        account.authorization = aiohttp.encode_basic_auth("worker", "regenerated")
        again = await account.get("/lists")
        await account.control("DELETE", "/credentials/worker")
        revoked = await account.get("/lists")
        unknown = await account.control("DELETE", "/credentials/worker", expect=404)

    assert [reply.status for reply in (before, shut_out, again, revoked)] == [200, 401, 200, 401]
    assert "WWW-Authenticate" in shut_out.headers
    assert users == {"users": ["second", "worker"]}
    assert "regenerated" not in str(users) + str(unknown)


@pytest.mark.parametrize(("kind", "carried_out"), [("hold", False), ("hold-after", True)])
async def test_a_request_is_held_until_its_plan_is_taken_away(
    simulator: Simulated, kind: str, carried_out: bool
) -> None:
    async with simulator() as account:
        email = somebody()
        await _plan(account, "POST", "/recipients", kind)
        attempt = asyncio.create_task(_attempt(account, email))
        async with asyncio.timeout(5):
            while not (plans := (await account.control("GET", "/faults"))["faults"])[0]["hits"]:  # noqa: ASYNC110  far away
                await asyncio.sleep(0.01)
        exists_while_held = await account.recipient(email) is not None
        waiting = not attempt.done()
        await account.control("DELETE", f"/faults/{plans[0]['id']}")
        answered = await attempt
        exists = await account.recipient(email) is not None

    assert (waiting, exists_while_held) == (True, carried_out)
    assert (answered, exists) == (True, True)
