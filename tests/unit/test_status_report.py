"""What a person sees of a status report, and what a program reads of it."""

import io
from datetime import UTC, datetime

import msgspec
from rich.console import Console

from connectors.debezium.source import SlotLag
from connectors.store.inspection import HeldClaims, Quarantined
from streams.commands.status import render
from streams.overview import (
    Connector,
    CursorAge,
    FlowLag,
    Held,
    Lane,
    Process,
    Refusals,
    StatusReport,
    Waiting,
    Worker,
)

REPORT = StatusReport(
    at=datetime(2026, 1, 2, tzinfo=UTC),
    flows=(FlowLag("decide-objections", 0, 0.0), FlowLag("write-back", 1200, 93.4)),
    lanes=(Lane("a", "normal", 3, 0.4, 17, 5400.0),),
    oldest_unapplied_seconds=5400.0,
    workers=(Worker("a", None, 4, 2, 1, 60.0, 0),),
    cursors=(CursorAge("a", "unsubscriptions", 4711, 1.5),),
    connector=Connector("smartwe", "RUNNING", ("FAILED",), "the slot is gone"),
    slot=SlotLag(active=False, wal_status="reserved", retained_bytes=1_048_576, unconfirmed_bytes=512),
    waiting=Waiting(0, None, 12, 0),
    held=Held(22, (HeldClaims("a", 22, ("A" * 32, "B" * 32)),)),
    quarantined=Refusals(3, (Quarantined("a", 1, 0, 2),)),
    conflicts=4,
    dead_letters=5,
    processes=(Process("client-a", 4242, "gone"),),
    faults=(),
)


def shown(report: StatusReport) -> str:
    console = Console(file=io.StringIO(), width=140, highlight=False)
    render(report, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_person_sees_what_waits_and_for_whom() -> None:
    text = shown(REPORT)

    for words in (
        "1,200",
        "90 min",
        "nobody",
        "tasks FAILED: the slot is gone",
        "1,048,576 bytes of log retained",
        f"{'A' * 32}, {'B' * 32} and 20 more",
        "client a: 1 refused as a whole, 2 in single fields",
        "conflicts that nobody has resolved: 4",
        "dead letters: 5",
        "gone",
    ):
        assert words in text


def test_what_could_not_be_read_is_named_and_the_rest_is_still_shown() -> None:
    blind = msgspec.structs.replace(
        REPORT,
        flows=(FlowLag("write-back", None, None),),
        slot=None,
        conflicts=None,
        faults=("the CRM: PostgreSQL cannot be reached",),
    )

    text = shown(blind)

    assert "not read: the CRM: PostgreSQL cannot be reached" in text
    assert "?" in text and "dead letters: 5" in text
    assert "conflicts" not in text and "bytes of log" not in text


def test_the_keys_that_programs_read_are_a_contract() -> None:
    read = msgspec.json.decode(msgspec.json.encode(REPORT))

    assert set(read) >= {
        "flows",
        "lanes",
        "oldest_unapplied_seconds",
        "slot",
        "cursors",
        "held",
        "quarantined",
        "conflicts",
        "dead_letters",
        "connector",
        "processes",
        "faults",
    }
    assert set(read["lanes"][0]) == {
        "client",
        "lane",
        "records",
        "seconds",
        "unapplied",
        "oldest_unapplied_seconds",
    }
    assert set(read["cursors"][0]) == {"client", "stream", "last_event_id", "age_seconds"}
    assert read["held"]["clients"][0]["recipients"] == ["A" * 32, "B" * 32]
