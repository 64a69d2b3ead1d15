"""One Kafka broker in KRaft mode, controller included."""

import asyncio
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.embedded.home import refuse_damaged
from connectors.embedded.jvm import java
from connectors.embedded.process import ProcessSpec
from schemas.errors import Unavailable

_BATCH_MAGIC_AT = 16  # base offset 8, length 4, leader epoch 4, then the format's version


@dataclass(frozen=True, slots=True)
class Kafka:
    """One broker. `logging` is a log4j2 configuration file."""

    data: Path
    config: Path
    temp: Path
    logging: Path
    class_path: Sequence[Path]
    port: int
    controller_port: int
    heap_mb: int

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def properties(self) -> dict[str, str]:
        """server.properties."""
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self.controller_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data),
            "num.network.threads": "2",
            "num.io.threads": "4",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",  # nobody else is about to join
            "group.min.session.timeout.ms": "3000",
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),  # the default 128 MB is half the heap
            "log.index.size.max.bytes": str(1024 * 1024),  # preallocated twice for each partition
            "log.retention.check.interval.ms": "60000",
            "message.max.bytes": str(8 * 1024 * 1024),
            "compression.type": "producer",
        }

    def spec(self) -> ProcessSpec:
        return ProcessSpec(
            name="kafka",
            argv=self._java("kafka.Kafka", str(self.config)),
            prepare=self.format,
            ready=self.ready,
            ready_seconds=120,
            stop_seconds=30,
        )

    async def ready(self) -> bool:
        """Whether the broker is registered and unfenced: it answers a metadata request with itself."""
        return await asyncio.to_thread(answers_metadata, self.bootstrap)

    def format(self) -> None:
        """Write the configuration, and format the data folder unless that is done."""
        self.config.write_text(render_properties(self.properties()))
        if (self.data / "meta.properties").exists():
            refuse_unreadable_metadata(self.data)
            return
        refuse_damaged(self.data, missing="meta.properties")
        self.data.mkdir(parents=True, exist_ok=True)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self._java(
            "kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "--config", str(self.config)
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise Unavailable(f"Kafka's data folder could not be formatted: {lines[-1] if lines else done.returncode}")

    def _java(self, *run: str) -> tuple[str, ...]:
        return java(
            heap_mb=self.heap_mb,
            properties={"log4j2.configurationFile": self.logging.as_uri()},
            temp=self.temp,
            run=("-cp", ":".join(map(str, self.class_path)), *run),
        )


def refuse_unreadable_metadata(data: Path) -> None:
    """Raises: Unavailable, when the log of the cluster's own metadata does not begin with a record batch.

    The broker would cut that log off as a torn tail, know no topic any more, and delete them all as strays.
    """
    segments = sorted((data / "__cluster_metadata-0").glob("*.log"))
    if not segments or segments[0].stat().st_size == 0:
        return
    with segments[0].open("rb") as file:
        head = file.read(_BATCH_MAGIC_AT + 1)
    first_offset = int.from_bytes(head[:8])
    if len(head) <= _BATCH_MAGIC_AT or head[_BATCH_MAGIC_AT] != 2 or first_offset < int(segments[0].stem):
        raise Unavailable(
            f"Kafka's data folder is damaged: {segments[0]} is no log; nothing was changed; "
            "put it back, or erase everything with `down --erase`"
        )


def answers_metadata(bootstrap: str, timeout_seconds: float = 2.0) -> bool:
    """Whether a broker that serves clients is there."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.connection.setup.timeout.ms": 1500})
    try:
        return bool(admin.list_topics(timeout=timeout_seconds).brokers)
    except KafkaException:
        return False


def render_properties(properties: Mapping[str, str]) -> str:
    """A Java properties file, in ASCII: Java reads these files as Latin-1."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties.items())


def _escaped(value: str) -> str:
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
    text = "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)
    return "\\" + text if text.startswith(" ") else text
