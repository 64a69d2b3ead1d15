"""Each contract and its Python type are two spellings of one thing."""

from datetime import UTC, datetime

import msgspec
import pytest

from schemas import codec
from schemas.crm import RecipientStatus, SubscriptionState, SuppressionRecord, SyncState
from schemas.dead_letters import DeadLetter
from schemas.errors import MalformedInput
from schemas.facts import Cursor, Effect, SubscriptionEvent, UnsubscriptionEvent
from schemas.mutations import (
    Cause,
    DeliveryResult,
    Evidence,
    Held,
    HeldList,
    ListWish,
    Mutation,
    Outcome,
    Version,
    Want,
)

AT = datetime(2026, 3, 29, 1, 30, 0, 123456, UTC)
EVENT = ("a", 7, "VERIFIED_UNSUBSCRIPTION", 5, 9, "ann@example.com", "00ff", AT, AT, "op")
RECORDS = {
    "mutation": Mutation(
        client="a",
        mailbox="00ff",
        version=Version(1, 2),
        email="ann@example.com",
        leader="A" * 32,
        claims=("A" * 32,),
        values={"1": "Ann", "2": None, "3": True, "4": 7, "5": 1.5},
        lists=(ListWish(5, "B" * 32, Want.SUBSCRIBED, "member", ("A" * 32,), Evidence("C", AT, 3), None),),
        desired_hash=b"\x01\x02",
        cause=Cause("t", 0, 12, AT),
    ),
    "delivery-result": DeliveryResult(
        client="a",
        mailbox="00ff",
        email="ann@example.com",
        version=Version(1, 2),
        desired_hash=b"\x01",
        outcome=Outcome.APPLIED,
        recipient_id=9,
        leader=None,
        claims=(),
        lists=(HeldList(5, Held.UNKNOWN, "op", AT, ("A" * 32,)),),
        values={"1": None},
        rejected_values={"2": "too_long"},
        error=None,
        at=AT,
    ),
    "subscription-event": SubscriptionEvent(*EVENT),
    "unsubscription-event": UnsubscriptionEvent(*EVENT),
    "cursor": Cursor("a", "unsubscriptions", "http://x", None, AT),
    "effect": Effect("a", "op", "unsubscribe", "00ff", 5, "open", 3, 1, None, AT),
    "recipient-status": RecipientStatus(
        "A" * 32, 1, 2, "a", None, None, None, SubscriptionState.PROPOSED, "member", None, None, None, None, True,
        False, False, SyncState.DIRTY, None, None, None, None,
    ),
    "suppression-record": SuppressionRecord("A" * 32, 1, 1, "list", "a", None, b"\x01" * 32, "unsubscribe", AT, "7"),
    "dead-letter": DeadLetter("t", 0, 1, b"k", None, "MalformedInput", "why", "changes", 1, AT, AT),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_survives_the_wire(name: str) -> None:
    record = RECORDS[name]

    wire = codec.frame(42, name, record)

    assert codec.schema_id_of(wire) == 42
    assert codec.read(codec.unframe(wire, codec.contract(name)), type(record)) == record


@pytest.mark.parametrize("name", RECORDS)
def test_a_contract_names_the_same_fields_as_its_type(name: str) -> None:
    assert [field["name"] for field in codec.contract(name)["fields"]] == [
        field.name for field in msgspec.structs.fields(type(RECORDS[name]))
    ]


@pytest.mark.parametrize("wire", [b"", b"\x00\x00", b"{}" * 9, b"\x00\x00\x00\x00\x01\xff"])
def test_bytes_that_are_no_record_are_malformed(wire: bytes) -> None:
    with pytest.raises(MalformedInput):
        codec.schema_id_of(wire)
        codec.unframe(wire, codec.contract("mutation"))
