"""`verteiler worker …`: one process of the pipeline, until it is told to stop or something surprises it."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from connectors.debezium.connect import Connect
from connectors.debezium.watchdog import watch
from connectors.store import schema as store
from schemas.errors import Misconfigured
from streams.app import Flow, run_flow
from streams.identity import check_identity
from streams.provisioning import capture_config
from streams.settings import Settings, read_settings
from streams.stack import FLOWS
from streams.telemetry import Health, configure_logging, serve_health


def decide(home: Path | None, flow: str) -> None:
    """Fold and decide one flow's records. Raises: Misconfigured."""
    if flow not in FLOWS:
        raise Misconfigured(f"there is no flow {flow!r}; the flows are {', '.join(FLOWS)}")
    from streams.outbound.flow import decide_flow

    settings = _prepared(home)
    _run(decide_flow(settings, flow), settings)


def write_back(home: Path | None) -> None:
    """Write decisions and observations into the CRM. Raises: Misconfigured."""
    from streams.inbound.write_back import write_back_flow

    settings = _prepared(home)
    _run(write_back_flow(settings), settings)


def client(home: Path | None, client_id: str) -> None:
    """Deliver to one Inxmail client and poll it. Raises: Misconfigured."""
    from streams.delivery.worker import run

    settings = _prepared(home)
    if client_id not in settings.inxmail:
        raise Misconfigured(
            f"no settings for Inxmail client {client_id}: set VERTEILER_INXMAIL__{client_id.upper()}__BASE_URL,"
            " …__USER and …__PASSWORD; nothing was started"
        )
    own = settings.model_copy(update={"inxmail": {client_id: settings.inxmail[client_id]}})
    stop = asyncio.Event()
    uvloop.run(_until_told(run(own, client_id, stop), stop))


def capture(home: Path | None) -> None:
    """Keep the connector registered and running. Raises: Misconfigured."""
    settings = _prepared(home)
    stop = asyncio.Event()
    uvloop.run(_until_told(_capture(settings, stop), stop))


async def _capture(settings: Settings, stop: asyncio.Event) -> None:
    async def wanted() -> dict[str, str]:
        present = await store.present_history(settings.database.sync_dsn.get_secret_value())
        if present is None:
            raise Misconfigured("capture was never provisioned: run `verteiler provision` first; nothing was started")
        return capture_config(settings, present[0].epoch)

    await wanted()
    health = Health(ready=True)
    server = await serve_health(health, settings.telemetry_port)
    async with Connect(settings.capture.connect_url) as connect:
        watching = asyncio.create_task(watch(connect, settings.capture.connector, wanted))
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            if watching in done:
                watching.result()  # it only ends by a surprise
        finally:
            watching.cancel()
            stopping.cancel()
            await server.cleanup()


async def _until_told(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await work


def _prepared(home: Path | None) -> Settings:
    settings = read_settings(home)
    configure_logging(settings.log_level)
    asyncio.run(check_identity(settings))
    return settings


def _run(flow: Flow, settings: Settings) -> None:
    run_flow(
        flow,
        bootstrap=settings.kafka.bootstrap,
        instance=settings.instance,
        telemetry_port=settings.telemetry_port,
    )
