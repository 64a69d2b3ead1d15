"""Nothing of a person is shown unless it was asked for, and no secret even then."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.mutations import Cause, ListWish, Mutation, Version, Want
from streams.commands.masking import HIDDEN, masked

AT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
ROW = {
    "gguid": "A" * 32,
    "company_gguid": "B" * 32,
    "insertuser": "meier",
    "inserttimestamp": "2026-11-24T13:08:03.780Z",
    "kind": "person",
    "row_version": 3,
    "is_deactivated": False,
    "first_name": "Ännä",
    "email1": "anna@example.com",
    "email2": None,
    "birthday": "1980-05-01Z",
    "x_shoe_size": 42,
    "x_wears_glasses": True,
    "x_revenue": "12.5000",
    "x_newsletter_topics": ["wine"],
    "remote_addr_enc": b"\x01\x02",
    "email_hmac": b"\x03" * 32,
}
CHANGE = {
    "op": "u",
    "before": ROW,
    "after": {**ROW, "email1": "A" * 32},
    "source": {"table": "address", "lsn": 7, "snapshot": "false"},
    "ts_ms": 1,
}
SHOWN = {"gguid", "company_gguid", "inserttimestamp", "kind", "row_version", "is_deactivated", "email2", "email_hmac"}


def test_of_a_row_only_keys_enumerations_and_instants_are_shown() -> None:
    shown = masked(CHANGE)

    for side in ("before", "after"):
        assert {name for name, value in shown[side].items() if value != HIDDEN} == SHOWN
    assert shown["source"] == CHANGE["source"]


def test_a_column_nobody_knows_is_hidden_whatever_its_type() -> None:
    row = {"gguid": "A" * 32, "added": 1, "added_too": 1.5, "added_three": {"a": "b"}, "added_four": ["x"]}

    shown = masked({"op": "c", "before": None, "after": row, "source": {}})

    assert shown["before"] is None
    assert set(shown["after"].values()) == {"A" * 32, HIDDEN}


def test_all_of_a_row_is_shown_when_asked_for() -> None:
    shown = masked(CHANGE, reveal=True)["before"]

    assert (shown["email1"], shown["birthday"], shown["x_shoe_size"]) == ("anna@example.com", "1980-05-01Z", 42)
    assert HIDDEN not in shown.values()


MUTATION = Mutation(
    client="a",
    mailbox="00ff",
    version=Version(1, 2),
    email="anna@example.com",
    leader="A" * 32,
    claims=("A" * 32,),
    values={"1": "Anna", "2": None, "3": True, "4": 7},
    lists=(ListWish(5, "B" * 32, Want.SUBSCRIBED, "member", ("A" * 32,)),),
    desired_hash=b"\x01\x02",
    cause=Cause("t", 0, 12, AT),
)


def test_of_a_mutation_the_address_and_every_value_are_hidden() -> None:
    shown = masked(codec.plain(MUTATION))

    assert shown["email"] == HIDDEN
    assert shown["values"] == {"1": HIDDEN, "2": None, "3": HIDDEN, "4": HIDDEN}
    assert (shown["mailbox"], shown["leader"], shown["claims"]) == ("00ff", "A" * 32, ["A" * 32])
    assert (shown["lists"][0]["want"], shown["lists"][0]["list_id"]) == ("subscribed", 5)
    assert (shown["desired_hash"], shown["cause"]["committed_at"]) == ("0102", AT.isoformat())


def test_a_parked_record_is_named_and_not_shown() -> None:
    letter = DeadLetter("t", 0, 1, b"k", b"anna@example.com", "MalformedInput", "why", "changes", 1, AT, AT)

    shown = masked(codec.plain(letter))

    assert (shown["value"], shown["key"], shown["reason"]) == (HIDDEN, "k", "why")


@pytest.mark.parametrize("reveal", [False, True])
def test_a_secret_is_hidden_even_when_personal_values_are_shown(reveal: bool) -> None:
    record = {"properties": {"database.password": "x1", "name": "n"}, "api_token": "x1", "deep": [{"Secret": "x1"}]}

    assert "x1" not in str(masked(record, reveal=reveal))


@pytest.mark.parametrize("record", [CHANGE, codec.plain(MUTATION), {"free": {"form": ["anna@example.com"]}}])
@pytest.mark.parametrize("reveal", [False, True])
def test_what_is_shown_can_be_written_as_json_and_hides_the_address(record: dict[str, Any], reveal: bool) -> None:
    text = msgspec.json.encode(masked(record, reveal=reveal)).decode()

    assert ("anna@example.com" in text) is reveal
