"""The simulator as a process of its own: how it starts, says where it is, fails and ends."""

import asyncio
import errno
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.contract.account import Account, Control

_SECRETS = {"INXMAIL_SIMULATOR_CREDENTIALS": '{"worker": "secret"}', "INXMAIL_SIMULATOR_CONTROL_TOKEN": "token"}
_DEADLINE_SECONDS = 20
"""A cold interpreter on a busy machine; usually one."""


@asynccontextmanager
async def _started(*arguments: str, env: dict[str, str]) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "connectors.inxmail_simulator", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env={**os.environ, **env})
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_says_where_it_answers_resets_connections_and_ends_on_sigterm(http: aiohttp.ClientSession) -> None:
    async with _started("--port", "0", env=_SECRETS) as process:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        control = Control(http, said["control_url"], "token")
        account = Account(http, said["base_url"], "worker", "secret", control)
        answered = (await account.get("/lists")).status
        await control("POST", "/faults", {"match": {"method": "POST"}, "fault": {"kind": "cut-before"}})
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await account.post("/recipients", {"email": "a@verteiler.example", "attributes": {}})
        process.send_signal(signal.SIGTERM)
        code = await process.wait()

    assert (answered, code) == (200, 0)
    assert caught.value.errno == errno.ECONNRESET


async def test_without_secrets_it_refuses_to_start_and_says_what_is_missing() -> None:
    async with _started("--port", "0", env=dict.fromkeys(_SECRETS, "")) as process:
        _, said = await process.communicate()

    assert process.returncode == 2
    assert all(name in said.decode() for name in _SECRETS)
    assert "Traceback" not in said.decode()


async def test_a_taken_port_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with _started("--port", port, env=_SECRETS) as process:
            _, said = await process.communicate()

    assert process.returncode == 2
    assert port in said.decode() and "Traceback" not in said.decode()
