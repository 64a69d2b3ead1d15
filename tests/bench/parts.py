"""What the benches of delivery run on: PostgreSQL, Kafka and the registry, and client workers as real processes."""

import asyncio
import json
import os
import random
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from connectors.embedded import ports
from connectors.embedded.home import Home
from connectors.embedded.stack import EmbeddedSettings, EmbeddedStack
from connectors.embedded.supervisor import supervising
from connectors.kafka import catalogue
from connectors.kafka.admin import Admin
from connectors.kafka.producer import BatchProducer
from connectors.kafka.registry import Registry
from connectors.kafka.settings import KafkaSettings
from connectors.store import schema as store
from schemas.ids import NORMALISER_VERSION, KeyRing
from tests.integration.client_world import new_database
from tests.world import eventually

RUNNING = "VERTEILER_BENCH_PARTS"
"""Names the home of `python -m connectors.embedded up` that already runs, to save its start while developing."""
KEY = b"0123456789abcdef"
RING = KeyRing([KEY])
LANES = ("priority", "normal", "bulk")
_START_SECONDS = 90.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Parts:
    """The services, provisioned but for topics."""

    kafka: KafkaSettings
    sync_dsn: str
    registry: Registry
    producer: BatchProducer

    async def topics(self, client: str) -> None:
        """Make a client's topics."""
        known = catalogue.catalogue([client], [], self.kafka)
        own = [topic for topic in known if topic.name.startswith(f"inxmail.{client}.")]
        dead_letters = [topic for topic in known if topic.name == catalogue.DEAD_LETTERS]
        await Admin(self.kafka).ensure_topics([*own, *dead_letters])

    def lane(self, client: str, name: str) -> str:
        """The topic of a lane; that of `normal` where the client has no such lane."""
        wanted = catalogue.mutations(client, name)
        known = {topic.name for topic in catalogue.catalogue([client], [], self.kafka)}
        return wanted if wanted in known else catalogue.mutations(client)


@asynccontextmanager
async def parts() -> AsyncIterator[Parts]:
    """The services in a temporary home, stopped at the end."""
    if RUNNING in os.environ:
        known = json.loads((Path(os.environ[RUNNING]) / "endpoints.json").read_bytes())
        credentials = f"{known['superuser']}:{known['superuser_password']}"
        server = f"postgresql://{credentials}@{known['postgres_host']}:{known['postgres_port']}"
        async with _provisioned(server, known["kafka"], known["registry"]) as made:
            yield made
        return
    with tempfile.TemporaryDirectory(prefix="verteiler-bench-") as folder:
        home = Home(Path(folder))
        stack = EmbeddedStack(home, EmbeddedSettings())
        async with supervising(home, lambda event: None) as supervisor:
            await asyncio.to_thread(stack.fetch, lambda progress: None)
            specs, endpoints = stack.specs(random.Random())
            await supervisor.start([spec for spec in specs if spec.name != "connect"])
            server = endpoints.superuser_dsn("").removesuffix("/")
            async with _provisioned(server, endpoints.kafka, endpoints.registry) as made:
                yield made


@asynccontextmanager
async def _provisioned(server: str, bootstrap: str, registry_url: str) -> AsyncIterator[Parts]:
    kafka = KafkaSettings(bootstrap=bootstrap, registry_url=registry_url)
    async with (
        new_database(server) as dsn,
        Registry(kafka) as registry,
        BatchProducer(kafka, client_id="bench", deadline_seconds=60) as producer,
    ):
        await store.provision_identity(dsn, RING.fingerprint(), NORMALISER_VERSION)
        await registry.register()
        yield Parts(kafka, dsn, registry, producer)


class Worker:
    """A running `verteiler worker client`."""

    def __init__(self, process: Process, url: str) -> None:
        self.pid = process.pid
        self._process = process
        self._url = url

    def check(self) -> None:
        """Raises: RuntimeError, when it has ended by itself."""
        if self._process.returncode is not None:
            raise RuntimeError(f"the worker ended with {self._process.returncode}")

    async def health(self) -> dict[str, Any]:
        """What /readyz tells."""
        async with aiohttp.ClientSession() as http, http.get(f"{self._url}/readyz") as response:
            found: dict[str, Any] = await response.json()
            return found

    def peak_rss_mb(self) -> int:
        """Most resident memory it ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def worker(made: Parts, client: str, account: Mapping[str, object]) -> AsyncIterator[Worker]:
    """A client worker in a process of its own, ready and caught up; ended at the end. `account`: its settings."""
    port = ports.choose({client: None}, {}, random.Random())[client]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERTEILER_")} | {
        "VERTEILER_KAFKA__BOOTSTRAP": made.kafka.bootstrap,
        "VERTEILER_KAFKA__REGISTRY_URL": made.kafka.registry_url,
        "VERTEILER_DATABASE__SYNC_DSN": made.sync_dsn,
        "VERTEILER_HMAC_KEYS": json.dumps([KEY.hex()]),
        "VERTEILER_INXMAIL": json.dumps({client: dict(account)}),
        "VERTEILER_TELEMETRY_PORT": str(port),
        "VERTEILER_LOG_LEVEL": os.environ.get("VERTEILER_BENCH_LOG_LEVEL", "ERROR"),
    }
    argv = (sys.executable, "-m", "streams", "worker", "client", client)
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=DEVNULL)
    running = Worker(process, f"http://127.0.0.1:{port}")

    async def caught_up() -> bool:
        running.check()
        try:
            health = await running.health()
        except aiohttp.ClientConnectionError:
            return False
        return health.get("caught_up") is True

    try:
        await eventually(caught_up, within_seconds=_START_SECONDS, because="the worker delivers")
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
