"""The command `verteiler`. Each command imports what it needs when it runs, so that `--help` is instant.

Exit codes: 0 done, 1 not achieved, 2 wrong use or configuration. A foreseen failure is one sentence on standard
error; anything else is a fault of this program and keeps its trace.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import Misconfigured, PipelineError

app = typer.Typer(
    name="verteiler",
    help="Keeps a SmartWe CRM and any number of Inxmail clients in step: CRM → Debezium → Kafka → Inxmail, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
worker = typer.Typer(help="One process of the pipeline. `up` starts them all.", no_args_is_help=True)
simulate = typer.Typer(help="Stand-ins for far systems.", no_args_is_help=True)
app.add_typer(worker, name="worker", rich_help_panel="Processes")
app.add_typer(simulate, name="simulate", rich_help_panel="Processes")

Home = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="VERTEILER_HOME",
        metavar="DIR",
        help="Folder of the stack. A stack that runs there is found by itself; without one, settings come from the"
        " environment (VERTEILER_…) alone.",
    ),
]
OptionalHome = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Take settings from the stack that runs there. Without it they come from the environment alone.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Clients = Annotated[str, typer.Option("--clients", metavar="A,B", help="Inxmail clients, each with its simulator.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Any free port when not given.")]

DEFAULT_HOME = Path(".verteiler")
STACK = "The whole stack"
LOOK = "Looking inside"
DATA = "Setting up"


@app.command(rich_help_panel=STACK)
def up(
    home: Home = DEFAULT_HOME,
    clients: Clients = "a,b",
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything works, and leave it running.")
    ] = False,
    decide_workers: Annotated[int, typer.Option(min=1, max=16, help="Processes for each flow of `decide`.")] = 1,
    postgres_port: Port = None,
    kafka_port: Port = None,
    registry_port: Port = None,
    connect_port: Port = None,
    as_json: Json = False,
) -> None:
    """Run everything on this machine: PostgreSQL, Kafka, registry, Connect, Inxmail simulators, the pipeline."""
    from streams.commands import up as command

    plan = command.plan_of(
        clients,
        decide_workers=decide_workers,
        postgres_port=postgres_port,
        kafka_port=kafka_port,
        registry_port=registry_port,
        connect_port=connect_port,
    )
    command.up(home, plan, detach=detach, as_json=as_json)


@app.command(rich_help_panel=STACK)
def down(
    home: Home = DEFAULT_HOME,
    erase: Annotated[bool, typer.Option("--erase", help="Delete all data of the stack as well. Never asks.")] = False,
    as_json: Json = False,
) -> None:
    """Stop what `up` or `demo --keep` left running."""
    from streams.commands import up as command

    command.down(home, erase=erase, as_json=as_json)


@app.command(rich_help_panel=STACK)
def demo(
    home: Home = DEFAULT_HOME,
    addresses: Annotated[int, typer.Option(min=200, metavar="N", help="Sample addresses in the CRM.")] = 5000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running, as `up --detach` does.")] = False,
    patience: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long both sides may take to become equal.")
    ] = 120.0,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show e-mail addresses of differences.")] = False,
    as_json: Json = False,
) -> None:
    """From nothing to the end: load a CRM, watch it arrive at Inxmail, edit, unsubscribe, compare both sides."""
    from streams.commands import demo as command

    command.demo(home, addresses=addresses, keep=keep, patience_seconds=patience, reveal=reveal, as_json=as_json)


@app.command(rich_help_panel=DATA)
def provision(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Create or verify migrations, roles, topics, schemas and the connector. May be repeated."""
    from streams.commands import provision as command

    command.provision(home, as_json=as_json)


@app.command(rich_help_panel=DATA)
def check(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Tell what `provision` would have to do. Changes nothing; exit code 1 when anything is missing."""
    from streams.commands import provision as command

    command.check(home, as_json=as_json)


@app.command(rich_help_panel=DATA)
def sample(
    home: Home = DEFAULT_HOME,
    addresses: Annotated[int | None, typer.Option(min=1, metavar="N", help="Generate so many addresses.")] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="The same seed gives the same addresses.")] = 1,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", exists=True, dir_okay=False, help="Load your own export.")
    ] = None,
    client: Annotated[
        str | None, typer.Option(metavar="C", help="With --csv: for this client; else the first.")
    ] = None,
    distribution: Annotated[
        str | None,
        typer.Option(metavar="D", help="With --csv: GGUID or title; else the client's own newsletter."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --csv: try every line, and take it back.")] = False,
    as_json: Json = False,
) -> None:
    """Fill the CRM with generated addresses, or with your own export (first line: names of the columns)."""
    if (addresses is None) == (csv is None):
        raise Misconfigured("name either --addresses N or --csv FILE; nothing was loaded")
    from streams.commands import sample as command

    if csv is not None:
        command.export(home, csv, client=client, distribution=distribution, dry_run=dry_run, as_json=as_json)
    elif addresses is not None:
        command.sample(home, addresses=addresses, seed=seed, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def status(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """How far every flow has come: lag, oldest unapplied change, cursors, what is held or quarantined."""
    from streams.commands import status as command

    command.status(home, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def topics(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """All topics, with partitions, records, size and cleanup."""
    from streams.commands import topics as command

    command.topics(home, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def peek(
    topic: Annotated[str, typer.Argument(help="Name of the topic; see `verteiler topics`.")],
    home: Home = DEFAULT_HOME,
    key: Annotated[str | None, typer.Option(metavar="K", help="Only records with this key.")] = None,
    since: Annotated[str | None, typer.Option(metavar="T", help="From this time on: ISO 8601, or 10m, 2h, 3d.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="So many records at most.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new records until interrupted.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show personal values instead of masking them.")] = False,
    as_json: Json = False,
) -> None:
    """Decoded records of a topic, newest last. Personal values are masked."""
    from streams.commands import topics as command

    command.peek(home, topic, key=key, since=since, limit=limit, follow=follow, reveal=reveal, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def why(
    client: Annotated[str, typer.Option("--client", metavar="C", help="BAF client id.")],
    home: Home = DEFAULT_HOME,
    email: Annotated[str | None, typer.Option(metavar="E", help="The mailbox, by its address.")] = None,
    recipient: Annotated[str | None, typer.Option(metavar="GGUID", help="The mailbox of this recipient row.")] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show personal values instead of masking them.")] = False,
    as_json: Json = False,
) -> None:
    """Why a mailbox is what it is: its state, and the events and rules that led to it."""
    if (email is None) == (recipient is None):
        raise Misconfigured("name either --email E or --recipient GGUID")
    from streams.commands import why as command

    command.why(home, client=client, email=email, recipient=recipient, reveal=reveal, as_json=as_json)


@worker.command()
def decide(
    flow: Annotated[str, typer.Option("--flow", metavar="objections|changes", help="Which records it decides.")],
    home: OptionalHome = None,
) -> None:
    """CRM changes and Inxmail facts → desired mailboxes."""
    from streams.commands import worker as command

    command.decide(home, flow)


@worker.command("write-back")
def write_back(home: OptionalHome = None) -> None:
    """Decisions and observations → the CRM."""
    from streams.commands import worker as command

    command.write_back(home)


@worker.command()
def client(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="BAF client id.")], home: OptionalHome = None
) -> None:
    """Desired mailboxes → one Inxmail client, and its event logs → Kafka."""
    from streams.commands import worker as command

    command.client(home, client_id)


@worker.command()
def capture(home: OptionalHome = None) -> None:
    """Keeps the connector registered, and restarts it when it failed."""
    from streams.commands import worker as command

    command.capture(home)


@simulate.command()
def inxmail(
    options: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="JSON document: lists, attributes, behaviour."),
    ] = None,
    port: Port = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the account is kept between runs; without it, it starts anew."),
    ] = None,
) -> None:
    """An Inxmail account over HTTP. Secrets come from INXMAIL_SIMULATOR_CREDENTIALS and …_CONTROL_TOKEN."""
    from streams.commands import simulate as command

    command.inxmail(options, port, state)


def main() -> None:
    """Run the command line; ends the process."""
    try:
        app()
    except PipelineError as error:
        _fail([error])
    except ExceptionGroup as group:
        expected, unexpected = group.split(PipelineError)
        if unexpected is not None or expected is None:
            raise
        _fail(list(_leaves(expected)))


def _leaves(group: ExceptionGroup[PipelineError]) -> Iterator[PipelineError]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _fail(errors: list[PipelineError]) -> None:
    for error in errors:
        typer.echo(f"verteiler: {error}", err=True)
    sys.exit(2 if any(isinstance(error, Misconfigured) for error in errors) else 1)
