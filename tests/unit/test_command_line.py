import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.errors import Misconfigured
from streams.commands.up import plan_of


def verteiler(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "streams", *words],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_does_not_wait_for_the_machinery() -> None:
    heavy = "aiohttp", "asyncpg", "confluent_kafka", "faust", "fastavro", "pydantic"
    script = f"import sys, streams.cli; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("nonsense",), id="no such command"),
        pytest.param(("demo", "--addresses", "none"), id="no number"),
        pytest.param(("why", "--client", "a"), id="nobody named"),
        pytest.param(("why", "--client", "a", "--email", "x@example.org", "--recipient", "A" * 32), id="two named"),
        pytest.param(("sample",), id="neither generated nor an export"),
        pytest.param(("up", "--clients", "A,b b"), id="client ids that cannot be"),
        pytest.param(("worker", "decide", "--flow", "nonsense"), id="no such flow"),
    ],
)
def test_wrong_use_is_told_in_words_and_ends_with_2(words: tuple[str, ...], tmp_path: Path) -> None:
    done = verteiler(*words, HOME=str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    done = verteiler(
        "status",
        "--home",
        str(tmp_path),
        VERTEILER_KAFKA__PARTITIONS="many",
        VERTEILER_TELEMETRY_PORT="-1",
    )

    assert done.returncode == 2
    assert "VERTEILER_KAFKA__PARTITIONS" in done.stderr
    assert "VERTEILER_TELEMETRY_PORT" in done.stderr


def test_what_cannot_be_reached_is_one_sentence_and_ends_with_1(tmp_path: Path) -> None:
    done = verteiler(
        "worker",
        "write-back",
        VERTEILER_HMAC_KEYS=json.dumps(["00" * 32]),
        VERTEILER_DATABASE__SYNC_DSN="postgresql://nobody@127.0.0.1:1/sync",
        HOME=str(tmp_path),
    )

    assert done.returncode == 1
    assert done.stderr.startswith("verteiler: PostgreSQL cannot be reached")
    assert len(done.stderr.splitlines()) == 1


def test_a_stack_that_is_not_there_can_be_stopped(tmp_path: Path) -> None:
    done = verteiler("down", "--json", "--home", str(tmp_path / "none"))

    assert done.returncode == 0
    assert json.loads(done.stdout)["ended"] == []


def test_client_ids_are_checked_all_at_once() -> None:
    with pytest.raises(Misconfigured) as refused:
        plan_of("a,B,c d,a")

    assert "'B'" in str(refused.value)
    assert "'c d'" in str(refused.value)
    assert "twice" in str(refused.value)


def test_clients_keep_their_order() -> None:
    assert plan_of("b, a").clients == ("b", "a")


def test_help_is_there_at_once() -> None:
    began = time.perf_counter()
    done = verteiler("--help")

    assert done.returncode == 0
    assert time.perf_counter() - began < 5.0  # half a second by itself; the rest is for a machine that is busy
