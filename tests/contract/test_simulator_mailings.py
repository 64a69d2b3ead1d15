"""Mailings at the simulator: sent to a list, reacted to in bulk, counted, and what a missing permission hides."""

import time
from typing import Any

import pytest

from tests.contract.account import Account, somebody
from tests.contract.conftest import Simulated

_LIST = 7
_AT_ONCE = {"event_delay_ms": 0}


async def _people(account: Account, *permissions: str) -> list[int]:
    people = [
        {
            "email": somebody(),
            "memberships": [{"list_id": _LIST, "state": "SUBSCRIBED", "tracking_permission": permission}],
        }
        for permission in permissions
    ]
    ids: list[int] = (await account.control("POST", "/recipients", people))["ids"]
    return ids


async def _sent(account: Account, **more: object) -> int:
    """A mailing to the list, sent to whoever is on it now; the id of the sending."""
    mailing = await account.control("POST", "/mailings", {"list_id": _LIST})
    made = await account.control("POST", "/sendings", {"mailing_id": mailing["id"], **more})
    return int(made["id"])


async def _react(account: Account, kind: str, sending_id: int, **more: object) -> Any:
    return await account.control("POST", f"/reactions/{kind}", {"sending_id": sending_id, **more})


async def test_a_sending_goes_to_whoever_is_subscribed_at_that_moment(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        early = await _people(account, "GRANTED", "DENIED")
        (left,) = await _people(account, "GRANTED")
        await account.control("PATCH", f"/recipients/{left}", {"memberships": [{"list_id": 7, "state": "NONE"}]})
        sending = await _sent(account)
        await _people(account, "GRANTED")
        entries = await account.walk(f"/sendings/{sending}/protocol", "protocol-entries")

    assert [(entry["recipientId"], entry["state"]) for entry in entries] == [(id_, "SENT") for id_ in early]


async def test_some_mails_of_a_sending_can_be_made_to_fail(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        await _people(account, *["GRANTED"] * 10)
        sending = await _sent(account, states={"ADDRESS_REJECTED": 2, "MUST_ATTRIBUTE": 1})
        entries = await account.walk(f"/sendings/{sending}/protocol", "protocol-entries")
        figures = (await account.get("/statistics/sendings?mailingId=1")).body
        reacted = await _react(account, "clicks", sending)
        missed = [entry["recipientId"] for entry in entries if entry["state"] != "SENT"]
        body = {"sending_id": sending, "recipients": missed}
        await account.control("POST", "/reactions/clicks", body, expect=400)

    assert sorted(entry["state"] for entry in entries) == ["ADDRESS_REJECTED"] * 2 + ["MUST_ATTRIBUTE"] + ["SENT"] * 7
    assert (figures["recipientsCount"], figures["deliveredMailsCount"]) == (10, 7)
    assert reacted["reactions"] == 7


async def test_the_permission_at_the_moment_of_a_reaction_decides_for_good(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        granted, denied = await _people(account, "GRANTED", "DENIED")
        sending = await _sent(account)
        await _react(account, "clicks", sending)
        change = {"memberships": [{"list_id": _LIST, "state": "SUBSCRIBED", "tracking_permission": "GRANTED"}]}
        await account.control("PATCH", f"/recipients/{denied}", change)
        change["memberships"][0]["tracking_permission"] = "DENIED"
        await account.control("PATCH", f"/recipients/{granted}", change)
        await _react(account, "clicks", sending)
        shown = await account.walk("/clicks?embedded=inx:recipient", "clicks")
        tracked = await account.walk("/clicks?trackedOnly=true", "clicks")
        await account.control.options(untracked_reactions="named")
        named = await account.walk("/clicks", "clicks")

    assert [click["recipientId"] for click in shown] == [granted, None, None, denied]
    assert ["_embedded" in click for click in shown] == [True, False, False, True]
    assert [click["recipientId"] for click in tracked] == [granted, denied]
    assert [click["recipientId"] for click in named] == [granted, denied] * 2


async def test_the_reaction_of_a_deleted_recipient_keeps_the_id_and_embeds_nobody(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        (gone,) = await _people(account, "GRANTED")
        sending = await _sent(account)
        for kind in ("clicks", "bounces", "web-beacon-hits"):
            await _react(account, kind, sending)
        await account.delete(f"/recipients/{gone}")
        found = [
            (await account.get(f"/{path}?embedded=inx:recipient")).items(relation)[0]
            for path, relation in [
                ("clicks", "clicks"),
                ("bounces", "bounces"),
                ("web-beacon-hits", "web-beacon-hits"),
                (f"sendings/{sending}/protocol", "protocol-entries"),
            ]
        ]
        later = await _react(account, "clicks", sending)
        clicks = await account.walk("/clicks?trackedOnly=true", "clicks")

    assert [(item["recipientId"], "_embedded" in item) for item in found] == [(gone, False)] * 4
    assert (later["reactions"], len(clicks)) == (1, 1)  # without a membership there is no permission


async def test_a_bounce_shows_in_the_protocol_and_in_the_statistics(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        hard, soft, _ = await _people(account, "GRANTED", "DENIED", "GRANTED")
        sending = await _sent(account)
        await _react(account, "bounces", sending, recipients=[hard])
        address = (await account.get(f"/recipients/{soft}")).body["email"].upper()
        await _react(account, "bounces", sending, recipients=[soft, address], category="SOFT")
        entries = await account.walk(f"/sendings/{sending}/protocol", "protocol-entries")
        softly = await account.walk(f"/bounces?bounceCategory=SOFT&listId={_LIST}", "bounces")
        elsewhere = await account.walk("/bounces?listId=8", "bounces")
        figures = (await account.get("/statistics/sendings?mailingId=1")).body

    assert [entry["state"] for entry in entries] == ["HARDBOUNCE", "SOFTBOUNCE", "SENT"]
    assert [(item["recipientId"], item["bounceCategory"]) for item in softly] == [(soft, "SOFT")] * 2
    assert elsewhere == []
    assert (figures["deliveredMailsCount"], figures["bounceCount"]) == (1, 3)


async def test_statistics_are_what_the_events_say(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        await _people(account, *["GRANTED", "DENIED"] * 50)
        sending = await _sent(account)
        await account.control.options(untracked_reactions="named")
        await _react(account, "web-beacon-hits", sending, count=30)
        await _react(account, "clicks", sending, count=40)
        await _react(account, "clicks", sending, count=7, link_type="UNSUBSCRIBE")
        await _react(account, "bounces", sending, count=5, category="UNKNOWN")
        hits, clicks, bounces = [
            await account.walk(f"/{kind}?pageSize=1000", kind) for kind in ("web-beacon-hits", "clicks", "bounces")
        ]
        responses = (await account.get("/statistics/responses?mailingId=1")).body
        sent = (await account.get("/statistics/sendings?mailingId=1")).body

    assert responses["openingRecipients"] == len({hit["recipientId"] for hit in hits})
    assert responses["clickingRecipients"] == len({click["recipientId"] for click in clicks})
    assert responses["unsubscribeClicks"] == sum(click["linkType"] == "UNSUBSCRIBE" for click in clicks) == 7
    assert sent["bounceCount"] == len(bounces) == 5
    assert sent["deliveredMailsCount"] == 100 - len({bounce["recipientId"] for bounce in bounces})


async def test_reactions_spread_over_time_are_drawn_by_the_seed(simulator: Simulated) -> None:
    async def drawn(seed: int) -> list[tuple[int, str]]:
        async with simulator(_AT_ONCE, seed=seed) as account:
            await _people(account, *["GRANTED"] * 20)
            await _react(account, "clicks", await _sent(account), count=30, spread_seconds=3600)
            return [(c["recipientId"], c["creationDate"]) for c in await account.walk("/clicks", "clicks")]

    first, again, other = await drawn(1), await drawn(1), await drawn(2)

    assert first == again != other
    assert len({date for _, date in first}) > 10


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [1, 2, 3, 4]),
        ("types=ACTION_MAILING,REGULAR_MAILING", [1, 2, 3, 4]),
        ("types=ACTION_MAILING", [4]),
        ("listIds=8,9", [3]),
        ("isApproved=false", [2]),
        ("readyToSend=true", [3, 4]),
        ("hasSending=true", [1]),
        ("hasSending=false&isApproved=true", [3, 4]),
        ("createdAfter=2026-01-01T00:01:00Z", [3, 4]),
        ("createdBefore=2026-01-01T00:01:00Z", [1, 2]),
        ("modifiedAfter=2026-01-01T00:01:00Z", [1, 3, 4]),
        ("modifiedBefore=2026-01-01T00:01:00Z", [2]),
        ("sentAfter=2026-01-01T00:02:00Z", [1]),
        ("sentAfter=2026-01-01T00:02:01Z", []),
    ],
)
async def test_mailings_are_found_by(simulator: Simulated, query: str, found: list[int]) -> None:
    async with simulator(_AT_ONCE) as account:
        await account.control("POST", "/mailings", {"list_id": 7})
        await account.control("POST", "/mailings", {"list_id": 7, "approved": False})
        await account.control.advance(60)
        await account.control("POST", "/mailings", {"list_id": 8})
        await account.control("POST", "/mailings", {"list_id": 7, "type": "ACTION_MAILING"})
        await account.control.advance(60)
        await account.control("POST", "/sendings", {"mailing_id": 1})
        mailings = await account.walk(f"/mailings?{query}", "mailings")
        regular = await account.walk(f"/regular-mailings?{query}", "regular-mailings")

    assert [mailing["id"] for mailing in mailings] == found
    if "types" not in query:
        assert [mailing["id"] for mailing in regular] == [id_ for id_ in found if id_ != 4]


async def test_an_approved_mailing_is_sent_once_through_the_api(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        await _people(account, "GRANTED")
        await account.control("POST", "/mailings", {"list_id": 7})
        await account.control("POST", "/mailings", {"list_id": 7, "approved": False})
        before = (await account.get("/regular-mailings/1")).body["state"]
        replies = [await account.post("/sendings", {"mailingId": id_}) for id_ in (1, 1, 2, 3)]
        states = [item["state"] for item in await account.walk("/regular-mailings", "regular-mailings")]
        found = await account.walk("/regular-mailings?mailingStates=DRAFT,APPROVED", "regular-mailings")
        sendings = await account.walk("/sendings", "sendings")

    assert [reply.status for reply in replies] == [201, 400, 400, 404]
    assert replies[1].body["type"] == "unresolvable-request"
    assert (before, states) == ("APPROVED", ["SENT", "DRAFT"])
    assert [item["id"] for item in found] == [2]
    assert sendings == [replies[0].body]


async def test_a_list_that_is_deleted_takes_its_target_groups_and_leaves_its_mailings(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        await _people(account, "GRANTED")
        await account.post("/target-groups", {"listId": 7, "name": "a"})
        sending = await _sent(account)
        await account.delete("/lists/7")
        groups = await account.walk("/target-groups", "target-groups")
        await _react(account, "clicks", sending)
        clicks = await account.walk("/clicks", "clicks")
        state = await account.control("GET", "/state")

    assert groups == []
    assert [click["recipientId"] for click in clicks] == [None]  # without the list there is no permission left
    assert (state["mailings"], state["target_groups"]) == (1, 0)


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"listId": 7, "name": "TAKEN"}, 409),
        ({"listId": 8, "name": "taken"}, 201),
        ({"listId": 99, "name": "x"}, 404),
        ({"listId": 7}, 400),
        ({"name": "x"}, 400),
    ],
)
async def test_a_target_group_needs_a_list_and_a_name_of_its_own(
    simulator: Simulated, document: dict[str, object], status: int
) -> None:
    async with simulator() as account:
        await account.post("/target-groups", {"listId": 7, "name": "taken"})
        reply = await account.post("/target-groups", document)

    assert reply.status == status


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        ("/mailings", {"list_id": 99}, 400),
        ("/sendings", {"mailing_id": 99}, 400),
        ("/sendings", {"mailing_id": 1, "states": {"ERROR": 5}}, 400),
        ("/reactions/clicks", {"sending_id": 99}, 400),
        ("/reactions/clicks", {"sending_id": 1, "recipients": [99]}, 400),
        ("/reactions/clicks", {"sending_id": 1, "recipients": ["nobody@verteiler.example"]}, 400),
        ("/reactions/clicks", {"sending_id": 1, "count": -1}, 400),
        ("/reactions/yawns", {"sending_id": 1}, 404),
        ("/events/clicks", {"list_id": 7, "type": "X"}, 404),
    ],
)
async def test_a_deed_that_makes_no_sense_says_why(
    simulator: Simulated, path: str, document: dict[str, object], status: int
) -> None:
    async with simulator() as account:
        await _people(account, "GRANTED")
        await _sent(account)
        reply = await account.control("POST", path, document, expect=status)

    assert reply["error"]


async def test_reactions_come_by_the_hundred_thousand_and_page_quickly(simulator: Simulated) -> None:
    async with simulator(_AT_ONCE) as account:
        await _people(account, *["GRANTED"] * 1000)
        sending = await _sent(account)
        began = time.perf_counter()
        made = await _react(account, "clicks", sending, count=100_000)
        appended = time.perf_counter()
        clicks = await account.walk("/clicks?pageSize=1000", "clicks")
        paged = time.perf_counter()

    assert made["reactions"] == made["last_visible_id"] == len(clicks) == 100_000
    assert 100_000 / (appended - began) > 5_000
    assert 100_000 / (paged - appended) > 3_000
