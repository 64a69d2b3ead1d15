"""What `up` runs on this machine, and what each process is told: the services, one Inxmail simulator for each client,
and the pipeline. Every process gets only the addresses and secrets that it needs.
"""

import json
import random
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

import aiohttp
import msgspec
from pydantic import BaseModel, ConfigDict, Field

from connectors.embedded import ports
from connectors.embedded.home import Home
from connectors.embedded.process import ProcessSpec, Ready
from connectors.embedded.registry import answers_json
from connectors.embedded.stack import EmbeddedSettings, Endpoints
from connectors.inxmail_simulator.options import CREDENTIALS_VARIABLE, TOKEN_VARIABLE
from connectors.smartwe.schema import CAPTURE_ROLE, CRM_ROLE, WRITE_BACK_ROLE
from schemas.errors import Misconfigured
from streams.settings import SETTINGS_FILE

FLOWS = ("objections", "changes")

_READY_SECONDS = 90.0


class Plan(BaseModel):
    """What to run. `clients` are BAF client ids."""

    model_config = ConfigDict(frozen=True)

    clients: tuple[str, ...] = ("a", "b")
    decide_workers: int = Field(1, ge=1)
    embedded: EmbeddedSettings = EmbeddedSettings()


class Account(msgspec.Struct, frozen=True):
    """One simulated Inxmail account: where it answers, the pipeline's credentials, a visitor's, and the controls."""

    client: str
    port: int
    password: str
    visitor_password: str
    control_token: str

    WORKER: ClassVar[str] = "verteiler"
    VISITOR: ClassVar[str] = "visitor"

    @property
    def base_path(self) -> str:
        return f"/{self.client}/rest/v1"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base_path}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/_control"

    @property
    def credentials(self) -> dict[str, str]:
        return {self.WORKER: self.password, self.VISITOR: self.visitor_password}

    def for_worker(self) -> dict[str, str]:
        """As the client worker's settings name it."""
        return {"base_url": self.base_url, "user": self.WORKER, "password": self.password}

    def for_visitor(self) -> dict[str, str]:
        """As `endpoints.json` names it: a second pair, so that what others do is told from what the pipeline does."""
        return {
            "base_url": self.base_url,
            "user": self.VISITOR,
            "password": self.visitor_password,
            "control_url": self.control_url,
            "control_token": self.control_token,
        }


@dataclass(frozen=True)
class Stack:
    """The plan with its addresses and secrets. `inherited`: settings from the environment of `up`, handed on."""

    home: Home
    plan: Plan
    services: Endpoints
    accounts: tuple[Account, ...]
    telemetry: Mapping[str, int]
    inherited: Mapping[str, str] = field(default_factory=dict)

    @property
    def crm_dsn(self) -> str:
        """Reads and writes all of schema `crm`, as the CRM itself does."""
        return self._dsn(CRM_ROLE, "crm")

    def environment(self) -> dict[str, str]:
        """All settings of the pipeline: for `provision` and for people's commands."""
        accounts = {account.client: account.for_worker() for account in self.accounts}
        return {
            **self._bus(),
            **self._identity(),
            "VERTEILER_DATABASE__CRM_DSN": self._dsn(WRITE_BACK_ROLE, "crm"),
            "VERTEILER_DATABASE__CRM_ADMIN_DSN": self.services.superuser_dsn("crm"),
            "VERTEILER_DATABASE__CRM_USER_PASSWORD": self._password(CRM_ROLE),
            "VERTEILER_CAPTURE__CONNECT_URL": self.services.connect,
            "VERTEILER_CAPTURE__DATABASE_HOST": self.services.postgres_host,
            "VERTEILER_CAPTURE__DATABASE_PORT": str(self.services.postgres_port),
            "VERTEILER_CAPTURE__DATABASE_NAME": "crm",
            "VERTEILER_CAPTURE__DATABASE_USER": CAPTURE_ROLE,
            "VERTEILER_CAPTURE__DATABASE_PASSWORD": self._password(CAPTURE_ROLE),
            "VERTEILER_CAPTURE__REGISTRY_URL": self.services.registry,
            "VERTEILER_INXMAIL": json.dumps(accounts),
        }

    def write_settings(self) -> None:
        """Keep the settings in the home, for commands that people give while the stack runs."""
        settings = {**self.inherited, **self.environment()}
        lines = [f"{name}='{_escaped(value)}'\n" for name, value in sorted(settings.items())]
        self.home.write_private(self.home.root / SETTINGS_FILE, "".join(lines).encode())

    def endpoints(self, pids: Mapping[str, int]) -> dict[str, Any]:
        """The content of `endpoints.json`."""
        return {
            "postgres_dsn": self.crm_dsn,
            "sync_dsn": self.services.superuser_dsn("sync"),
            "kafka": self.services.kafka,
            "registry": self.services.registry,
            "connect": self.services.connect,
            "inxmail": {account.client: account.for_visitor() for account in self.accounts},
            "telemetry": {name: f"http://127.0.0.1:{port}" for name, port in self.telemetry.items()},
            "home": str(self.home.root),
            "pids": dict(pids),
        }

    def simulators(self) -> tuple[ProcessSpec, ...]:
        """One Inxmail stand-in for each client."""
        return tuple(self._simulator(account) for account in self.accounts)

    def workers(self) -> tuple[ProcessSpec, ...]:
        """The processes that records flow through. Order: after databases, topics and schemas are there."""
        decide = [
            self._worker(f"decide-{flow}-{slot}", ("decide", "--flow", flow), {"VERTEILER_INSTANCE": str(slot)})
            for flow in FLOWS
            for slot in range(self.plan.decide_workers)
        ]
        crm = {"VERTEILER_DATABASE__CRM_DSN": self._dsn(WRITE_BACK_ROLE, "crm")}
        clients = [
            self._worker(
                f"client-{account.client}",
                ("client", account.client),
                {"VERTEILER_INXMAIL": json.dumps({account.client: account.for_worker()})},
            )
            for account in self.accounts
        ]
        return (*decide, self._worker("write-back", ("write-back",), crm), *clients)

    def watchdog(self) -> ProcessSpec:
        """The process that looks after the connector. Order: after the connector is registered."""
        capture = {name: value for name, value in self.environment().items() if "CAPTURE__" in name}
        return self._worker("capture", ("capture",), capture)

    def _simulator(self, account: Account) -> ProcessSpec:
        options = self.home.config / f"simulator-{account.client}.json"
        state = self.home.data / f"simulator-{account.client}.state"
        document = {"base_path": account.base_path}

        async def ready() -> bool:
            return await _answers(account.control_url, account.control_token)

        return ProcessSpec(
            name=f"simulator-{account.client}",
            argv=_command(
                *("simulate", "inxmail", "--options", str(options)),
                *("--port", str(account.port), "--state", str(state)),
            ),
            env={
                CREDENTIALS_VARIABLE: json.dumps(account.credentials),
                TOKEN_VARIABLE: account.control_token,
            },
            prepare=lambda: self.home.write_private(options, json.dumps(document).encode()),
            ready=ready,
            ready_seconds=_READY_SECONDS,
        )

    def _worker(self, name: str, words: tuple[str, ...], own: Mapping[str, str]) -> ProcessSpec:
        port = self.telemetry[name]
        environment = {
            **_without_clients(self.inherited),
            **self._bus(),
            **self._identity(),
            **own,
            "VERTEILER_TELEMETRY_PORT": str(port),
            "TMPDIR": str(self.home.data / "tmp"),  # Faust's folder: nothing is left elsewhere
        }
        if words[0] == "client":
            environment = {**_of_client(self.inherited, words[1]), **environment}
        return ProcessSpec(
            name=name,
            argv=_command("worker", *words),
            env=environment,
            ready=_ready_at(port),
            ready_seconds=_READY_SECONDS,
            after=("postgres", "kafka", "registry", "connect", *(spec.name for spec in self.simulators())),
        )

    def _bus(self) -> dict[str, str]:
        return {
            "VERTEILER_KAFKA__BOOTSTRAP": self.services.kafka,
            "VERTEILER_KAFKA__REGISTRY_URL": self.services.registry,
            "VERTEILER_DATABASE__SYNC_DSN": self.services.superuser_dsn("sync"),
            "VERTEILER_CLIENTS": json.dumps(self.plan.clients),
        }

    def _identity(self) -> dict[str, str]:
        key = self.home.secret("hmac-key").encode().hex()
        return {"VERTEILER_HMAC_KEYS": self.inherited.get("VERTEILER_HMAC_KEYS", json.dumps([key]))}

    def _password(self, role: str) -> str:
        return self.home.secret(role.replace("_", "-"))

    def _dsn(self, role: str, database: str) -> str:
        services = self.services
        password = quote(self._password(role), safe="")
        return f"postgresql://{role}:{password}@{services.postgres_host}:{services.postgres_port}/{database}"


def arranged(
    home: Home,
    plan: Plan,
    services: Endpoints,
    environment: Mapping[str, str],
    draw: random.Random,
    *,
    taken: Collection[int],
) -> Stack:
    """The stack of a plan: ports as they were last time where they are free, secrets made once for each home.

    taken: the ports of the services, which may not listen yet.
    Raises: Misconfigured, when the environment sets what only `up` can know.
    """
    names = [
        *(f"decide-{flow}-{slot}" for flow in FLOWS for slot in range(plan.decide_workers)),
        "write-back",
        *(f"client-{client}" for client in plan.clients),
        "capture",
    ]
    simulators = [f"simulator-{client}" for client in plan.clients]
    remembered = home.config / "process-ports.json"
    try:
        before = msgspec.json.decode(remembered.read_bytes(), type=dict[str, int])
    except (FileNotFoundError, msgspec.DecodeError):
        before = {}
    chosen = ports.choose(dict.fromkeys([*simulators, *names]), before, draw, without=taken)
    home.write_private(remembered, msgspec.json.encode(before | chosen))
    accounts = tuple(
        Account(
            client=client,
            port=chosen[f"simulator-{client}"],
            password=home.secret(f"inxmail-{client}"),
            visitor_password=home.secret(f"inxmail-{client}-visitor"),
            control_token=home.secret(f"inxmail-{client}-control"),
        )
        for client in plan.clients
    )
    inherited = {name: value for name, value in environment.items() if name.startswith("VERTEILER_")}
    inherited.pop("VERTEILER_HOME", None)
    stack = Stack(home, plan, services, accounts, {name: chosen[name] for name in names}, inherited)
    if chosen_twice := sorted(inherited.keys() & stack.environment().keys() - {"VERTEILER_HMAC_KEYS"}):
        raise Misconfigured(
            f"`up` chooses these by itself: {', '.join(chosen_twice)}. Take them out of the environment;"
            " nothing was started"
        )
    return stack


def _command(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "streams", *words)


async def _answers(control_url: str, token: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=2)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(control_url, headers=headers) as found,
        ):
            return found.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _ready_at(port: int) -> Ready:
    async def ready() -> bool:
        return await answers_json(f"http://127.0.0.1:{port}/readyz")

    return ready


def _without_clients(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if not name.startswith("VERTEILER_INXMAIL")}


def _of_client(settings: Mapping[str, str], client: str) -> dict[str, str]:
    prefix = f"VERTEILER_INXMAIL__{client.upper()}__"
    return {name: value for name, value in settings.items() if name.startswith(prefix)}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
