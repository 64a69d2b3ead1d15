"""What tests of one part need of the stack: its PostgreSQL server, with databases of their own."""

import json
import os
from pathlib import Path

import pytest

SERVER = "VERTEILER_TEST_POSTGRES"
"""Names a PostgreSQL server by a superuser's DSN without a database, to do without the whole stack."""


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> str:
    """DSN of a superuser, without a database."""
    if SERVER in os.environ:
        return os.environ[SERVER]
    home: Path = request.getfixturevalue("stack_home")
    dsn: str = json.loads((home / "endpoints.json").read_bytes())["sync_dsn"]
    return dsn.rpartition("/")[0]
