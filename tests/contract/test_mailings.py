"""Mailings, sendings, reactions, statistics and target groups, as a CRM reads them."""

from typing import Any, NamedTuple

import pytest

from tests.contract.account import Account, eventually, somebody

_MAILING_TYPES = {
    "REGULAR_MAILING",
    "ACTION_MAILING",
    "TIME_TRIGGER_MAILING",
    "SUBSCRIPTION_TRIGGER_MAILING",
    "SPLIT_TEST_MAILING",
}
_PROTOCOL_STATES = {
    "NOT_SENT",
    "SENT",
    "RECIPIENT_NOT_FOUND",
    "ERROR",
    "ADDRESS_REJECTED",
    "HARDBOUNCE",
    "SOFTBOUNCE",
    "UNKNOWNBOUNCE",
    "SPAMBOUNCE",
    "MUST_ATTRIBUTE",
    "NO_MAIL",
}
_COLLECTIONS = [
    ("mailings", "mailings"),
    ("regular-mailings", "regular-mailings"),
    ("sendings", "sendings"),
    ("bounces", "bounces"),
    ("clicks", "clicks"),
    ("web-beacon-hits", "web-beacon-hits"),
    ("target-groups", "target-groups"),
    ("blacklist-entries", "blacklist-entries"),
]
_REACTIONS = ["bounces", "clicks", "web-beacon-hits"]


class Sent(NamedTuple):
    mailing_id: int
    list_id: int
    sending_id: int


@pytest.fixture(scope="session")
async def sent(api: Account) -> Sent:
    """A mailing that was sent and reacted to: made in the simulator, looked for in a real account."""
    if not api.simulated:
        for sending in (await api.get("/sendings?pageSize=50")).items("sendings"):
            mailing = (await api.get(f"/mailings/{sending['mailingId']}")).body
            return Sent(mailing["id"], mailing["listId"], sending["id"])
        pytest.skip("nothing was ever sent from this account")
    body = {"name": "contract reactions", "type": "STANDARD", "senderAddress": "sender@verteiler.example"}
    list_id = (await api.post("/lists", body)).body["id"]
    people = [
        {
            "email": somebody(),
            "attributes": {"Ort": "Ulm"},
            "memberships": [{"list_id": list_id, "state": "SUBSCRIBED", "tracking_permission": permission}],
        }
        for permission in ("GRANTED", "DENIED", "GRANTED")
    ]
    await api.control("POST", "/recipients", people)
    mailing_id = (await api.control("POST", "/mailings", {"list_id": list_id}))["id"]
    sending_id = (await api.control("POST", "/sendings", {"mailing_id": mailing_id}))["id"]
    for kind in _REACTIONS:
        await api.control("POST", f"/reactions/{kind}", {"sending_id": sending_id, "delay_ms": 0})
    found = Sent(mailing_id, list_id, sending_id)

    async def look() -> list[dict[str, Any]] | None:
        return await api.walk(f"/sendings/{sending_id}/protocol", "protocol-entries") or None

    await eventually(look, why="the protocol did not become readable")
    return found


@pytest.mark.parametrize(("path", "relation"), _COLLECTIONS)
async def test_a_collection_pages_in_ascending_id_and_ends_in_an_upcoming_link(
    api: Account, sent: Sent, path: str, relation: str
) -> None:
    reply = await api.get(f"/{path}?pageSize=2")
    ids = [item["id"] for item in reply.items(relation)]
    pages = 1
    while (href := reply.link("next")) and pages < 5:
        assert reply.link("inx:upcoming") is None
        reply = await api.get(href)
        ids += [item["id"] for item in reply.items(relation)]
        pages += 1

    assert reply.status == 200
    assert ids == sorted(set(ids))
    assert (reply.link("next") is None) is (reply.link("inx:upcoming") is not None)


@pytest.mark.parametrize(
    "query",
    [
        "/mailings?createdAfter={t}&createdBefore={u}&modifiedAfter={t}&modifiedBefore={u}&sentAfter={t}"
        "&types=REGULAR_MAILING&listIds={l}&readyToSend=false&isApproved=true&hasSending=true"
        "&embedded=inx:response-statistics,inx:sending-statistics",
        "/regular-mailings?sentAfter={t}&sentBefore={u}&mailingStates=APPROVED,SENT&listIds={l}",
        "/sendings?mailingIds={m}&listIds={l}&sendingsFinishedAfterDate={t}&sendingsFinishedBeforeDate={u}",
        "/sendings/{s}/protocol?embedded=inx:recipient",
        "/bounces?startDate={t}&endDate={u}&bounceCategory=HARD&mailingIds={m}&sendingIds={s}&listIds={l}",
        "/bounces?listId={l}",
        "/clicks?sendingId={s}&mailingIds={m}&listIds={l}&trackedOnly=true&startDate={t}&endDate={u}",
        "/web-beacon-hits?sendingId={s}&mailingIds={m}&listIds={l}&trackedOnly=true&startDate={t}&endDate={u}",
        "/target-groups?listId={l}",
        "/blacklist-entries?lastModifiedSince={t}&patternContainsIgnoreCase=X",
        "/tracking-permissions?listIds={l}",
    ],
)
async def test_every_filter_that_is_known_is_taken(api: Account, sent: Sent, query: str) -> None:
    path = query.format(
        t="2000-01-01T00:00:00Z", u="2099-01-01T00:00:00Z", m=sent.mailing_id, s=sent.sending_id, l=sent.list_id
    )

    assert (await api.get(path)).status == 200


async def test_a_mailing_has_the_fields_that_are_known(api: Account, sent: Sent) -> None:
    mailing = (await api.get(f"/mailings/{sent.mailing_id}")).body
    (same,) = [
        item
        for item in await api.walk(f"/mailings?listIds={sent.list_id}&hasSending=true", "mailings")
        if item["id"] == sent.mailing_id
    ]

    assert {"id", "type", "listId", "name", "subject", "creationDate", "modificationDate"} <= set(mailing)
    assert mailing["type"] in _MAILING_TYPES
    assert same["name"] == mailing["name"]


async def test_a_mailing_embeds_its_statistics_when_asked(api: Account, sent: Sent) -> None:
    query = "embedded=inx:response-statistics&embedded=inx:sending-statistics"  # as a client in use sends it
    mailing = (await api.get(f"/mailings/{sent.mailing_id}?{query}")).body

    assert {"openingRecipients", "clickingRecipients", "unsubscribeClicks"} <= set(
        mailing["_embedded"]["inx:response-statistics"]
    )
    assert {"startDate", "recipientsCount", "deliveredMailsCount", "bounceCount"} <= set(
        mailing["_embedded"]["inx:sending-statistics"]
    )


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("responses", {"openingRecipients", "clickingRecipients", "unsubscribeClicks"}),
        ("sendings", {"startDate", "recipientsCount", "deliveredMailsCount", "bounceCount"}),
    ],
)
async def test_statistics_are_read_by_mailing(api: Account, sent: Sent, kind: str, fields: set[str]) -> None:
    reply = await api.get(f"/statistics/{kind}?mailingId={sent.mailing_id}")

    assert reply.status == 200
    assert fields <= set(reply.body)


async def test_a_sending_names_its_mailing_and_its_protocol_tells_what_became_of_each_mail(
    api: Account, sent: Sent
) -> None:
    sendings = await api.walk(f"/sendings?mailingIds={sent.mailing_id}", "sendings")
    entries = (await api.get(f"/sendings/{sent.sending_id}/protocol?pageSize=50")).items("protocol-entries")

    assert sent.sending_id in {item["id"] for item in sendings}
    assert {item["mailingId"] for item in sendings} == {sent.mailing_id}
    assert entries
    assert all(entry["recipientId"] and entry["state"] in _PROTOCOL_STATES for entry in entries)


@pytest.mark.parametrize("kind", _REACTIONS)
async def test_a_reaction_names_its_sending_and_embeds_its_recipient(api: Account, sent: Sent, kind: str) -> None:
    name = (await api.get("/attributes?pageSize=5")).items("attributes")[0]["name"]
    listed = (await api.get(f"/{kind}?mailingIds={sent.mailing_id}&pageSize=50")).items(kind)
    tracked = f"mailingIds={sent.mailing_id}&trackedOnly=True&embedded=inx:recipient&recipientAttributes={name}"
    people = [
        item["_embedded"]["inx:recipient"]
        for item in (await api.get(f"/{kind}?{tracked}&pageSize=50")).items(kind)
        if "_embedded" in item
    ]
    if not listed and not api.simulated:
        pytest.skip("nobody reacted in this way")

    assert listed
    assert all(item["id"] and item["sendingId"] for item in listed)
    assert not api.simulated or people
    assert all("@" in person["email"] and set(person["attributes"]) == {name} for person in people)


@pytest.mark.parametrize("kind", ["clicks", "web-beacon-hits"])
async def test_tracked_only_is_a_part_of_all(api: Account, sent: Sent, kind: str) -> None:
    everything = {item["id"] for item in await api.walk(f"/{kind}?sendingId={sent.sending_id}&pageSize=1000", kind)}
    query = f"/{kind}?sendingId={sent.sending_id}&trackedOnly=true&pageSize=1000"
    tracked = {item["id"] for item in await api.walk(query, kind)}

    assert tracked <= everything
    assert not api.simulated or (len(tracked), len(everything)) == (2, 3)


async def test_a_statistic_without_a_mailing_is_400(api: Account) -> None:
    reply = await api.get("/statistics/responses")

    assert (reply.status, reply.body["type"]) == (400, "missing-parameter")


@pytest.mark.parametrize("path", ["/mailings/999999999", "/sendings/999999999/protocol", "/target-groups/999999999"])
async def test_what_is_not_there_is_404(api: Account, path: str) -> None:
    assert (await api.get(path)).status == 404


async def test_a_target_group_is_created_read_by_list_replaced_and_deleted(writable: Account, list_id: int) -> None:
    made = await writable.post("/target-groups", {"listId": list_id, "name": "Stammkunden"})
    path = f"/target-groups/{made.body['id']}"
    replaced = await writable.request("PUT", path, {"name": "Neukunden", "description": "since spring"})
    same = await writable.request("PUT", path, {"name": "Neukunden", "description": "since spring"})
    found = await writable.walk(f"/target-groups?listId={list_id}", "target-groups")
    alone = await writable.get(path)
    deleted = await writable.delete(path)
    gone = await writable.get(path)

    assert (made.status, replaced.status, deleted.status, gone.status) == (201, 200, 204, 404)
    assert same.status == 200
    assert [(item["id"], item["listId"], item["name"]) for item in found] == [(made.body["id"], list_id, "Neukunden")]
    assert alone.body == found[0] == same.body
    assert {"creationDate", "modificationDate"} <= set(alone.body)


async def test_if_modified_since_is_honoured_on_target_groups(writable: Account, list_id: int) -> None:
    await writable.post("/target-groups", {"listId": list_id, "name": "Stammkunden"})
    path = f"/target-groups?listId={list_id}"
    old = await writable.request("GET", path, headers={"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"})
    new = await writable.request("GET", path, headers={"If-Modified-Since": "Thu, 01 Jan 2099 00:00:00 GMT"})

    assert len(old.items("target-groups")) == 1
    assert new.status == 304 or new.items("target-groups") == []
