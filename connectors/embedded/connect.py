"""One worker of Kafka Connect, distributed mode, with Debezium and the Avro converter in its plug-in path."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.embedded.jvm import java
from connectors.embedded.kafka import render_properties
from connectors.embedded.process import ProcessSpec
from connectors.embedded.registry import answers_json


@dataclass(frozen=True, slots=True)
class Connect:
    """One worker. `plugins` are the unpacked plug-ins; `logging` a log4j2 configuration file."""

    config: Path
    temp: Path
    logging: Path
    class_path: Sequence[Path]
    plugins: Sequence[Path]
    port: int
    heap_mb: int
    bootstrap: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def properties(self) -> dict[str, str]:
        """connect.properties."""
        return {
            "bootstrap.servers": self.bootstrap,
            "group.id": "verteiler-connect",
            "config.storage.topic": "_connect-configs",
            "offset.storage.topic": "_connect-offsets",
            "status.storage.topic": "_connect-status",
            "config.storage.replication.factor": "1",
            "offset.storage.replication.factor": "1",
            "status.storage.replication.factor": "1",
            "offset.storage.partitions": "1",
            "status.storage.partitions": "1",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "listeners": self.url,
            "rest.advertised.host.name": "127.0.0.1",
            "plugin.path": ",".join(map(str, self.plugins)),
            "plugin.discovery": "service_load",  # a scan of all classes costs 8 s and 250 MB at every start
            "offset.flush.interval.ms": "1000",
            "connector.client.config.override.policy": "All",
            "topic.creation.enable": "true",
            "scheduled.rebalance.max.delay.ms": "0",
            "session.timeout.ms": "6000",
            "heartbeat.interval.ms": "2000",
        }

    def spec(self) -> ProcessSpec:
        return ProcessSpec(
            name="connect",
            argv=java(
                heap_mb=self.heap_mb,
                properties={"log4j2.configurationFile": self.logging.as_uri()},
                temp=self.temp,
                run=(
                    "-cp",
                    ":".join(map(str, self.class_path)),
                    "org.apache.kafka.connect.cli.ConnectDistributed",
                    str(self.config),
                ),
            ),
            prepare=self.configure,
            ready=self.ready,
            ready_seconds=180,
            after=("kafka",),
        )

    def configure(self) -> None:
        self.config.write_text(render_properties(self.properties()))

    async def ready(self) -> bool:
        """Whether the herder answers. For a second after its port opens the worker sends pages of errors."""
        return await answers_json(f"{self.url}/connectors")
