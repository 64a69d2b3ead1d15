"""`verteiler sample`: people for the CRM, generated or from an export."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from typer import Exit

from connectors.embedded.home import Home
from connectors.smartwe.csv_import import CsvReport, load_csv
from connectors.smartwe.sample import SampleReport, load_sample
from schemas.errors import Misconfigured
from streams.commands.output import errors, tell
from streams.demo.targets import targets_of
from streams.demo.visitor import Visitor
from streams.settings import read_settings

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def sample(folder: Path, *, addresses: int, seed: int, as_json: bool) -> None:
    """Fill the CRM with invented people. Raises: Misconfigured, Refused, Unavailable."""
    dsn, accounts = _where(folder)
    report = asyncio.run(generate(dsn, accounts, addresses=addresses, seed=seed))
    tell(report, as_json=as_json, human=lambda console: _show(console, report))


def export(
    folder: Path, file: Path, *, client: str | None, distribution: str | None, dry_run: bool, as_json: bool
) -> None:
    """Load the people of an export. Raises: Exit 1, when lines were bad; MalformedInput, Misconfigured, Unavailable."""
    dsn, accounts = _where(folder)
    client = client or next(iter(accounts))
    report = asyncio.run(_load(dsn, accounts, file, client=client, distribution=distribution, dry_run=dry_run))
    tell(report, as_json=as_json, human=lambda console: _show_file(console, report))
    if report.bad:
        raise Exit(1)


async def _load(
    dsn: str,
    accounts: Mapping[str, Mapping[str, str]],
    file: Path,
    *,
    client: str,
    distribution: str | None,
    dry_run: bool,
) -> CsvReport:
    """Into the distribution named, else into the client's own newsletter, which is made when it is not there."""
    if distribution is None:
        await generate(dsn, accounts, addresses=0, seed=0)
    with Progress(TextColumn("{task.description}"), console=errors, transient=True) as bar:
        task = bar.add_task("loading the file")
        return await load_csv(
            dsn,
            file,
            client=client,
            distribution=distribution or f"Newsletter {client.upper()}",
            dry_run=dry_run,
            progress=lambda lines: bar.update(task, description=f"{lines:,} lines"),
        )


async def generate(dsn: str, accounts: Mapping[str, Mapping[str, str]], *, addresses: int, seed: int) -> SampleReport:
    """Load generated people as members of lists of these accounts, with a progress bar.

    accounts: by client, as in `endpoints.json`. Raises: Refused, when this seed is already loaded; Unavailable.
    """
    async with AsyncExitStack() as visits:
        visitors = [await visits.enter_async_context(Visitor(name, account)) for name, account in accounts.items()]
        targets = {visitor.client: await targets_of(visitor) for visitor in visitors}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("loading people into the CRM", total=addresses)
        return await load_sample(
            dsn,
            addresses=addresses,
            seed=seed,
            clients=list(accounts),
            bindings=targets,
            progress=lambda done: bar.update(task, completed=done),
        )


def _where(folder: Path) -> tuple[str, Mapping[str, Mapping[str, str]]]:
    """The CRM and the Inxmail accounts: of the running stack, else of the settings. Invented people go to stand-ins."""
    endpoints: dict[str, Any] | None = Home(folder.resolve()).read_endpoints()
    if endpoints is not None:
        return endpoints["postgres_dsn"], endpoints["inxmail"]
    settings = read_settings()
    faults = (
        [] if settings.database.crm_admin_dsn.get_secret_value() else ["VERTEILER_DATABASE__CRM_ADMIN_DSN is not set"]
    )
    faults += [
        f"VERTEILER_INXMAIL__{client.upper()}__BASE_URL is not on this machine: invented people belong on a stand-in"
        for client, account in settings.inxmail.items()
        if urlsplit(account.base_url).hostname not in _LOOPBACK
    ]
    if not settings.inxmail:
        faults.append("no Inxmail client is set (VERTEILER_INXMAIL__<CLIENT>__…)")
    if faults:
        raise Misconfigured(f"no stack runs in {folder}, and {'; '.join(faults)}. Nothing was loaded")
    return settings.database.crm_admin_dsn.get_secret_value(), {
        client: {
            "base_url": account.base_url,
            "user": account.user,
            "password": account.password.get_secret_value(),
        }
        for client, account in settings.inxmail.items()
    }


def _show_file(console: Console, report: CsvReport) -> None:
    console.print(
        f"{report.loaded:,} of {report.lines:,} lines loaded" + (" (and taken back)" if report.dry_run else "")
    )
    for words, count in (
        ("already there", report.already_there),
        ("without a proof of consent, so nobody is subscribed because of them", report.without_consent),
        ("say that the person has left", report.left),
    ):
        if count:
            console.print(f"{count:,} {words}")
    if report.ignored_columns:
        console.print(f"columns that mean nothing here: {', '.join(report.ignored_columns)}")
    for line in report.bad:
        console.print(f"[red]line {line.line}:[/] {line.reason}")


def _show(console: Console, report: SampleReport) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in ("persons", "contact_persons", "companies", "without_email", "impossible_email", "shared_mailboxes"):
        table.add_row(name.replace("_", " "), f"{getattr(report, name):,}")
    for name, count in report.consents.items():
        table.add_row(f"consent {name}", f"{count:,}")
    for client, count in report.recipients.items():
        table.add_row(f"members in client {client}", f"{count:,}")
    console.print(f"{report.addresses:,} addresses in {report.seconds:.1f} s")
    console.print(table)
