"""`status` and `why` as people call them, on the running stack."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.world import World, eventually

pytestmark = pytest.mark.stack


def asked(world: World, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON document of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "streams", *words, "--home", str(world.home), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


async def test_status_reads_every_part_of_a_healthy_stack(stack: World) -> None:
    code, report = asked(stack, "status")

    assert (code, report["faults"]) == (0, [])
    assert report["connector"]["state"] == "RUNNING" and report["connector"]["tasks"] == ["RUNNING"]
    assert report["slot"]["active"] is True
    assert {lane["client"] for lane in report["lanes"]} == {"a", "b"}
    assert {(cursor["client"], cursor["stream"]) for cursor in report["cursors"]} >= {
        (client, stream) for client in ("a", "b") for stream in ("subscriptions", "unsubscriptions")
    }
    assert {process["name"]: process["state"] for process in report["processes"]}["write-back"] == "ready"


async def test_why_follows_a_member_from_the_crm_to_inxmail_and_back(stack: World) -> None:
    place, email = await stack.place(), stack.email("ann")
    recipient = await stack.member(place, await stack.person(email))
    await stack.arrives(place, email)
    await stack.shows(recipient, "subscribed")

    async def is_settled() -> dict[str, Any] | None:
        _, report = asked(stack, "why", "--client", place.client, "--email", email)
        return report if report["claims"] and report["claims"][0]["shown_in_crm"] else None

    report = await eventually(is_settled, because="the CRM shows the newest status")

    (wish,) = report["lists"]
    assert (wish["list_id"], wish["rule"], wish["held"]) == (place.list_id, "member", "subscribed")
    assert report["version"] == report["answered"] and report["outcome"] == "applied"
    assert {"crm", "evidence", "decision", "told", "call", "result", "status", "written"} <= {
        step["kind"] for step in report["chain"]
    }
    decision = next(step for step in report["chain"] if step["kind"] == "decision")
    assert decision["place"]["topic"] == f"inxmail.{place.client}.mutations.normal"
    assert email.partition("@")[0] not in json.dumps(report)
    by_recipient = asked(stack, "why", "--client", place.client, "--recipient", recipient)[1]
    assert (by_recipient["mailbox"], by_recipient["lists"]) == (report["mailbox"], report["lists"])
