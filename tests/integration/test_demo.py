"""The demonstration must see what the pipeline cannot: it compares both sides from outside."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streams.demo.visitor import Visitor
from tests.conftest import verteiler
from tests.world import eventually

pytestmark = pytest.mark.stack


@pytest.fixture
async def demo() -> AsyncIterator[tuple[Path, asyncio.subprocess.Process]]:
    """A demonstration under way, in a stack of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERTEILER_")}
    with tempfile.TemporaryDirectory(prefix="verteiler-demo-") as folder:
        home = Path(folder) / "home"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streams", "demo", "--home", str(home)),
            *("--addresses", "300", "--patience", "4", "--json"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield home, process
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
            verteiler("down", home=home)


async def test_a_recipient_changed_behind_the_pipelines_back_is_seen(
    demo: tuple[Path, asyncio.subprocess.Process],
) -> None:
    home, process = demo
    endpoints = await eventually(lambda: _read(home), within_seconds=120, because="the stack is up")
    async with Visitor("a", endpoints["inxmail"]["a"]) as visitor:
        edited = await eventually(lambda: _somebody_edited(visitor), within_seconds=90, because="the edits are over")
        await visitor.control("PATCH", f"/recipients/{edited}", {"attributes": {"Nachname": "Von-Hand-Geändert"}})
    output, remarks = await asyncio.wait_for(process.communicate(), 120)

    assert process.returncode == 1, remarks.decode()
    report = json.loads(output)
    assert report["converged"] is False
    assert report["differences"] == {"wrong_value": 1}
    assert report["lost"] == 0
    (example,) = report["examples"]
    assert (example["client"], example["detail"]) == ("a", "Nachname")
    assert "@" not in json.dumps(report["examples"])


def _read(home: Path) -> dict[str, Any] | None:
    path = home / "endpoints.json"
    found: dict[str, Any] | None = json.loads(path.read_bytes()) if path.exists() else None
    return found


async def _somebody_edited(visitor: Visitor) -> int | None:
    """The id of a recipient that was edited, once people have begun to leave: nobody writes to it again."""
    state = await visitor.control("GET", "/state")
    if not state["events"]["unsubscriptions"]["visible"]:
        return None
    patches = await visitor.requests_since(0, method="PATCH")
    return int(patches[0].path.rpartition("/")[2]) if patches else None
