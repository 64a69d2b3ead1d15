"""The four services as one thing: what to fetch, what to run, where they answer."""

import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from connectors.embedded import ports
from connectors.embedded.connect import Connect
from connectors.embedded.download import Report, fetch, fetched, from_repository
from connectors.embedded.home import Home
from connectors.embedded.kafka import Kafka, render_properties
from connectors.embedded.parts import default_cache, locked_parts
from connectors.embedded.postgres import SUPERUSER, Postgres
from connectors.embedded.process import ProcessSpec
from connectors.embedded.registry import Registry
from schemas.errors import Misconfigured, Unavailable

_MIN_FREE_BYTES = 1_000_000_000


class EmbeddedSettings(BaseModel):
    """How the services run on this machine. A port of None means any free one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Path = Field(default_factory=default_cache, description="Where downloads are kept.")
    repository: str | None = Field(None, description="Address of a Maven repository in place of the public one.")
    postgres_port: int | None = None
    kafka_port: int | None = None
    controller_port: int | None = None
    registry_port: int | None = None
    registry_management_port: int | None = None
    connect_port: int | None = None
    kafka_heap_mb: int = Field(default=256, ge=160)
    connect_heap_mb: int = Field(default=256, ge=192)
    registry_heap_mb: int = Field(default=192, ge=128)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the services answer. `superuser_dsn` may do everything: it is for provisioning only."""

    postgres_host: str
    postgres_port: int
    superuser: str
    superuser_password: str
    kafka: str
    registry: str
    connect: str

    def superuser_dsn(self, database: str) -> str:
        user = f"{self.superuser}:{self.superuser_password}"
        return f"postgresql://{user}@{self.postgres_host}:{self.postgres_port}/{database}"


class EmbeddedStack:
    """One stack in one home.

    Order: `fetch`, then, owning the home (`supervising`), `specs` for the supervisor; `endpoints` is known from then.
    """

    def __init__(self, home: Home, settings: EmbeddedSettings) -> None:
        self.home = home
        self.settings = settings
        self.ports: Mapping[str, int] = {}
        """Every port that a service uses or will use; known from `specs` on."""

    def fetch(self, report: Report) -> None:
        """Download and verify what is missing. Blocks. Raises: Unavailable, Misconfigured."""
        fetch(locked_parts(), self.settings.cache, report, from_repository(self.settings.repository))

    def specs(self, draw: random.Random) -> tuple[tuple[ProcessSpec, ...], Endpoints]:
        """Choose ports and say what to run: PostgreSQL, Kafka, then registry and Connect. Order: own the home.

        Raises: Misconfigured, when a named port is taken or a folder has a name that cannot be used; Unavailable, when
            the disk is nearly full.
        """
        refuse_names(self.home.root, self.settings.cache)
        check_space(self.home.root)
        self.ports = port = self._ports(draw)
        parts = fetched(locked_parts(), self.settings.cache)
        temp = self.home.data / "tmp"
        shutil.rmtree(temp, ignore_errors=True)  # native libraries of Java programs that were killed
        temp.mkdir()
        logging = self.home.config / "log4j2.properties"
        logging.write_text(render_properties(LOGGING))
        postgres = Postgres(
            data=self.home.data / "postgres", port=port["postgres"], password=self.home.secret("postgres")
        )
        kafka = Kafka(
            data=self.home.data / "kafka",
            config=self.home.config / "server.properties",
            temp=temp,
            logging=logging,
            class_path=parts.class_path,
            port=port["kafka"],
            controller_port=port["controller"],
            heap_mb=self.settings.kafka_heap_mb,
        )
        registry = Registry(
            application=parts.registry,
            temp=temp,
            port=port["registry"],
            management_port=port["registry_management"],
            heap_mb=self.settings.registry_heap_mb,
            bootstrap=kafka.bootstrap,
        )
        connect = Connect(
            config=self.home.config / "connect.properties",
            temp=temp,
            logging=logging,
            class_path=parts.class_path,
            plugins=parts.plugins,
            port=port["connect"],
            heap_mb=self.settings.connect_heap_mb,
            bootstrap=kafka.bootstrap,
        )
        endpoints = Endpoints(
            postgres_host="127.0.0.1",
            postgres_port=postgres.port,
            superuser=SUPERUSER,
            superuser_password=postgres.password,
            kafka=kafka.bootstrap,
            registry=registry.url,
            connect=connect.url,
        )
        return (postgres.spec(), kafka.spec(), registry.spec(), connect.spec()), endpoints

    def _ports(self, draw: random.Random) -> dict[str, int]:
        """Those of last time where they are free, so that a stack keeps its addresses."""
        named = {
            "postgres": self.settings.postgres_port,
            "kafka": self.settings.kafka_port,
            "controller": self.settings.controller_port,
            "registry": self.settings.registry_port,
            "registry_management": self.settings.registry_management_port,
            "connect": self.settings.connect_port,
        }
        remembered = self.home.config / "ports.json"
        try:
            before = msgspec.json.decode(remembered.read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.DecodeError):
            before = {}
        chosen = ports.choose(named, before, draw)
        self.home.write_private(remembered, msgspec.json.encode(chosen))
        return chosen


def refuse_names(*folders: Path) -> None:
    """Raises: Misconfigured, for folders whose name would break a class path or a list of folders."""
    bad = [f"{folder} contains {mark!r}" for folder in folders for mark in ",:;\n" if mark in str(folder)]
    if bad:
        raise Misconfigured(f"Java takes no such folder: {'; '.join(bad)}; name another one")


def check_space(folder: Path, *, need_bytes: int = _MIN_FREE_BYTES) -> None:
    """Raises: Unavailable, when the disk of `folder` is nearly full."""
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise Unavailable(
            f"the disk that holds {folder} is full: {free / 1e6:.0f} MB free, {need_bytes / 1e6:.0f} MB needed; "
            "nothing was started; free some space or name another --home"
        )


LOGGING = {
    "status": "error",
    "appender.out.type": "Console",
    "appender.out.name": "out",
    "appender.out.layout.type": "PatternLayout",
    "appender.out.layout.pattern": "%d{ISO8601} %p %c{1} %m%n%ex{8}",
    "rootLogger.level": "warn",
    "rootLogger.appenderRef.out.ref": "out",
}
