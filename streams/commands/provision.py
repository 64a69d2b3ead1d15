"""`verteiler provision` and `verteiler check`."""

import asyncio
from pathlib import Path

from rich.console import Console
from rich.table import Table
from typer import Exit

from streams import provisioning
from streams.commands.output import errors, tell
from streams.provisioning import State, Step
from streams.settings import read_settings

_COLOURS = {State.PRESENT: "green", State.DONE: "cyan", State.MISSING: "yellow", State.FAULTY: "red"}


def provision(home: Path, *, as_json: bool) -> None:
    """Make what is missing. Raises: Exit 1, when something stands in the way; PipelineError, when it cannot begin."""
    settings = read_settings(home)
    with errors.status("provisioning"):
        steps = asyncio.run(provisioning.provision(settings))
    _show(steps, as_json=as_json)


def check(home: Path, *, as_json: bool) -> None:
    """Look, and change nothing. Raises: Exit 1, when anything is missing or wrong."""
    settings = read_settings(home)
    with errors.status("looking"):
        steps = asyncio.run(provisioning.check(settings))
    _show(steps, as_json=as_json)


def _show(steps: list[Step], *, as_json: bool) -> None:
    good = all(step.good for step in steps)

    def human(console: Console) -> None:
        table = Table("what", "state", "detail")
        for step in steps:
            table.add_row(step.what, f"[{_COLOURS[step.state]}]{step.state.value}[/]", step.detail)
        console.print(table)

    tell({"good": good, "steps": steps}, as_json=as_json, human=human)
    if not good:
        raise Exit(1)
