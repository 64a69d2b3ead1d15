"""Who must be subscribed: the rules, told as small stories in a CRM, and what is then expected."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from connectors.smartwe.expectation import Value, expected_memberships
from schemas.ids import KeyRing
from tests.crm_database import KEY, CrmDatabase, crm_database

pytestmark = pytest.mark.stack

LIST, OTHER_LIST = 11, 12
PROVED = datetime(2024, 5, 1, 12, tzinfo=UTC)
BEFORE, AFTER = PROVED - timedelta(days=1), PROVED + timedelta(days=1)
EMAIL = "anna@x.example"


@dataclass
class Story:
    """A CRM with one list in each of two clients and another list in the first; all is taken back at the end."""

    session: "asyncpg.Connection[asyncpg.Record]"
    distribution: str
    other: str

    async def insert(self, table: str, **row: Any) -> str:
        columns, places = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))
        found = await self.session.fetchval(
            f"insert into crm.{table} ({columns}) values ({places}) returning gguid", *row.values()
        )
        return str(found)

    async def person(self, email: str | None = EMAIL, **row: Any) -> str:
        return await self.insert("address", email1=email, **row)

    async def join(self, person: str, client: str = "a", **row: Any) -> str:
        row = {"distribution_gguid": self.distribution, **row}
        return await self.insert("distribution_recipient", baf_client_id=client, address_gguid=person, **row)

    async def agree(self, person: str | None, kind: str = "written", at: datetime = PROVED, **row: Any) -> str:
        row = {"baf_client_id": "a", "distribution_gguid": self.distribution, "captured_at": at, **row}
        return await self.insert("consent", address_gguid=person, kind=kind, **row)

    async def member(self, email: str = EMAIL, **row: Any) -> str:
        """Somebody who joined the list and agreed in writing."""
        person = await self.person(email, **row)
        await self.join(person)
        await self.agree(person)
        return person

    async def suppress(self, reason: str = "unsubscribe", scope: str = "list", **row: Any) -> None:
        places = {
            "list": {"baf_client_id": "a", "distribution_gguid": self.distribution},
            "client": {"baf_client_id": "a"},
        }
        if "pattern" not in row:
            row = {"email_hmac": KeyRing([KEY]).email_hash(EMAIL), **row}
        await self.insert("suppression", reason=reason, scope=scope, **(places.get(scope, {}) | {"since": AFTER} | row))

    async def expected(self) -> dict[tuple[str, int, str], dict[int, Value]]:
        ring = KeyRing([b"a newer key that writes now", KEY])
        found = await expected_memberships(self.session, email_hashes=ring.email_hashes)
        return {place: membership.values for place, membership in found.items()}

    async def places(self) -> set[tuple[str, int, str]]:
        return set(await self.expected())


@pytest.fixture(scope="module")
async def crm(stack_home: Path) -> AsyncIterator[CrmDatabase]:
    async with crm_database(stack_home, f"verteiler_{uuid.uuid4().hex[:12]}") as crm:
        yield crm


@pytest.fixture
async def story(crm: CrmDatabase) -> AsyncIterator[Story]:
    attempt = crm.admin.transaction(isolation="repeatable_read")
    await attempt.start()
    story = Story(crm.admin, crm.distribution, "")
    story.other = await story.insert("distribution", title="Anderes")
    await story.insert("baf_client", baf_client_id="b")
    for distribution, client, list_id in (
        (crm.distribution, "a", LIST),
        (story.other, "a", OTHER_LIST),
        (crm.distribution, "b", 21),
    ):
        await story.insert(
            "distribution_binding", distribution_gguid=distribution, baf_client_id=client, inxmail_list_id=list_id
        )
    yield story
    await attempt.rollback()


HERE = {("a", LIST, EMAIL)}


async def test_a_member_with_a_proof_is_expected_in_that_client_and_list_alone(story: Story) -> None:
    person = await story.member()
    await story.join(person, "b")
    await story.join(person, distribution_gguid=story.other)

    assert await story.places() == HERE


async def test_a_member_without_a_proof_is_not(story: Story) -> None:
    await story.join(await story.person())

    assert await story.places() == set()


@pytest.mark.parametrize(
    ("required", "proof", "enough"),
    [
        ({}, {"kind": "written"}, True),
        ({}, {"kind": "single_opt_in"}, False),
        ({}, {"kind": "existing_customer", "proof_level": 2}, True),
        ({"required_proof": 1}, {"kind": "single_opt_in"}, True),
        ({"required_proof": 1}, {"kind": "imported_unproven"}, False),
        ({"requires_doi": True}, {"kind": "written", "proof_level": 3}, False),
        ({"requires_doi": True}, {"kind": "doi", "requested_at": PROVED, "proof_level": 3}, False),
        ({"requires_doi": True}, {"kind": "doi", "requested_at": PROVED, "confirmed_at": PROVED}, True),
        ({}, {"kind": "doi", "requested_at": PROVED, "proof_level": 3}, True),
        ({}, {"kind": "written", "distribution_gguid": None}, True),
        ({}, {"kind": "written", "baf_client_id": "b"}, False),
        ({}, {"kind": "written", "email": "old@x.example"}, False),
        ({}, {"kind": "written", "valid_to": AFTER}, False),
        ({}, {"kind": "tracking_grant", "proof_level": 3}, False),
    ],
)
async def test_the_proof_must_reach_the_level_of_the_list(
    story: Story, required: dict[str, Any], proof: dict[str, Any], enough: bool
) -> None:
    for column, value in required.items():
        await story.session.execute(f"update crm.distribution set {column} = $1", value)
    person = await story.person()
    await story.join(person)
    await story.agree(person, **proof)

    assert await story.places() == (HERE if enough else set())


@pytest.mark.parametrize(
    ("at", "stays"), [(BEFORE, True), (PROVED - timedelta(seconds=59), False), (PROVED, False), (AFTER, False)]
)
@pytest.mark.parametrize("kind", ["withdrawal", "objection"])
async def test_a_proof_must_be_newer_than_every_objection_by_more_than_the_skew(
    story: Story, kind: str, at: datetime, stays: bool
) -> None:
    person = await story.member()
    await story.agree(person, kind, at)

    assert await story.places() == (HERE if stays else set())


@pytest.mark.parametrize(
    ("scope", "covers"),
    [
        ({}, True),
        ({"distribution_gguid": None}, True),
        ({"distribution_gguid": None, "baf_client_id": None}, True),
        ({"baf_client_id": "b"}, False),
        ({"distribution_gguid": ...}, False),
    ],
)
async def test_a_wider_objection_covers_the_narrower_places(story: Story, scope: dict[str, Any], covers: bool) -> None:
    scope = {name: story.other if value is ... else value for name, value in scope.items()}
    person = await story.member()
    await story.agree(person, "objection", AFTER, **scope)

    assert await story.places() == (set() if covers else HERE)


async def test_an_objection_to_everybody_outlives_a_newer_proof(story: Story) -> None:
    person = await story.member()
    await story.agree(person, "objection", BEFORE, baf_client_id=None, distribution_gguid=None)

    assert await story.places() == set()


async def test_an_objection_is_the_persons_under_a_new_address_and_nobody_elses(story: Story) -> None:
    anna = await story.member("anna.neu@x.example")
    await story.agree(anna, "withdrawal", AFTER, email="anna.alt@x.example")
    await story.member("bernd@x.example")

    assert await story.places() == {("a", LIST, "bernd@x.example")}


async def test_an_objection_from_a_shared_mailbox_is_everybodys(story: Story) -> None:
    await story.member("info@x.example")
    other = await story.member("INFO@x.example")
    await story.agree(other, "withdrawal", AFTER)

    assert await story.places() == set()


async def test_a_proof_counts_from_the_mailbox_whoever_gave_it(story: Story) -> None:
    await story.join(await story.person())
    await story.agree(None, email=EMAIL.upper())

    assert await story.places() == HERE


@pytest.mark.parametrize(
    ("row", "stays"),
    [
        ({}, False),
        ({"since": BEFORE}, True),
        ({"scope": "client"}, False),
        ({"scope": "global", "since": BEFORE}, False),
        ({"since": BEFORE, "reason": "complaint"}, False),
        ({"since": BEFORE, "reason": "complaint", "lifted": True}, True),
        ({"reason": "complaint", "lifted": True}, False),
        ({"until": AFTER}, True),
        ({"deleted_at": AFTER}, True),
        ({"baf_client_id": "b"}, True),
        ({"match": "pattern", "pattern": "*@X.example"}, False),
        ({"match": "pattern", "pattern": "an_a@x.example"}, True),
        ({"match": "pattern", "pattern": " ANNA@x.example"}, False),
        ({"email_hmac": b"\x01" * 32}, True),
    ],
)
async def test_a_suppression_holds_by_hash_and_by_pattern(story: Story, row: dict[str, Any], stays: bool) -> None:
    person = await story.member()
    if row.pop("lifted", False):
        row = {**row, "lifted_by_consent_gguid": await story.agree(person)}
    await story.suppress(**row)

    assert await story.places() == (HERE if stays else set())


@pytest.mark.parametrize(
    "statement",
    [
        "update crm.address set is_deactivated = true",
        "update crm.address set deleted_at = now()",
        "update crm.address set email1 = ' '",
        "update crm.address set email1 = 'kein@'",
        "update crm.address set email1 = 'other@x.example'",
        "update crm.distribution_recipient set deleted_at = now()",
        "update crm.distribution_recipient set desired = 'not_member'",
        "update crm.distribution_recipient set email_override = 'other@x.example'",
        "update crm.distribution set deleted_at = now()",
        "update crm.distribution_binding set state = 'paused'",
        "update crm.distribution_binding set direction = 'in'",
        "update crm.distribution_binding set deleted_at = now()",
        "update crm.distribution_binding set inxmail_list_id = null",
        "update crm.distribution_binding set email_field = 'email2'",
        "update crm.baf_client set state = 'paused'",
    ],
)
async def test_nobody_is_expected_any_more_after(story: Story, statement: str) -> None:
    await story.member()
    assert await story.places() == HERE

    await story.session.execute(statement)

    assert await story.places() == set()


async def test_spellings_of_one_mailbox_are_one(story: Story) -> None:
    for email in ("anna@müller.example", " ANNA@Müller.example", "anna@xn--mller-kva.example"):
        await story.member(email)

    assert await story.places() == {("a", LIST, "anna@xn--mller-kva.example")}


async def test_a_profile_brings_its_own_mailbox_until_it_is_deleted(story: Story) -> None:
    await story.insert("channel", code="c")
    await story.insert("source", code="s")
    person = await story.person("master@x.example")
    profile = await story.insert(
        "address_profile", address_gguid=person, channel_code="c", source_code="s", email="profile@x.example"
    )
    await story.join(person, profile_gguid=profile)
    await story.agree(person)
    assert await story.places() == {("a", LIST, "profile@x.example")}

    await story.session.execute("update crm.address_profile set deleted_at = now()")

    assert await story.places() == set()


async def show(story: Story, *fields: str, **row: Any) -> None:
    for number, field in enumerate(fields, start=1):
        mapped = {"baf_client_id": "a", "crm_table": "address", "null_policy": "clear", **row}
        await story.insert("field_mapping", crm_field=field, inxmail_attribute_id=number, **mapped)


async def test_values_are_shown_as_the_mapping_says(story: Story) -> None:
    await show(story, "first_name", "town", "birthday", "x_revenue", "x_newsletter_topics", scale=2)
    await story.member(
        first_name=" Zoe\u0308 ", town="", birthday=date(1980, 1, 31), x_revenue=Decimal("10.005"),
        x_newsletter_topics=["Messen", "Rezepte"],
    )  # fmt: skip

    (values,) = (await story.expected()).values()
    assert values == {1: "Zoë", 2: None, 3: date(1980, 1, 31), 4: Decimal("10.01"), 5: "Messen|Rezepte"}


@pytest.mark.parametrize(
    "row",
    [{"null_policy": "leave"}, {"state": "broken"}, {"direction": "in"}, {"baf_client_id": "b"}, {"transform": "x"}],
)
async def test_nothing_is_promised_of_an_attribute_that_nothing_is_written_to(
    story: Story, row: dict[str, Any]
) -> None:
    await show(story, "town", **row)
    await story.member()

    assert list((await story.expected()).values()) == [{}]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({}, {"pin_leading": True, "inserttimestamp": AFTER}, id="the pinned one"),
        pytest.param({}, {"proof": "doi", "inserttimestamp": AFTER}, id="the better proof"),
        pytest.param({}, {"inserttimestamp": BEFORE}, id="the older row"),
        pytest.param({"gguid": "F" * 32}, {"gguid": "0" * 32}, id="the smaller key"),
        pytest.param({"deactivated": True, "pin_leading": True}, {}, id="the one who is still there"),
    ],
)
async def test_one_of_those_who_share_a_mailbox_leads(
    story: Story, first: dict[str, Any], second: dict[str, Any]
) -> None:
    await show(story, "first_name")
    for special, name in ((first, "Follows"), (second, "Leads")):
        row = {"inserttimestamp": PROVED, **special}
        person = await story.person(first_name=name, is_deactivated=row.pop("deactivated", False))
        await story.agree(person, row.pop("proof", "written"), requested_at=PROVED, confirmed_at=PROVED)
        await story.join(person, **row)

    assert await story.expected() == {("a", LIST, EMAIL): {1: "Leads"}}
