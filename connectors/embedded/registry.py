"""Apicurio Registry. It keeps its schemas in Kafka, so that ids live and die with the records that name them."""

from dataclasses import dataclass
from pathlib import Path

import aiohttp

from connectors.embedded.jvm import java
from connectors.embedded.process import ProcessSpec


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry."""

    application: Path
    temp: Path
    port: int
    management_port: int
    heap_mb: int
    bootstrap: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def properties(self) -> dict[str, str]:
        return {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.port),
            "quarkus.http.access-log.enabled": "false",
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": str(self.management_port),  # cannot be switched off at run time
            "apicurio.storage.kind": "kafkasql",
            "apicurio.kafkasql.bootstrap.servers": self.bootstrap,
            "apicurio.kafkasql.consumer.poll.timeout": "50",  # ms; a write waits until it has been read back
            "apicurio.datasource.jdbc.initial-size": "2",
            "apicurio.datasource.jdbc.min-size": "2",
            "apicurio.datasource.jdbc.max-size": "8",
        }

    def spec(self) -> ProcessSpec:
        return ProcessSpec(
            name="registry",
            argv=java(
                heap_mb=self.heap_mb,
                properties=self.properties(),
                temp=self.temp,
                run=("-jar", str(self.application / "quarkus-run.jar")),
            ),
            ready=self.ready,
            ready_seconds=180,
            after=("kafka",),
        )

    async def ready(self) -> bool:
        """Whether it has read all of its journal. Its API answers before, and then knows only some of the ids."""
        return await answers_json(f"http://127.0.0.1:{self.management_port}/health/ready")


async def answers_json(url: str, timeout_seconds: float = 2.0) -> bool:
    """Whether a GET brings 200 and JSON."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            await response.json(content_type=None)
            return response.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False
