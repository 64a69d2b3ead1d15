"""The contract suite runs against the simulator, or against a real account with `--inxmail-url`.

There it only reads unless `--write` is given; tests about the simulator itself are then skipped.
The password of a real account comes from the environment variable INXMAIL_PASSWORD; on the command line others see it.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from pydantic import SecretStr

from connectors.inxmail_simulator.clock import Clock
from connectors.inxmail_simulator.options import SimulatorOptions
from connectors.inxmail_simulator.server import serving
from tests.contract.account import Account, Control

_USER, _PASSWORD, _TOKEN = "worker", "worker secret", "control token"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("inxmail contract")
    group.addoption("--inxmail-url", help="base URL of a real account; the simulator when absent")
    group.addoption("--inxmail-user", "--user", help="its key id")
    group.addoption("--inxmail-password", "--password", help="its secret; better in INXMAIL_PASSWORD")
    group.addoption("--write", action="store_true", help="may create lists, recipients and imports there")


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


@asynccontextmanager
async def simulated(http: aiohttp.ClientSession, clock: Clock | None, **options: Any) -> AsyncIterator[Account]:
    secrets = {_USER: SecretStr(_PASSWORD), "second": SecretStr("second secret")}
    chosen = SimulatorOptions(credentials=secrets, control_token=SecretStr(_TOKEN), **options)
    async with serving(chosen, clock) as (endpoint, _):
        control = Control(http, endpoint.control_url, _TOKEN)
        yield Account(http, endpoint.base_url, _USER, _PASSWORD, control)


@pytest.fixture(scope="session")
async def api(http: aiohttp.ClientSession, pytestconfig: pytest.Config) -> AsyncIterator[Account]:
    """The account under test, for reading."""
    url = pytestconfig.getoption("--inxmail-url", None)
    if url:
        user = pytestconfig.getoption("--inxmail-user") or ""
        password = pytestconfig.getoption("--inxmail-password") or os.environ.get("INXMAIL_PASSWORD", "")
        yield Account(http, url, user, password, None)
        return
    behaviour = {"requests_per_minute": 1_000_000, "event_delay_ms": 20, "import_start_ms": 10}
    async with simulated(http, None, behaviour=behaviour) as account:
        yield account


@pytest.fixture
def writable(api: Account, pytestconfig: pytest.Config) -> Account:
    """The account under test, for writing."""
    if pytestconfig.getoption("--inxmail-url", None) and not pytestconfig.getoption("--write", False):
        pytest.skip("a real account is only written to with --write")
    return api


@pytest.fixture
async def list_id(writable: Account) -> AsyncIterator[int]:
    """A new, empty list, deleted afterwards."""
    name = f"contract {uuid4().hex}"
    made = await writable.post(
        "/lists", {"name": name, "type": "STANDARD", "senderAddress": "sender@verteiler.example"}
    )
    assert made.status == 201, made.text
    yield made.body["id"]
    await writable.delete(f"/lists/{made.body['id']}")


@pytest.fixture(scope="session")
async def attribute(api: Account) -> Callable[[str], str]:
    """Names of existing attributes by type: the simulator's own, or those the real account was given."""
    kinds = {item["type"]: item["name"] for item in await api.walk("/attributes?pageSize=100", "attributes")}
    return kinds.__getitem__


Simulated = Callable[..., AbstractAsyncContextManager[Account]]


@pytest.fixture
def simulator(http: aiohttp.ClientSession, pytestconfig: pytest.Config) -> Simulated:
    """Starts a simulator of its own for one test; its clock stands still until told to advance."""
    if pytestconfig.getoption("--inxmail-url", None):
        pytest.skip("is about the simulator")

    def start(behaviour: dict[str, object] | None = None, **options: Any) -> AbstractAsyncContextManager[Account]:
        chosen = {"requests_per_minute": 1_000_000} | (behaviour or {})
        return simulated(http, Clock(lambda: 1_767_225_600.0), behaviour=chosen, **options)

    return start
