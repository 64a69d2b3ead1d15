"""Logs behind a write buffer: what a reader gets who follows upcoming links, in both orders of ids, in every log."""

from collections.abc import Awaitable, Callable

import pytest

from tests.contract.account import Account, somebody
from tests.contract.conftest import Simulated

_LIST = 7
_EVENTS = 12
_HORIZON_SECONDS = 5
_BUFFER = {"event_delay_ms": 500, "event_delay_jitter_ms": 4000}
_LOGS = {
    "subscriptions": ("/events/subscriptions", "subscription-events"),
    "unsubscriptions": ("/events/unsubscriptions", "unsubscription-events"),
    "tracking-permissions": ("/events/tracking-permissions", "tracking-permission-events"),
    "sendings": ("/sendings", "sendings"),
    "protocol": ("/sendings/1/protocol", "protocol-entries"),
    "bounces": ("/bounces", "bounces"),
    "clicks": ("/clicks", "clicks"),
    "web-beacon-hits": ("/web-beacon-hits", "web-beacon-hits"),
}
Happen = Callable[[], Awaitable[object]]


async def _prepared(account: Account, log: str) -> Happen:
    """What makes one event happen in this log (all at once in a protocol)."""
    if log in ("subscriptions", "unsubscriptions", "tracking-permissions"):
        body = {"list_id": _LIST, "email": somebody(), "type": "X", "tracking_permission": "GRANTED"}
        return lambda: account.control("POST", f"/events/{log}", body)
    crowd = _EVENTS if log == "protocol" else 1
    members = [{"email": somebody(), "memberships": [{"list_id": _LIST, "state": "SUBSCRIBED"}]} for _ in range(crowd)]
    await account.control("POST", "/recipients", members)
    await account.control("POST", "/mailings", {"list_id": _LIST})
    if log in ("sendings", "protocol"):
        return lambda: account.control("POST", "/sendings", {"mailing_id": 1})
    await account.control("POST", "/sendings", {"mailing_id": 1, "delay_ms": 0})
    return lambda: account.control("POST", f"/reactions/{log}", {"sending_id": 1, "count": 1})


class _Reader:
    """Polls a log: follows the stored upcoming link, or re-reads from where it stood some seconds ago."""

    def __init__(self, account: Account, path: str, relation: str, overlap_polls: int) -> None:
        self._account, self._relation, self._overlap = account, relation, overlap_polls
        self._links = [path]
        self.ids: list[int] = []

    async def poll(self) -> None:
        href: str | None = self._links[max(0, len(self._links) - 1 - self._overlap)]
        while href:
            page = await self._account.get(href)
            self.ids += [item["id"] for item in page.items(self._relation)]
            href = page.link("next")
        self._links.append(page.link("inx:upcoming") or "")


async def _read(account: Account, log: str, readers: list[_Reader]) -> None:
    happen = await _prepared(account, log)
    if log == "protocol":
        await happen()
    for _ in range(_EVENTS):
        if log != "protocol":
            await happen()
        await account.control.advance(0.5)
        for reader in readers:
            await reader.poll()
    for _ in range(2 * _HORIZON_SECONDS):
        await account.control.advance(0.5)
        for reader in readers:
            await reader.poll()


@pytest.mark.parametrize("log", _LOGS)
async def test_with_ids_in_order_of_visibility_the_upcoming_link_gives_each_event_once(
    simulator: Simulated, log: str
) -> None:
    async with simulator(_BUFFER) as account:
        reader = _Reader(account, *_LOGS[log], overlap_polls=0)
        await _read(account, log, [reader])

    if log != "sendings":  # whoever asks for a sending is told its id at once
        assert reader.ids == list(range(1, _EVENTS + 1))
    assert sorted(set(reader.ids)) == sorted(reader.ids)


@pytest.mark.parametrize("log", _LOGS)
async def test_with_ids_given_at_creation_only_a_reader_with_overlap_loses_nothing(
    simulator: Simulated, log: str
) -> None:
    async with simulator({**_BUFFER, "event_ids": "creation"}) as account:
        by_link = _Reader(account, *_LOGS[log], overlap_polls=0)
        with_overlap = _Reader(account, *_LOGS[log], overlap_polls=2 * _HORIZON_SECONDS)
        await _read(account, log, [by_link, with_overlap])
        everything = [item["id"] for item in await account.walk(*_LOGS[log])]

    assert everything == list(range(1, _EVENTS + 1))
    assert set(with_overlap.ids) == set(everything)
    assert set(by_link.ids) < set(everything)


@pytest.mark.parametrize("log", [log for log in _LOGS if log != "sendings"])
@pytest.mark.parametrize(("ids", "different"), [("same", _EVENTS), ("new", 2 * _EVENTS)])
async def test_events_can_be_readable_twice(simulator: Simulated, log: str, ids: str, different: int) -> None:
    async with simulator({"event_duplicate_share": 1, "event_duplicate_ids": ids}) as account:
        happen = await _prepared(account, log)
        for _ in range(1 if log == "protocol" else _EVENTS):
            await happen()
        await account.control.advance(1)
        seen = [item["id"] for item in await account.walk(*_LOGS[log])]

    assert len(seen) == 2 * _EVENTS
    assert len(set(seen)) == different
    assert seen == sorted(seen)


async def test_the_date_of_an_event_is_when_it_happened_not_when_it_became_readable(simulator: Simulated) -> None:
    async with simulator() as account:
        happen = await _prepared(account, "clicks")
        await happen()
        await account.control.advance(0.4)
        early = await account.walk("/clicks", "clicks")
        await account.control.advance(60)
        (late,) = await account.walk("/clicks", "clicks")

    assert early == []
    assert late["creationDate"] == "2026-01-01T00:00:00Z"


async def test_with_jitter_a_new_recipient_appears_behind_a_reader(simulator: Simulated) -> None:
    async with simulator({"recipient_delay_ms": 100, "recipient_delay_jitter_ms": 5000}) as account:
        reader = _Reader(account, "/recipients", "recipients", overlap_polls=0)
        overlapping = _Reader(account, "/recipients", "recipients", overlap_polls=12)
        ids = (await account.control("POST", "/recipients", [{"email": somebody()} for _ in range(30)]))["ids"]
        for _ in range(12):
            await account.control.advance(0.5)
            await reader.poll()
            await overlapping.poll()
        everything = [item["id"] for item in await account.walk("/recipients", "recipients")]

    assert everything == ids
    assert set(overlapping.ids) == set(ids)
    assert set(reader.ids) < set(ids)


@pytest.mark.parametrize("ids", ["visibility", "creation"])
async def test_chosen_entries_leave_the_write_buffer_on_request(simulator: Simulated, ids: str) -> None:
    async with simulator({"event_delay_ms": 3_600_000, "event_ids": ids}) as account:
        first, second = somebody(), somebody()
        for email in (first, second):
            await account.control.person("subscribe", 7, email)
        await account.control("POST", "/events/subscriptions/release", {"emails": [second]})
        early = [item["email"] for item in (await account.get("/events/subscriptions")).items("subscription-events")]
        told = await account.control("POST", "/events/subscriptions/release", {})
        late = (await account.get("/events/subscriptions")).items("subscription-events")

    assert early == [second]
    assert (told["released"], told["buffered"]) == (1, 0)
    assert [item["email"] for item in late] == ([second, first] if ids == "visibility" else [first, second])
