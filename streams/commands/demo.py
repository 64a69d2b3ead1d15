"""`verteiler demo`: the demonstration with its stage, its stack and its verdict."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer import Exit

from connectors.embedded.home import Home
from connectors.embedded.supervisor import SELF
from connectors.embedded.supervisor import down as end_all
from schemas.errors import Misconfigured
from streams.commands.output import errors, tell
from streams.commands.up import leave_running, show_endpoints
from streams.demo.comparison import Difference
from streams.demo.course import Report, Stage, run
from streams.demo.measure import Latency
from streams.settings import read_settings
from streams.stack import Plan

SEED = 1
_MARK = "demo"
"""A file in the home that says: the data here is a demonstration's, and the next one may erase it."""


def demo(folder: Path, *, addresses: int, keep: bool, patience_seconds: float, reveal: bool, as_json: bool) -> None:
    """From nothing to the end. Raises: Exit 1, when the sides differ or something is lost; Misconfigured."""
    home = Home(folder.resolve())
    claim(home)
    began = time.monotonic()
    try:
        leave_running(home, Plan())
        ready_s = time.monotonic() - began
        endpoints = home.read_endpoints() or {}
        report = perform(home, endpoints, addresses=addresses, patience_seconds=patience_seconds)
    except BaseException:  # an interrupted demonstration must stop its processes too; raised again
        end_all(home)
        raise
    if not keep:
        with errors.status("stopping"):
            end_all(home)
    document = shown(report, reveal=reveal) | {
        "start_s": round(ready_s, 2),
        "total_s": round(time.monotonic() - began, 2),
        "home": str(home.root),
    }
    tell(document, as_json=as_json, human=lambda console: _show(console, document, endpoints if keep else None))
    if not report.converged or report.lost:
        raise Exit(1)


def claim(home: Home) -> None:
    """Make the home a fresh one for a demonstration. Raises: Misconfigured, when it is in use or holds other data."""
    if any(identity.name == SELF and identity.process() for identity in home.read_pids()):
        raise Misconfigured(
            f"a stack runs in {home.root}: stop it with `verteiler down --home {home.root}`, or name another --home;"
            " nothing was changed"
        )
    mark = home.root / _MARK
    if home.data.exists() and not mark.exists():
        raise Misconfigured(
            f"{home.root} holds the data of an `up`, and a demonstration starts from nothing: name another --home, or"
            f" erase it with `verteiler down --erase --home {home.root}`; nothing was changed"
        )
    if mark.exists():
        shutil.rmtree(home.root)
    home.prepare()
    mark.touch()


def perform(home: Home, endpoints: dict[str, Any], *, addresses: int, patience_seconds: float) -> Report:
    """The demonstration in a stack that runs, with a live display. Raises: Unavailable."""
    keys = read_settings(home.root).key_ring()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors) as bars:
        stage = _Bars(bars)
        course = run(endpoints, keys, stage, addresses=addresses, seed=SEED, patience_seconds=patience_seconds)
        return asyncio.run(course)


class _Bars(Stage):
    """A bar for each thing that comes along; times run until a thing is complete."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._known: dict[str, TaskID] = {}

    def say(self, words: str) -> None:
        for task in self._bars.tasks:
            self._bars.stop_task(task.id)
        self._bars.console.print(words)

    def progress(self, what: str, done: int, total: int) -> None:
        count = f"{done:,} of {total:,}" if total else f"{done:,}"
        if what not in self._known:
            self._known[what] = self._bars.add_task(what.ljust(16), count=count)
        self._bars.update(self._known[what], completed=done, total=total or None, count=count)


def shown(report: Report, *, reveal: bool) -> dict[str, Any]:
    """The report as a document; without `reveal` no e-mail address is in it."""
    document: dict[str, Any] = msgspec.to_builtins(report)
    document["examples"] = [_example(difference, reveal=reveal) for difference in report.examples]
    return document


def _example(difference: Difference, *, reveal: bool) -> dict[str, Any]:
    example: dict[str, Any] = msgspec.to_builtins(difference)
    if not reveal:
        del example["email"]
    return example


def _show(console: Console, document: dict[str, Any], endpoints: dict[str, Any] | None) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("everything ready after", f"{document['start_s']:.1f} s")
    load = document["initial_load_s"]
    table.add_row(
        f"{document['addresses']:,} addresses, loaded and at Inxmail",
        "not in time" if load is None else f"{load:.1f} s",
    )
    table.add_row(f"{document['edits']} edits: CRM commit → Inxmail has answered", _latency(document["incremental_ms"]))
    table.add_row(
        f"{document['unsubscriptions']} unsubscriptions: Inxmail's log → CRM says so", _latency(document["reverse_ms"])
    )
    table.add_row("memberships compared in both directions", f"{document['compared']:,}")
    verdict = "[green]equal[/]" if document["converged"] else f"[red]differ: {document['differences']}[/]"
    table.add_row("the two sides are", verdict)
    table.add_row("lost", f"{document['lost']}")
    console.print(table)
    for example in document["examples"]:
        where = f"client {example['client']}, list {example['list_id']}, CRM row {example['recipient'] or '–'}"
        console.print(f"  {example['kind']}: {where}: {example['detail']} {example.get('email', '')}".rstrip())
    if endpoints is not None:
        show_endpoints(console, endpoints)


def _latency(measured: dict[str, Any]) -> str:
    figures = msgspec.convert(measured, Latency)
    if figures.p50 is None:
        return "nothing was measured"
    return f"p50 {figures.p50:,.0f} ms, p99 {figures.p99:,.0f} ms"
