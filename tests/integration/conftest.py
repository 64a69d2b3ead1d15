"""What the integration tests share."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.integration.client_world import Bus, ClientWorld, client_world, connected, new_database

KAFKA, REGISTRY = "VERTEILER_TEST_KAFKA", "VERTEILER_TEST_REGISTRY"
"""Name a broker and a registry that already run, to save the stack's start while developing."""

NewClient = Callable[..., AbstractAsyncContextManager[ClientWorld]]


@pytest.fixture(scope="session")
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Kafka and the registry, with our contracts."""
    if KAFKA in os.environ:
        kafka, registry = os.environ[KAFKA], os.environ[REGISTRY]
    else:
        home: Path = request.getfixturevalue("stack_home")
        endpoints = json.loads((home / "endpoints.json").read_bytes())
        kafka, registry = endpoints["kafka"], endpoints["registry"]
    async with connected(kafka, registry) as known:
        yield known


@pytest.fixture(scope="session")
async def client_dsn(postgres_server: str) -> AsyncIterator[str]:
    """A database for client workers; every test has a client of its own in it."""
    async with new_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture
def new_client(bus: Bus, client_dsn: str) -> NewClient:
    """Makes a client of its own with a simulator of its own; see `client_world`."""
    return lambda **options: client_world(bus, client_dsn, **options)


@pytest.fixture
async def world(new_client: NewClient) -> AsyncIterator[ClientWorld]:
    """A client of its own, with a simulator that is fast."""
    async with new_client() as made:
        yield made
