"""The client against a real server on a real socket: links, encodings, broken connections."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import BodyPartReader, web
from multidict import CIMultiDict
from pydantic import SecretStr

from connectors.inxmail.client import InxmailClient
from connectors.inxmail.pace import Pace
from connectors.inxmail.settings import InxmailSettings
from connectors.inxmail.transport import Transport, retry_after_seconds
from schemas.errors import AnswerLost, Fenced, MalformedInput, Misconfigured, Refused, Unavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def far_side(
    handler: Handler, *, allowed: Callable[[], float] = lambda: 5.0, places: int = 4
) -> AsyncIterator[InxmailClient]:
    """A client of a server that answers everything with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = InxmailSettings(
        base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/c/rest/v1/", user="u", password=SecretStr("p")
    )
    try:
        async with Transport(settings, Pace(10_000, places, 0), allowed) as transport:
            yield InxmailClient(transport)
    finally:
        await runner.cleanup()


def page(items: list[Any], relation: str, **links: str) -> web.Response:
    body: dict[str, Any] = {"_links": {name: {"href": href} for name, href in links.items()}}
    if items:
        body["_embedded"] = {relation: items}
    return web.json_response(body)


async def test_pages_are_followed_by_their_own_links_verbatim() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        if "afterId" in request.raw_path:
            return page([], "inx:attributes")
        href = f"http://{request.host}/c/rest/v1/attributes?odd=%2B&afterId=1"
        return page(
            [{"id": 1, "name": "Ort", "type": "TEXT", "maxLength": 9, "new": True}], "inx:attributes", next=href
        )

    async with far_side(answer) as api:
        [attribute] = await api.attributes()

    assert (attribute.name, attribute.max_length) == ("Ort", 9)
    assert asked == ["/c/rest/v1/attributes?pageSize=1000", "/c/rest/v1/attributes?odd=%2B&afterId=1"]


async def test_pages_that_lead_in_a_circle_are_noticed() -> None:
    async def answer(request: web.Request) -> web.Response:
        other = "b" if "circle=a" in request.raw_path else "a"
        return page([], "inx:lists", next=f"http://{request.host}/c/rest/v1/lists?circle={other}")

    async with far_side(answer) as api:
        with pytest.raises(MalformedInput, match="circle"):
            await api.lists()


async def test_credentials_never_follow_a_link_to_another_server() -> None:
    async def answer(_: web.Request) -> web.Response:
        return page([], "inx:lists", next="http://elsewhere.example/c/rest/v1/lists")

    async with far_side(answer) as api:
        with pytest.raises(MalformedInput, match="another server"):
            await api.lists()


async def test_addresses_are_encoded_and_split_over_several_requests() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return page([], "inx:recipients")

    async with far_side(answer) as api:
        await api.recipients_by_email([f"a+{number}@müller.example" for number in range(200)], ["Ort"], [7, 8])

    assert len(asked) > 2
    assert "email=a%2B0%40m%C3%BCller.example," in asked[0]
    assert all("attributes=Ort&subscriptionDatesForLists=7,8&unsubscriptionDatesForLists=7,8" in each for each in asked)
    assert max(map(len, asked)) < 8000


async def test_dates_that_were_asked_for_and_did_not_come_are_malformed() -> None:
    async def answer(_: web.Request) -> web.Response:
        return page([{"id": 1, "email": "a@example.com"}], "inx:recipients")

    async with far_side(answer) as api:
        [recipient] = await api.recipients_by_email(["a@example.com"], [], [7])

    with pytest.raises(MalformedInput):
        recipient.dates()


@pytest.mark.parametrize(
    "item",
    [
        {"id": 1, "email": "a@example.com", "subscriptionDates": {"7": "2026-01-01T00:00:00Z"}},
        {"id": 1, "email": "a@example.com", "subscriptionDates": [{"listId": 7, "date": "yesterday"}]},
        {"id": 1, "email": "a@example.com", "unsubscriptionDates": [{"listId": 7, "date": "2026-01-01T00:00:00"}]},
    ],
)
async def test_dates_of_an_unknown_shape_are_malformed_and_quote_no_value(item: dict[str, Any]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return page([item], "inx:recipients")

    async with far_side(answer) as api:
        with pytest.raises(MalformedInput) as caught:
            await api.recipients_by_email(["a@example.com"], [], [7])
    assert "a@example" not in str(caught.value)


async def test_items_under_another_relation_are_not_taken_for_an_empty_page() -> None:
    async def answer(_: web.Request) -> web.Response:
        return page([{"id": 1}], "inx:renamed")

    async with far_side(answer) as api:
        with pytest.raises(MalformedInput):
            await api.lists()


async def test_an_import_is_sent_as_quoted_gzipped_csv() -> None:
    seen: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.Response:
        reader = await request.multipart()
        part = await reader.next()
        assert isinstance(part, BodyPartReader)
        seen.update(query=dict(request.query), name=part.name, file=part.filename, data=await part.read(decode=False))
        return web.json_response({"id": 34, "state": "NEW"}, status=201)

    async def people() -> list[tuple[str, str]]:
        return [("a@example.com", 'Bad "Ems"; Kur'), ("b@example.com", "")]

    async with far_side(answer) as api:
        started = await api.start_import(7, resubscribe=False, columns=["Ort"], rows=people)

    assert started.id == 34
    assert (seen["query"], seen["name"], seen["file"]) == (
        {"listId": "7", "resubscribe": "false"},
        "file",
        "datafile.csv.gz",
    )
    assert gzip.decompress(seen["data"]).decode() == (
        '"email";"Ort"\r\n"a@example.com";"Bad ""Ems""; Kur"\r\n"b@example.com";""\r\n'
    )


async def test_an_import_without_a_list_asks_for_nothing_more() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"id": 1, "state": "NEW", "seen": dict(request.query)}, status=201)

    async with far_side(answer) as api:
        assert (await api.start_import(None, resubscribe=False, columns=[], rows=nobody)).id == 1


async def test_rows_are_asked_for_when_it_is_their_turn_and_may_stop_the_import() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        await asyncio.sleep(0.1)
        return page([], "inx:lists")

    class Barred(Exception):
        pass

    async def barred() -> list[tuple[str]]:
        assert asked == ["GET"], "the turn before has ended"
        raise Barred

    async with far_side(answer, places=1) as api, asyncio.TaskGroup() as tasks:
        tasks.create_task(api.lists())
        await asyncio.sleep(0.02)
        with pytest.raises(Barred):
            await api.start_import(7, resubscribe=True, columns=[], rows=barred)
    assert asked == ["GET"]


async def nobody() -> list[tuple[str]]:
    return []


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_connection_that_breaks_under_a_call_leaves_it_open_whether_it_was_carried_out() -> None:
    async with far_side(cut) as api:
        with pytest.raises(AnswerLost):
            await api.unsubscribe(7, "a@example.com")
        with pytest.raises(AnswerLost):
            await api.start_import(7, resubscribe=False, columns=[], rows=nobody)
        with pytest.raises(Unavailable):
            await api.write_attributes(9, {"Ort": "Ems"})
        with pytest.raises(Unavailable):
            await api.lists()


async def test_an_answer_that_is_cut_off_after_a_call_was_carried_out_is_lost() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b'{"id": 34, "sta', status=201)

    async with far_side(answer) as api:
        with pytest.raises(AnswerLost):
            await api.start_import(7, resubscribe=False, columns=[], rows=nobody)
        with pytest.raises(Unavailable):
            await api.import_execution(34)


async def test_a_server_that_is_not_there_was_sent_nothing() -> None:
    async with far_side(cut) as api:
        pass  # its port is free again
    settings = InxmailSettings(base_url="http://127.0.0.1:9/rest/v1", user="u", password=SecretStr("p"))
    async with Transport(settings, Pace(600, 4, 0), lambda: 5.0) as transport:
        with pytest.raises(Unavailable, match="nothing was sent"):
            await InxmailClient(transport).unsubscribe(7, "a@example.com")
    assert api is not None


async def test_a_request_may_take_no_longer_than_allowed() -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with far_side(answer, allowed=lambda: 0.05) as api:
        with pytest.raises(AnswerLost):
            await api.unsubscribe(7, "a@example.com")


async def test_whoever_does_not_lead_sends_nothing() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    def none_allowed() -> float:
        raise Fenced("another leads")

    async with far_side(answer, allowed=none_allowed) as api:
        with pytest.raises(Fenced):
            await api.lists()
    assert asked == []


@pytest.mark.parametrize(("status", "kind"), [(401, Misconfigured), (404, Refused), (302, Misconfigured)])
async def test_refusals_leave_with_their_meaning(status: int, kind: type[Exception]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with far_side(answer) as api:
        with pytest.raises(kind):
            await api.unsubscribe(7, "a@example.com")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "Mon, 01 Jun 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Mon, 01 Jun 2026 12:00:30 GMT", "Date": "Mon, 01 Jun 2026 12:00:20 GMT"}, 10),
        ({"Retry-After": "Mon, 01 Jun 2020 12:00:30 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for_is_told_in_seconds_or_as_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)

    assert retry_after_seconds(CIMultiDict(headers), now) == seconds
