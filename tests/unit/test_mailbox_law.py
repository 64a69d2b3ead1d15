"""The law of the mailbox, sentence by sentence, without any I/O."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.crm import SubscriptionState, SyncState
from schemas.facts import SubscriptionEvent, UnsubscriptionEvent
from schemas.mutations import DeliveryResult, Held, HeldList, Outcome, Version, Want
from schemas.smartwe import (
    Address,
    Binding,
    Client,
    Consent,
    Distribution,
    FieldMapping,
    Recipient,
    Suppression,
)
from streams.mailbox.claims import Claim, Person, Standing, claim_of
from streams.mailbox.desired import MailboxView, desired_mailbox, hash_of, is_to_be_told
from streams.mailbox.evidence import Record, matches
from streams.mailbox.status import status_of
from streams.mailbox.structure import Structure, structure_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SKEW = timedelta(seconds=60)
LIST = 7
D, C, B = "D" * 32, "a", "B" * 32


def day(number: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


def structure(*extra: Any, **distribution: Any) -> Structure:
    return structure_of(
        [
            Client(gguid="0" * 32, baf_client_id=C),
            Distribution(gguid=D, **distribution),
            Binding(gguid=B, distribution_gguid=D, baf_client_id=C, inxmail_list_id=LIST),
            FieldMapping("F1", C, "address", "first_name", 1),
            FieldMapping("F2", C, "address", "town", 2, null_policy="clear"),
            *extra,
        ]
    )


def claim(
    gguid: str = "R1",
    person: str = "P1",
    email: str | None = "ann@example.com",
    world: Structure | None = None,
    address: dict[str, Any] | None = None,
    **recipient: Any,
) -> Claim:
    columns = {"first_name": person, "town": None}
    row = Recipient(
        gguid=gguid,
        distribution_gguid=D,
        baf_client_id=C,
        address_gguid=person,
        **({"inserttimestamp": day(0)} | recipient),
    )
    someone = Person(Address(gguid=person, email1=email, **(address or {})), columns, {}, {})
    return claim_of(row, {}, someone, world or structure())


def consent(at: float = 1, *, kind: str = "written", level: int = 2, gguid: str = "K1", **columns: Any) -> Consent:
    given = {"baf_client_id": C, "captured_at": day(at), "inserttimestamp": day(at), "email": "ann@example.com"}
    return Consent(gguid=gguid, kind=kind, proof_level=level, **(given | columns))


def left(at: float = 2, *, event_id: int = 1, kind: str = "VERIFIED_UNSUBSCRIPTION", op: str | None = None) -> Any:
    return UnsubscriptionEvent(C, event_id, kind, LIST, 1, "ann@example.com", "m", day(at), day(at), op)


def joined(at: float = 3, *, event_id: int = 2, kind: str = "VERIFIED_SUBSCRIPTION") -> Any:
    return SubscriptionEvent(C, event_id, kind, LIST, 1, "ann@example.com", "m", day(at), day(at), None)


def holding(state: Held = Held.SUBSCRIBED, claims: tuple[str, ...] = ("R1",), **result: Any) -> DeliveryResult:
    facts: dict[str, Any] = {
        "client": C, "mailbox": "m", "email": "ann@example.com", "version": Version(1, 1), "desired_hash": b"",
        "outcome": Outcome.APPLIED, "recipient_id": 9, "leader": "R1", "claims": claims,
        "lists": (HeldList(LIST, state, "op", day(1), claims),), "values": {}, "rejected_values": {}, "error": None,
        "at": day(1),
    }  # fmt: skip
    return DeliveryResult(**(facts | result))


def view(*claims: Claim, held: DeliveryResult | None = None, **record: Any) -> MailboxView:
    return MailboxView(C, "m", "ann@example.com", claims, Record(**record), held)


def wish(seen: MailboxView, world: Structure | None = None) -> tuple[Want, str]:
    found = desired_mailbox(seen, world or structure(), at=NOW, skew=SKEW).rulings[LIST].wish
    return found.want, found.rule


def test_a_member_with_a_documented_proof_is_subscribed() -> None:
    assert wish(view(claim(), consents=(consent(),))) == (Want.SUBSCRIBED, "member")


@pytest.mark.parametrize(
    ("given", "distribution", "expected"),
    [
        pytest.param([], {}, "no_proof", id="no proof at all"),
        pytest.param([consent(level=1, kind="single_opt_in")], {}, "no_proof", id="a proof below the level"),
        pytest.param(
            [consent(level=1, kind="single_opt_in")], {"required_proof": 1}, "member", id="a lower level asked"
        ),
        pytest.param([consent()], {"requires_doi": True}, "no_proof", id="double opt-in asked, documented given"),
        pytest.param([consent(kind="doi", level=3)], {"requires_doi": True}, "no_proof", id="half of a double opt-in"),
        pytest.param(
            [consent(kind="doi", level=3, requested_at=day(0), confirmed_at=day(1))],
            {"requires_doi": True},
            "member",
            id="both halves of a double opt-in",
        ),
        pytest.param([consent(valid_to=day(2))], {}, "no_proof", id="a proof that has ended"),
        pytest.param([consent(baf_client_id="b")], {}, "no_proof", id="a proof for another client"),
        pytest.param([consent(baf_client_id=None)], {}, "no_proof", id="a proof for nobody in particular"),
        pytest.param([consent(distribution_gguid="E" * 32)], {}, "no_proof", id="a proof for another list"),
        pytest.param([consent(distribution_gguid=D)], {}, "member", id="a proof for this list"),
    ],
)
def test_a_proof_counts_for_its_own_level_client_list_and_time(
    given: list[Consent], distribution: dict[str, Any], expected: str
) -> None:
    world = structure(**distribution)

    assert wish(view(claim(world=world), consents=tuple(given)), world)[1] == expected


@pytest.mark.parametrize(
    ("proof_day", "expected"),
    [
        pytest.param(1, (Want.UNSUBSCRIBED, "objected"), id="older"),
        pytest.param(2, (Want.UNSUBSCRIBED, "objected"), id="at the same time"),
        pytest.param(2 + 60 / 86400, (Want.UNSUBSCRIBED, "objected"), id="within what clocks may differ"),
        pytest.param(2 + 61 / 86400, (Want.SUBSCRIBED, "member"), id="newer"),
    ],
)
def test_only_a_newer_proof_beats_the_unsubscription(proof_day: float, expected: tuple[Want, str]) -> None:
    assert wish(view(claim(), consents=(consent(proof_day),), events=(left(2),))) == expected


def test_a_proof_is_never_newer_than_its_own_row() -> None:
    backdated = consent(1, captured_at=day(5), inserttimestamp=day(1))

    assert wish(view(claim(), consents=(backdated,), events=(left(2),)))[1] == "objected"


def found_unsubscribed(cause: str, at: float = 2) -> DeliveryResult:
    return holding(lists=(HeldList(LIST, Held.UNSUBSCRIBED, cause, day(at), ()),), claims=())


def test_who_is_found_unsubscribed_has_left_even_if_no_log_says_so() -> None:
    found = found_unsubscribed("read")

    assert wish(view(claim(), consents=(consent(1),), held=found)) == (Want.UNSUBSCRIBED, "objected")
    assert wish(view(claim(), consents=(consent(3),), held=found)) == (Want.SUBSCRIBED, "member")


def test_whom_we_unsubscribed_ourselves_may_come_back() -> None:
    assert wish(view(claim(), consents=(consent(1),), held=found_unsubscribed("A" * 32)))[1] == "member"


def test_our_own_unsubscription_is_no_objection() -> None:
    assert wish(view(claim(), consents=(consent(),), events=(left(op="op1"),)))[1] == "member"


def test_an_unsubscription_in_one_client_leaves_the_other_alone() -> None:
    elsewhere = Suppression("S1", "list", "unsubscribe", day(2), baf_client_id="b", email_hmac=b"x")

    assert wish(view(claim(), consents=(consent(),), suppressions=(elsewhere,)))[1] == "member"


@pytest.mark.parametrize("scope", ["list", "client", "global"])
def test_a_suppression_covers_every_narrower_scope(scope: str) -> None:
    row = Suppression(
        "S1",
        scope,
        "unsubscribe",
        day(2),
        baf_client_id=None if scope == "global" else C,
        distribution_gguid=D if scope == "list" else None,
        email_hmac=b"x",
    )

    assert wish(view(claim(), consents=(consent(),), suppressions=(row,)))[0] is Want.UNSUBSCRIBED


@pytest.mark.parametrize("reason", ["complaint", "blacklist", "legal", "erasure"])
def test_a_block_is_not_lifted_by_a_newer_proof(reason: str) -> None:
    row = Suppression("S1", "client", reason, day(2), baf_client_id=C, email_hmac=b"x")

    assert wish(view(claim(), consents=(consent(5),), suppressions=(row,))) == (Want.UNSUBSCRIBED, "blocked")


@pytest.mark.parametrize(
    "change",
    [{"until": day(3)}, {"lifted_by_consent_gguid": "K9"}, {"deleted_at": day(3)}],
    ids=["it has ended", "it was lifted", "it is in the recycle bin"],
)
def test_a_suppression_that_no_longer_holds_bars_nobody(change: dict[str, Any]) -> None:
    row = Suppression("S1", "client", "blacklist", day(2), baf_client_id=C, email_hmac=b"x", **change)

    assert wish(view(claim(), consents=(consent(),), suppressions=(row,)))[1] == "member"


def test_a_global_objection_blocks_every_client() -> None:
    objection = consent(2, kind="objection", gguid="K2", baf_client_id=None, level=0)

    assert wish(view(claim(), consents=(consent(5), objection)))[1] == "blocked"


def test_an_objection_follows_the_person_to_her_new_mailbox() -> None:
    own = {"P1": (consent(2, kind="withdrawal", gguid="K2", email="old@example.com"),)}

    assert wish(view(claim(), consents=(consent(1),), personal=own)) == (Want.UNSUBSCRIBED, "objected")


def test_another_claimant_of_a_shared_mailbox_keeps_it_when_one_had_objected_elsewhere() -> None:
    own = {"P1": (consent(2, kind="withdrawal", gguid="K2", email="old@example.com"),)}
    seen = view(claim("R1", "P1"), claim("R2", "P2"), consents=(consent(1),), personal=own)

    ruling = desired_mailbox(seen, structure(), at=NOW, skew=SKEW).rulings[LIST]

    assert ruling.wish.want is Want.SUBSCRIBED
    assert ruling.wish.claims == ("R2",)
    assert list(ruling.refused) == ["R1"]


def test_an_unsubscription_from_a_shared_mailbox_is_everybodys() -> None:
    seen = view(claim("R1", "P1"), claim("R2", "P2"), consents=(consent(1),), events=(left(2),))

    assert wish(seen) == (Want.UNSUBSCRIBED, "objected")


@pytest.mark.parametrize(
    ("changed", "standing"),
    [
        ({"email": None}, Standing.EMAIL_MISSING),
        ({"email": "   "}, Standing.EMAIL_MISSING),
        ({"email": "ann at example"}, Standing.EMAIL_IMPOSSIBLE),
        ({"address": {"is_deactivated": True}}, Standing.ADDRESS_DEACTIVATED),
        ({"address": {"deleted_at": day(1)}}, Standing.ADDRESS_GONE),
        ({"desired": "not_member"}, Standing.NOT_MEMBER),
        ({"desired": "not_member", "desired_reason": "person_request"}, Standing.PERSON_REQUEST),
        ({"profile_gguid": "Q"}, Standing.INCOMPLETE),
    ],
)
def test_a_claim_that_wants_nothing_says_why(changed: dict[str, Any], standing: Standing) -> None:
    assert claim(**changed).standing is standing


def test_a_withdrawn_member_is_unsubscribed_but_has_not_objected() -> None:
    off = claim(desired="not_member")

    assert wish(view(off, consents=(consent(),), held=holding())) == (Want.UNSUBSCRIBED, "withdrawn")


def test_a_row_that_has_not_arrived_yet_changes_nothing() -> None:
    assert wish(view(claim(profile_gguid="Q"), consents=(consent(),), held=holding())) == (Want.KEEP, "incomplete")


def test_a_membership_that_nobody_claims_any_more_ends() -> None:
    assert wish(view(held=holding(claims=("R1",)))) == (Want.UNSUBSCRIBED, "withdrawn")


def test_a_membership_that_was_never_ours_is_left_alone() -> None:
    assert wish(view(held=holding(claims=()))) == (Want.KEEP, "unclaimed")


def test_who_subscribed_at_inxmail_is_not_undone_for_lack_of_proof() -> None:
    assert wish(view(claim(), held=holding(claims=()))) == (Want.KEEP, "subscribed_at_inxmail")


def test_who_came_back_by_herself_stays_subscribed() -> None:
    seen = view(claim(), consents=(consent(1),), events=(left(2), joined(3)), held=holding(claims=()))

    assert wish(seen) == (Want.KEEP, "subscribed_at_inxmail")


def test_a_client_wide_objection_outweighs_coming_back_to_one_list() -> None:
    wide = Suppression("S1", "client", "objection", day(2), baf_client_id=C, email_hmac=b"x")
    seen = view(claim(), consents=(consent(1),), suppressions=(wide,), events=(joined(3),), held=holding(claims=()))

    assert wish(seen) == (Want.UNSUBSCRIBED, "objected")


@pytest.mark.parametrize("kind", ["PENDING_UNSUBSCRIPTION", "UNSUBSCRIPTION_TIMED_OUT", "SOMETHING_NEW"])
def test_an_attempt_to_leave_that_is_not_settled_freezes_the_list(kind: str) -> None:
    assert wish(view(claim(), consents=(consent(),), events=(left(2, kind=kind),))) == (Want.KEEP, "unsettled")


@pytest.mark.parametrize("change", [{"state": "paused"}, {"direction": "in"}, {"inxmail_list_id": None}])
def test_a_closed_list_is_left_alone(change: dict[str, Any]) -> None:
    facts: dict[str, Any] = {"inxmail_list_id": LIST} | change
    world = structure(Binding("Z" * 32, D, C, **facts))

    found = desired_mailbox(view(claim(), consents=(consent(),)), world, at=NOW, skew=SKEW)

    assert all(wish.want is Want.KEEP for wish in found.lists)


def test_the_leader_is_chosen_by_pin_then_proof_then_age_then_gguid() -> None:
    older, younger = claim("R2", "P2", inserttimestamp=day(0)), claim("R1", "P1", inserttimestamp=day(1))
    proven = consent(kind="doi", level=3, requested_at=day(0), confirmed_at=day(0), address_gguid="P1")

    def leader(*claims: Claim, **record: Any) -> str | None:
        return desired_mailbox(view(*claims, **record), structure(), at=NOW, skew=SKEW).leader

    assert leader(older, younger) == leader(younger, older) == "R2"
    assert leader(older, younger, consents=(proven,)) == "R1"
    assert (
        leader(older, younger, claim("R3", "P3", inserttimestamp=day(2), pin_leading=True), consents=(proven,)) == "R3"
    )
    assert leader(claim("R9", "P9"), claim("R8", "P8")) == "R8"


def test_the_leader_gives_the_values_and_empty_columns_follow_the_mapping() -> None:
    found = desired_mailbox(view(claim(), consents=(consent(),)), structure(), at=NOW, skew=SKEW)

    assert found.values == {"1": "P1", "2": None}


def test_evidence_alone_changes_no_hash_and_a_value_does() -> None:
    def digest(**record: Any) -> bytes:
        return hash_of(desired_mailbox(view(claim(), **record), structure(), at=NOW, skew=SKEW))

    assert digest(consents=(consent(1),)) == digest(consents=(consent(1), consent(3, gguid="K2")))
    assert digest(consents=(consent(1),)) != hash_of(
        desired_mailbox(view(claim("R1", "P2"), consents=(consent(1),)), structure(), at=NOW, skew=SKEW)
    )


def test_no_recipient_is_made_for_a_claim_that_may_not_be() -> None:
    refused = desired_mailbox(view(claim()), structure(), at=NOW, skew=SKEW)

    assert not is_to_be_told(refused, None)
    assert is_to_be_told(refused, holding())


@pytest.mark.parametrize(
    ("pattern", "email", "expected"),
    [
        ("*@example.com", "ann@example.com", True),
        ("*@EXAMPLE.com", "ann@example.com", True),
        ("ann@example.com", "ann@example.com", True),
        ("ann@example.com", "joann@example.com", False),
        ("a?n@example.com", "ann@example.com", False),
        ("[a]nn@example.com", "ann@example.com", False),
    ],
)
def test_a_pattern_knows_only_the_star(pattern: str, email: str, expected: bool) -> None:
    row = Suppression("S1", "global", "blacklist", day(0), match="pattern", pattern=pattern)

    assert matches(row, email) is expected


@pytest.mark.parametrize(
    ("seen", "state", "sync"),
    [
        (view(claim(), consents=(consent(),)), SubscriptionState.PROPOSED, SyncState.DIRTY),
        (view(claim(), consents=(consent(),), held=holding()), SubscriptionState.SUBSCRIBED, SyncState.IN_SYNC),
        (view(claim()), SubscriptionState.REJECTED, SyncState.DIRTY),
        (view(claim(), consents=(consent(),), events=(left(2),)), SubscriptionState.UNSUBSCRIBED, SyncState.DIRTY),
        (view(claim(desired="not_member"), held=holding()), SubscriptionState.WITHDRAWN, SyncState.IN_SYNC),
        (view(claim(), held=holding(claims=())), SubscriptionState.SUBSCRIBED, SyncState.IN_SYNC),
    ],
    ids=["asked", "arrived", "no proof", "left", "withdrawn", "subscribed at Inxmail"],
)
def test_a_crm_user_sees_the_state_and_how_far_it_came(
    seen: MailboxView, state: SubscriptionState, sync: SyncState
) -> None:
    desired = desired_mailbox(seen, structure(), at=NOW, skew=SKEW)

    status = status_of(
        seen.claims[0],
        mailbox="m",
        ruling=desired.rulings[LIST],
        held=seen.held,
        leader=desired.leader,
        asked=Version(1, 1),
        version=Version(1, 1),
    )

    assert (status.subscription_state, status.sync_state) == (state, sync)
