"""`verteiler status`: how far every flow has come, what is held, refused or parked, and which process lives."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streams.commands.output import tell
from streams.overview import StatusReport, gather
from streams.settings import read_settings

_UNKNOWN = "[yellow]?[/]"


def status(home: Path, *, as_json: bool) -> None:
    """Print the report; ends with exit code 1 when a part of it could not be read. Raises: Misconfigured."""
    report = asyncio.run(gather(read_settings(home), home))
    tell(report, as_json=as_json, human=lambda console: render(report, console))
    if report.faults:
        sys.exit(1)


def render(report: StatusReport, console: Console) -> None:
    """Show the report to a person."""
    console.print(_flows(report))
    console.print(_workers(report))
    if report.cursors:
        console.print(
            _table(
                ("stream", "last event", "read further before"),
                [
                    (
                        f"{cursor.client} {cursor.stream}",
                        _count(cursor.last_event_id),
                        f"{_time(cursor.age_seconds)} ago",
                    )
                    for cursor in report.cursors
                ],
            )
        )
    if report.processes:
        console.print(
            _table(
                ("process", "pid", "state"),
                [
                    (process.name, str(process.pid), _marked(process.state, good=("ready", "alive")))
                    for process in report.processes
                ],
            )
        )
    for sentence in _sentences(report):
        console.print(sentence)
    for fault in report.faults:
        console.print(f"[red]not read:[/] {fault}")


def _flows(report: StatusReport) -> Table:
    rows = [(flow.flow, _count(flow.records), _time(flow.seconds), "", "") for flow in report.flows]
    rows += [
        (
            f"client {lane.client} {lane.lane}",
            _count(lane.records),
            _time(lane.seconds),
            _count(lane.unapplied),
            _time(lane.oldest_unapplied_seconds) if lane.unapplied else "",
        )
        for lane in report.lanes
    ]
    return _table(("flow", "behind", "oldest", "unapplied", "oldest unapplied"), rows)


def _workers(report: StatusReport) -> Table:
    return _table(
        ("client", "leader", "in hand", "open imports", "oldest import", "open calls"),
        [
            (
                worker.client,
                worker.leader or "[red]nobody[/]",
                _count(worker.pending),
                _count(worker.open_imports),
                _time(worker.oldest_import_seconds) if worker.open_imports else "",
                _count(worker.open_calls),
            )
            for worker in report.workers
        ],
    )


def _sentences(report: StatusReport) -> list[str]:
    """The rest, each thing in one line."""
    said = []
    if report.connector is not None:
        state = _marked(report.connector.state, good=("RUNNING",))
        tasks = ", ".join(_marked(task, good=("RUNNING",)) for task in report.connector.tasks) or "none"
        why = f": {report.connector.failure}" if report.connector.failure else ""
        said.append(f"connector {report.connector.name}: {state}, tasks {tasks}{why}")
    if report.slot is not None:
        reader = "read" if report.slot.active else "[red]nobody reads it[/]"
        said.append(
            f"replication slot: {reader}, {report.slot.unconfirmed_bytes:,} bytes not confirmed,"
            f" {report.slot.retained_bytes:,} bytes of log retained"
        )
    if report.waiting is not None:
        waiting = report.waiting
        since = f", the oldest for {_time(waiting.oldest_unproduced_seconds)}" if waiting.unproduced else ""
        said.append(
            f"decided and not yet produced: {waiting.unproduced:,} records{since};"
            f" still to be decided: {waiting.persons:,} persons, {waiting.mailboxes:,} mailboxes"
        )
    if report.held is not None:
        said.append(f"held e-mail changes: {report.held.count:,}")
        for held in report.held.clients:
            more = held.claims - len(held.recipients)
            names = ", ".join(held.recipients) + (f" and {more:,} more" if more else "")
            said.append(f"  client {held.client}: {names}")
    if report.quarantined is not None:
        said.append(f"quarantined mailboxes: {report.quarantined.count:,}")
        said += [
            f"  client {client.client}: {client.mailboxes:,} refused as a whole, {client.with_rejected_values:,} in"
            f" single fields, {client.paused:,} wait because the client refuses us"
            for client in report.quarantined.clients
        ]
    if report.conflicts is not None:
        said.append(f"conflicts that nobody has resolved: {report.conflicts:,}")
    if report.dead_letters is not None:
        said.append(f"dead letters: {report.dead_letters:,}")
    return said


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    return table


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _time(seconds: float | None) -> str:
    """Rounded to what a person reads at a glance."""
    match seconds:
        case None:
            return _UNKNOWN
        case float() if seconds < 120:
            return f"{seconds:.1f} s"
        case float() if seconds < 7200:
            return f"{seconds / 60:.0f} min"
        case float() if seconds < 172_800:
            return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} d"


def _marked(state: str, *, good: Sequence[str]) -> str:
    return f"[green]{state}[/]" if state in good else f"[red]{state}[/]"
