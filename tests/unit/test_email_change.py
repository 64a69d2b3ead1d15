"""Until an e-mail change can be carried out, it is held."""

from streams.mailbox.claims import Standing
from streams.mailbox.email_change import settled
from tests.unit.test_mailbox_law import C, claim

OLD, NEW = "old@example.com", "new@example.com"


def test_a_claim_stays_with_the_mailbox_that_serves_it() -> None:
    held = settled({"R1": claim(email=NEW)}, {"R1": {(C, OLD)}}, frozenset())["R1"]

    assert (held.email, held.held_for) == (OLD, NEW)


def test_a_claim_that_nothing_serves_moves_freely() -> None:
    moved = settled({"R1": claim(email=NEW)}, {}, frozenset())["R1"]

    assert (moved.email, moved.held_for) == (NEW, None)


def test_another_spelling_of_the_same_mailbox_is_no_change() -> None:
    same = settled({"R1": claim(email=" OLD@Example.com ")}, {"R1": {(C, OLD)}}, frozenset())["R1"]

    assert (same.email, same.held_for) == (OLD, None)


def test_a_claim_leaves_a_mailbox_that_somebody_else_claims_too() -> None:
    moved = settled({"R1": claim(email=NEW)}, {"R1": {(C, OLD)}}, {(C, OLD)})["R1"]

    assert (moved.email, moved.held_for) == (NEW, None)


def test_both_memberships_of_one_person_are_held_together() -> None:
    claims = {"R1": claim("R1", email=NEW), "R2": claim("R2", email=NEW)}

    held = settled(claims, {"R1": {(C, OLD)}, "R2": {(C, OLD)}}, frozenset())

    assert {found.email for found in held.values()} == {OLD}


def test_an_emptied_address_is_not_held() -> None:
    left = settled({"R1": claim(email=None)}, {"R1": {(C, OLD)}}, frozenset())["R1"]

    assert (left.email, left.standing) == (None, Standing.EMAIL_MISSING)


def test_a_claim_whose_row_is_still_missing_stays_where_it_is_served() -> None:
    waiting = settled({"R1": claim(profile_gguid="Q")}, {"R1": {(C, OLD)}}, frozenset())["R1"]

    assert (waiting.email, waiting.standing) == (OLD, Standing.INCOMPLETE)


def test_the_same_address_served_by_another_client_is_no_predecessor() -> None:
    moved = settled({"R1": claim(email=NEW)}, {"R1": {("b", OLD)}}, frozenset())["R1"]

    assert moved.email == NEW
