"""The sample people: always the same for a seed, and as awkward as real ones."""

import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.smartwe.names import slug, words
from connectors.smartwe.population import COLUMNS, Population, Room
from connectors.smartwe.sample import ClientTargets, target_faults
from schemas.ids import normalise_email

ROOMS = (Room("A" * 32, ("a",), 0.6), Room("B" * 32, ("b",), 0.4), Room("C" * 32, ("a", "b"), 0.2))
Rows = dict[str, list[dict[str, Any]]]


def drawn(addresses: int, seed: int = 1, batch: int = 500) -> Rows:
    rows: Rows = defaultdict(list)
    for part in Population(ROOMS, addresses=addresses, seed=seed).batches(batch):
        for table, records in part.items():
            rows[table] += [dict(zip(COLUMNS[table], record, strict=True)) for record in records]
    return rows


@pytest.fixture(scope="module")
def people() -> Rows:
    return drawn(1_500)


def test_a_seed_always_draws_the_same_people(people: Rows) -> None:
    assert drawn(1_500) == people


def test_the_size_of_a_batch_does_not_change_who_is_drawn(people: Rows) -> None:
    assert drawn(1_500, batch=33) == people


def test_another_seed_draws_other_people(people: Rows) -> None:
    others = {row["gguid"] for row in drawn(200, seed=2)["address"]}

    assert others.isdisjoint(row["gguid"] for row in people["address"])


@pytest.mark.parametrize("addresses", [0, 1, 2, 3, 7, 501])
def test_exactly_as_many_people_are_drawn_as_were_asked_for(addresses: int) -> None:
    assert len(drawn(addresses, seed=5)["address"]) == addresses


def test_a_household_is_never_parted() -> None:
    for part in Population(ROOMS, addresses=2_000, seed=3).batches(50):
        here = {row[0] for row in part["address"]}
        companies = {row[COLUMNS["address"].index("company_gguid")] for row in part["address"]} - {None}

        assert companies <= here


def test_every_row_points_only_to_rows_of_tables_written_before_it(people: Rows) -> None:
    addresses = {row["gguid"] for row in people["address"]}
    profiles = {row["gguid"] for row in people["address_profile"]}
    consents = {row["gguid"] for row in people["consent"]}

    assert all(row["address_gguid"] in addresses for table in ("address_profile", "consent") for row in people[table])
    assert all(row["profile_gguid"] in profiles for row in people["profile_identifier"])
    assert {row["profile_gguid"] for row in people["distribution_recipient"]} <= profiles | {None}
    assert {row["consent_gguid"] for row in people["distribution_recipient"]} <= consents | {None}


def test_nobody_who_exists_can_be_mailed(people: Rows) -> None:
    told = [row["email1"] for row in people["address"]] + [row["email"] for row in people["consent"]]
    mailboxes = [normalise_email(email) for email in told if email]

    assert all(mailbox is None or mailbox.endswith(".example") for mailbox in mailboxes)


def test_the_same_mailbox_is_written_in_many_ways(people: Rows) -> None:
    told = [row["email1"] for row in people["address"] if row["email1"]]

    assert any(email != email.strip() for email in told)
    assert any(email.isupper() for email in told)
    assert any(not email.isascii() for email in told)
    assert any("xn--" in email for email in told)
    assert any("+" in email for email in told)
    assert any(normalise_email(email) is None for email in told)


def test_some_mailboxes_are_claimed_by_two_or_three_people(people: Rows) -> None:
    claimants: dict[str, int] = defaultdict(int)
    for row in people["address"]:
        if row["email1"] and (mailbox := normalise_email(row["email1"])):
            claimants[mailbox] += 1

    assert set(claimants.values()) >= {1, 2, 3}


def test_everybody_who_shares_a_mailbox_offers_a_proof_of_the_same_kind(people: Rows) -> None:
    kinds: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in people["consent"]:
        if row["kind"] != "withdrawal" and row["distribution_gguid"]:
            kinds[row["baf_client_id"], row["distribution_gguid"], normalise_email(row["email"]) or ""].add(row["kind"])

    assert {len(found) for place, found in kinds.items() if place[2]} == {1}


def test_every_kind_of_person_and_proof_occurs(people: Rows) -> None:
    assert {row["kind"] for row in people["address"]} == {"person", "contact_person", "company"}
    assert {row["kind"] for row in people["consent"]} == {
        "doi", "written", "single_opt_in", "existing_customer", "imported_unproven", "withdrawal",
    }  # fmt: skip
    assert {row["desired_reason"] for row in people["distribution_recipient"]} >= {"manual", "person_request"}
    for flag in ("is_deactivated", "is_objected_global", "deleted_at", "birthday", "x_revenue"):
        assert any(row[flag] for row in people["address"]), flag
    for column in ("profile_gguid", "email_override", "pin_leading"):
        assert any(row[column] for row in people["distribution_recipient"]), column


def test_a_double_opt_in_has_both_dates_and_only_it_has_level_3(people: Rows) -> None:
    for row in people["consent"]:
        both = row["requested_at"] is not None and row["confirmed_at"] is not None

        assert both == (row["kind"] == "doi") == (row["proof_level"] == 3)
        assert not both or row["requested_at"] < row["confirmed_at"]


def test_every_proof_lies_in_the_past_whenever_the_sample_is_loaded(people: Rows) -> None:
    newest = max(row["confirmed_at"] or row["captured_at"] for row in people["consent"])

    assert newest < datetime(2026, 1, 1, tzinfo=UTC)


def test_the_words_can_stand_in_an_address() -> None:
    lists = words()

    for word in (*lists.female, *lists.male, *lists.surnames, *lists.trades):
        assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z]", slug(word)), word


def test_all_faults_of_the_targets_are_named_at_once() -> None:
    targets = {"a": ClientTargets((), {}), "b": ClientTargets((1,), {"shoe_size": 4, "town": 5})}

    faults = target_faults(["a", "b", "c"], targets, {"town"})

    assert faults == [
        "client a offers no list",
        "crm.address has no column shoe_size (client b)",
        "client c has no targets",
    ]
