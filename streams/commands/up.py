"""`verteiler up` and `verteiler down`."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from connectors.embedded import download
from connectors.embedded.detach import detach
from connectors.embedded.home import Home, State
from connectors.embedded.stack import EmbeddedSettings, EmbeddedStack
from connectors.embedded.supervisor import down as end_all
from schemas.errors import Misconfigured, PipelineError
from streams.commands.output import errors, tell
from streams.stack import Plan
from streams.supervision import run
from streams.telemetry import configure_logging

_READY_SECONDS = 300.0
_CLIENT_ID = re.compile(r"[a-z0-9_-]{1,32}")


def plan_of(
    clients: str,
    *,
    decide_workers: int = 1,
    postgres_port: int | None = None,
    kafka_port: int | None = None,
    registry_port: int | None = None,
    connect_port: int | None = None,
) -> Plan:
    """What the options ask for. Raises: Misconfigured, naming every client id that cannot be one."""
    names = tuple(name.strip() for name in clients.split(",") if name.strip())
    faults = [
        f"{name!r} is no client id (a–z, 0–9, _ and -, at most 32)" for name in names if not _CLIENT_ID.fullmatch(name)
    ]
    if len(set(names)) != len(names):
        faults.append("a client is named twice")
    if not names:
        faults.append("no client is named")
    if faults:
        raise Misconfigured(f"--clients: {'; '.join(faults)}; nothing was started")
    return Plan(
        clients=names,
        decide_workers=decide_workers,
        embedded=EmbeddedSettings(
            postgres_port=postgres_port,
            kafka_port=kafka_port,
            registry_port=registry_port,
            connect_port=connect_port,
        ),
    )


def up(folder: Path, plan: Plan, *, detach: bool, as_json: bool) -> None:
    """Run the stack here until it is interrupted, or leave it running. Raises: Misconfigured, Unavailable."""
    home = Home(folder.resolve())
    if detach:
        leave_running(home, plan)
        endpoints = home.read_endpoints()
        tell(endpoints, as_json=as_json, human=lambda console: show_endpoints(console, endpoints or {}))
        return
    configure_logging("WARNING")
    phase = ""

    def say(words: str) -> None:
        nonlocal phase
        phase = words
        home.write_state(words)
        errors.print(words)

    def fetching(progress: download.Progress) -> None:
        say(f"downloading: {progress.done_bytes // 1_000_000} of {progress.total_bytes // 1_000_000} MB")

    def ready(endpoints: dict[str, Any]) -> None:
        home.write_state("ready")
        tell(endpoints, as_json=as_json, human=lambda console: show_endpoints(console, endpoints))

    try:
        asyncio.run(run(home, plan, os.environ, say=say, fetching=_every_megabyte(fetching), ready=ready))
    except PipelineError as error:
        _write_failure(home, error)
        raise
    except ExceptionGroup as group:
        expected, unexpected = group.split(PipelineError)
        if unexpected is not None or expected is None:
            raise
        first = _first(expected)
        _write_failure(home, first)
        raise first from group


def leave_running(home: Home, plan: Plan) -> None:
    """Start a stack that outlives this process; return when everything works. Raises: Misconfigured, Unavailable."""
    fetch(home, plan)
    embedded = plan.embedded
    named = {
        "--postgres-port": embedded.postgres_port,
        "--kafka-port": embedded.kafka_port,
        "--registry-port": embedded.registry_port,
        "--connect-port": embedded.connect_port,
    }
    argv = [sys.executable, "-P", "-m", "streams", "up", "--home", str(home.root), "--clients", ",".join(plan.clients)]
    argv += ["--decide-workers", str(plan.decide_workers)]
    argv += [word for option, port in named.items() if port is not None for word in (option, str(port))]
    with errors.status("starting") as status:

        def report(state: State) -> None:
            status.update(state.phase)
            if not errors.is_terminal:
                errors.print(state.phase)

        detach(argv, home, seconds=_READY_SECONDS, report=report)


def fetch(home: Home, plan: Plan) -> None:
    """Download what is missing, with a progress bar. Raises: Unavailable, Misconfigured."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("downloading", visible=False)

        def report(progress: download.Progress) -> None:
            bar.update(
                task,
                visible=True,
                total=progress.total_bytes,
                completed=progress.done_bytes,
                description=progress.doing[:40].ljust(40),
            )

        EmbeddedStack(home, plan.embedded).fetch(report)


def down(folder: Path, *, erase: bool, as_json: bool) -> None:
    """Stop whatever runs in the home. Raises: Unavailable, when something cannot be ended."""
    home = Home(folder.resolve())
    with errors.status("stopping"):
        ended = end_all(home)
        if erase:
            home.erase()

    def human(console: Console) -> None:
        console.print(f"ended: {', '.join(sorted(ended))}" if ended else "nothing was running")
        if erase:
            console.print(f"erased: {home.root}")

    tell({"ended": sorted(ended), "erased": erase, "home": str(home.root)}, as_json=as_json, human=human)


def show_endpoints(console: Console, endpoints: dict[str, Any]) -> None:
    """For people: where everything answers."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in ("kafka", "registry", "connect"):
        table.add_row(name, str(endpoints[name]))
    for client, account in endpoints["inxmail"].items():
        table.add_row(f"inxmail {client}", account["base_url"])
    table.add_row("endpoints", f"{endpoints['home']}/endpoints.json  (addresses, users and passwords)")
    console.print("[green]ready[/]")
    console.print(table)


def _every_megabyte(report: Any) -> Any:
    told = -1

    def reported(progress: download.Progress) -> None:
        nonlocal told
        if progress.done_bytes // 5_000_000 != told:
            told = progress.done_bytes // 5_000_000
            report(progress)

    return reported


def _write_failure(home: Home, error: PipelineError) -> None:
    home.write_state("failed", reason=str(error), usage=isinstance(error, Misconfigured))


def _first(group: ExceptionGroup[PipelineError]) -> PipelineError:
    error: PipelineError | ExceptionGroup[PipelineError] = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
