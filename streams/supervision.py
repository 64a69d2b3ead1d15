"""`up` from nothing to ready, and until it is told to stop: services, then what must exist, then the pipeline."""

import asyncio
import os
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.embedded.download import Progress
from connectors.embedded.home import Home
from connectors.embedded.process import ProcessSpec
from connectors.embedded.stack import EmbeddedStack
from connectors.embedded.supervisor import SELF, Event, Supervisor, supervising
from connectors.smartwe.clients import ensure_clients
from schemas.errors import Unavailable
from streams.provisioning import provision_bus, provision_capture, provision_databases
from streams.settings import SETTINGS_FILE, Settings, settings_from
from streams.stack import Plan, Stack, arranged

Say = Callable[[str], None]


async def run(
    home: Home,
    plan: Plan,
    environment: Mapping[str, str],
    *,
    say: Say,
    fetching: Callable[[Progress], None],
    ready: Callable[[dict[str, Any]], None],
) -> None:
    """Run the stack until a signal ends it. `ready` gets the content of `endpoints.json` once everything answers.

    Raises: Misconfigured, Unavailable, saying which part did not start and why; everything is stopped by then.
    """
    pids = _Pids(home)
    async with supervising(home, pids.changed) as supervisor:
        pids.supervisor = supervisor
        embedded = EmbeddedStack(home, plan.embedded)
        await _fetch(embedded, fetching)
        say("starting PostgreSQL, Kafka, registry and Connect")
        services, endpoints = embedded.specs(random.Random())
        stack = arranged(home, plan, endpoints, environment, random.Random(), taken=embedded.ports.values())
        stack.write_settings()
        await _bring_up(supervisor, stack, services, say)
        pids.stack = stack
        home.write_endpoints(stack.endpoints(_pids(supervisor)))
        ready(stack.endpoints(_pids(supervisor)))
        await supervisor.until_stopped()


async def _bring_up(supervisor: Supervisor, stack: Stack, services: Sequence[ProcessSpec], say: Say) -> None:
    settings = settings_from(stack.home.root / SETTINGS_FILE)
    postgres = [spec for spec in services if spec.name == "postgres"]
    others = [spec for spec in services if spec.name != "postgres"]
    async with asyncio.TaskGroup() as side_by_side:
        side_by_side.create_task(supervisor.start(others))
        side_by_side.create_task(_databases(supervisor, postgres, settings, stack.plan.clients))
        side_by_side.create_task(supervisor.start(stack.simulators()))
    say("provisioning topics and schemas")
    await provision_bus(settings)
    say("starting the connector and the pipeline")
    async with asyncio.TaskGroup() as side_by_side:
        side_by_side.create_task(supervisor.start(stack.workers()))
        side_by_side.create_task(_capture(supervisor, stack, settings))


async def _capture(supervisor: Supervisor, stack: Stack, settings: Settings) -> None:
    await provision_capture(settings)
    await supervisor.start((stack.watchdog(),))


async def _databases(
    supervisor: Supervisor, postgres: Sequence[ProcessSpec], settings: Settings, clients: Sequence[str]
) -> None:
    await supervisor.start(postgres)
    await provision_databases(settings)
    await ensure_clients(settings.database.crm_admin_dsn.get_secret_value(), clients)


async def _fetch(embedded: EmbeddedStack, report: Callable[[Progress], None]) -> None:
    """Downloads run in threads, which nobody can cancel: they stop at their next word when we are."""
    stopping = threading.Event()

    def reported(progress: Progress) -> None:
        if stopping.is_set():
            raise Unavailable("the download was stopped; what was loaded stays and is resumed")
        report(progress)

    try:
        await asyncio.to_thread(embedded.fetch, reported)
    except asyncio.CancelledError:
        stopping.set()
        raise


class _Pids:
    """Keeps the process ids in `endpoints.json` true when a process is started again."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.supervisor: Supervisor | None = None
        self.stack: Stack | None = None

    def changed(self, event: Event) -> None:
        if self.stack is not None and self.supervisor is not None and event.what in ("starting", "ended"):
            self._home.write_endpoints(self.stack.endpoints(_pids(self.supervisor)))


def _pids(supervisor: Supervisor) -> dict[str, int]:
    return {SELF: os.getpid(), **supervisor.pids()}
