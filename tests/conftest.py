"""One real stack for the whole session, started when the first test asks for it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.world import World

SEARCHING = "VERTEILER_TEST_SEARCH"
"""Set: property tests try other examples each time. Not set: always the same ones, so that a red run is repeatable."""

settings.register_profile("repeatable", derandomize=True)
if SEARCHING not in os.environ:
    settings.load_profile("repeatable")

SERVER = "VERTEILER_TEST_POSTGRES"
"""Names a PostgreSQL server by a superuser's DSN without a database, to do without the whole stack."""

RUNNING = "VERTEILER_TEST_HOME"
"""Names the home of a stack that already runs, to save its start while developing. It is left running."""

_SETTINGS = {
    "VERTEILER_DECIDE__SWEEP_AFTER_SECONDS": "5",
    "VERTEILER_DECIDE__SKEW_SECONDS": "1",
    "VERTEILER_INXMAIL__A__POLL_SECONDS": "1",
    "VERTEILER_INXMAIL__B__POLL_SECONDS": "1",
    "VERTEILER_INXMAIL__A__REQUESTS_PER_MINUTE": "6000",
    "VERTEILER_INXMAIL__B__REQUESTS_PER_MINUTE": "6000",
    "VERTEILER_LEASE__TTL_SECONDS": "25",
}


def verteiler(*words: str, home: Path, seconds: float = 400.0) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VERTEILER_")}
    return subprocess.run(
        [sys.executable, "-m", "streams", *words, "--home", str(home)],
        env=inherited | _SETTINGS,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture(scope="session")
def stack_home() -> Iterator[Path]:
    """The home of a running stack with two clients and two `decide` workers for each flow."""
    if RUNNING in os.environ:
        yield Path(os.environ[RUNNING])
        return
    with tempfile.TemporaryDirectory(prefix="verteiler-test-") as folder:
        home = Path(folder)
        try:
            started = verteiler("up", "--detach", "--decide-workers", "2", home=home)
            if started.returncode:
                pytest.fail(f"the stack did not start:\n{started.stderr}\n{_log(home)}", pytrace=False)
            yield home
        finally:
            verteiler("down", home=home)


@pytest.fixture(scope="session")
async def stack(stack_home: Path) -> AsyncIterator[World]:
    """The running stack, with everything a test does to it. Shared: make your own lists and people."""
    async with World(stack_home) as world:
        yield world


def _log(home: Path) -> str:
    log = home / "logs" / "up.log"
    return log.read_text(errors="replace")[-4000:] if log.exists() else ""


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> str:
    """DSN of a superuser, without a database."""
    if SERVER in os.environ:
        return os.environ[SERVER]
    home: Path = request.getfixturevalue("stack_home")
    dsn: str = json.loads((home / "endpoints.json").read_bytes())["sync_dsn"]
    return dsn.rpartition("/")[0]
