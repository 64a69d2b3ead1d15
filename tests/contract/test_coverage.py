"""The suite itself: every well-founded statement has a test, and without leave to write it only reads."""

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.contract.account import somebody
from tests.contract.conftest import Simulated
from tests.contract.coverage import STATEMENTS, page

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_SUITE_SECONDS = 120


def test_every_statement_names_tests_that_exist() -> None:
    known = {
        f"{file.stem.removeprefix('test_')}.{name}"
        for file in _HERE.glob("test_*.py")
        for name in re.findall(r"^async def test_(\w+)\(", file.read_text("utf-8"), re.MULTILINE)
    }
    named = {test for statement in STATEMENTS for test in statement.tests}

    assert named - known == set()
    assert all(statement.tests for statement in STATEMENTS)


def test_the_page_of_statements_is_up_to_date() -> None:
    written = (_ROOT / "docs" / "inxmail-contract.md").read_text("utf-8")

    assert written == page(), "run `python -m tests.contract.coverage > docs/inxmail-contract.md`"


async def test_without_leave_to_write_the_suite_only_reads(simulator: Simulated) -> None:
    async with simulator({"event_delay_ms": 0}) as account:
        for _ in range(3):
            email = somebody()
            await account.control.person("subscribe", 7, email, attributes={"Vorname": "Ann"})
            await account.control.person("unsubscribe-by-link", 7, email)
        before = (await account.control("GET", "/counters"))["last_id"]
        argv = [sys.executable, "-m", "pytest", str(_HERE), "-q", "-p", "no:cacheprovider"]
        process = await asyncio.create_subprocess_exec(
            *argv,
            *("--inxmail-url", account.base_url, "--inxmail-user", "worker"),
            cwd=_ROOT,
            env=os.environ | {"INXMAIL_PASSWORD": "worker secret"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_SUITE_SECONDS):
            told, _ = await process.communicate()
        asked = (await account.control("GET", f"/requests?after_id={before}&limit=10000"))["requests"]
        changes = [entry["route"] for entry in asked if entry["method"] != "GET"]

    assert process.returncode == 0, told.decode()[-3000:]
    assert changes == []
    assert len(asked) > 50, "it does read"
