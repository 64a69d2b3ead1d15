"""What the embedded services keep when they are killed."""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest

from connectors.embedded.account import unprivileged
from connectors.embedded.home import Home
from connectors.embedded.ports import choose
from connectors.embedded.postgres import DATABASES, Postgres
from connectors.embedded.process import environment

pytestmark = pytest.mark.stack


async def eventually(met: Callable[[], Awaitable[bool]], what: str, *, within_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not await met():
        assert time.monotonic() < deadline, f"not in {within_seconds:.0f} s: {what}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _running(server: Postgres, end: signal.Signals) -> AsyncIterator[None]:
    spec = server.spec()
    process = await asyncio.create_subprocess_exec(
        *spec.argv, env=environment(spec, os.environ), stderr=subprocess.DEVNULL
    )
    try:
        await eventually(server.ready, "PostgreSQL lets us in")
        yield
    finally:
        process.send_signal(end)
        await process.wait()


async def test_postgresql_runs_in_a_folder_of_our_own_and_keeps_what_was_committed_when_killed(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    port = choose({"postgres": None}, {}, random.Random())["postgres"]
    server = Postgres(data=tmp_path / "private" / "postgres", port=port, password="geheim")
    server.initialise(unprivileged())

    async with _running(server, signal.SIGKILL):
        connection = await asyncpg.connect(server.dsn("crm"))
        await connection.execute("create table kept (n int); insert into kept values (42)")
        await connection.close()
    server.initialise(unprivileged())
    async with _running(server, signal.SIGINT):
        connection = await asyncpg.connect(server.dsn("crm"))
        kept = await connection.fetchval("select n from kept")
        databases = {row["datname"] for row in await connection.fetch("select datname from pg_database")}
        settings = dict(await connection.fetch("select name, setting from pg_settings"))
        await connection.close()

    assert kept == 42
    assert databases.issuperset(DATABASES)
    assert (settings["wal_level"], settings["fsync"], settings["listen_addresses"]) == ("logical", "on", "127.0.0.1")


async def test_a_schema_keeps_its_id_when_the_registry_and_its_storage_are_gone(stack_home: Path) -> None:
    home = Home(stack_home)
    registry = json.loads(home.endpoints.read_bytes())["registry"]
    record = {"type": "record", "name": f"Kept{random.randrange(10**9)}", "fields": [{"name": "n", "type": "int"}]}

    async with aiohttp.ClientSession(registry, timeout=aiohttp.ClientTimeout(total=10)) as session:
        body = {"schema": json.dumps(record)}
        async with session.post(f"/apis/ccompat/v7/subjects/{record['name']}-value/versions", json=body) as answer:
            schema_id = (await answer.json(content_type=None))["id"]
        killed = {identity.name: identity.pid for identity in home.read_pids()}["registry"]
        os.kill(killed, signal.SIGKILL)

        async def knows_it_again() -> bool:
            if {identity.name: identity.pid for identity in home.read_pids()}.get("registry", killed) == killed:
                return False
            try:
                async with session.get(f"/apis/ccompat/v7/schemas/ids/{schema_id}") as answer:
                    return (
                        answer.status == 200 and json.loads((await answer.json(content_type=None))["schema"]) == record
                    )
            except (aiohttp.ClientError, TimeoutError):
                return False

        await eventually(knows_it_again, "the id means the same schema")


async def test_every_process_listens_on_loopback_only(stack_home: Path) -> None:
    listening = {
        (identity.name, connection.laddr.ip.removeprefix("::ffff:"))
        for identity in Home(stack_home).read_pids()
        if (process := identity.process()) is not None
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }

    assert {"postgres", "kafka", "registry", "connect"} <= {name for name, _ in listening}
    assert {address for _, address in listening} <= {"127.0.0.1", "::1"}
