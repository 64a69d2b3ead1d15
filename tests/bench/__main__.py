"""`python -m tests.bench [PART …]`: the figures that later work is compared by, as one JSON document.

Parts: `stack` (the whole pipeline), `delivery` (client workers alone), `simulator`; all when none is named. Each starts
what it needs in a temporary home and stops it at the end. What is done is told on standard error.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from streams.demo.course import Report, run
from streams.demo.measure import Race, latency
from streams.settings import read_settings
from tests.bench import delivery, opt_outs, simulator
from tests.bench.snapshot import seconds_of_first_load
from tests.world import World, eventually

ADDRESSES = 10_000
NEW_SUBSCRIBERS = 30
_IDLE_SECONDS = 10.0


PARTS = ("stack", "delivery", "simulator")


def main() -> int:
    """Print the figures; 1 when both sides were not equal in the end, and the figures are worth nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args().parts or PARTS
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    figures: dict[str, Any] = {}
    if "stack" in chosen:
        figures |= _of_the_stack()
    if "delivery" in chosen:
        figures |= asyncio.run(delivery.figures())
    if "simulator" in chosen:
        figures |= asyncio.run(simulator.figures())
    sys.stdout.write(json.dumps(figures | {"machine": _machine()}, indent=2) + "\n")
    return 0 if figures.get("converged", True) else 1


def _of_the_stack() -> dict[str, Any]:
    with _stack() as home:
        first = asyncio.run(seconds_of_first_load(home, _Told(), addresses=ADDRESSES))
    began = time.monotonic()
    with _stack() as home:
        figures = {"initial_load_10k_s": first, "warm_start_s": round(time.monotonic() - began, 2)}
        return figures | asyncio.run(_measured(home))


@contextmanager
def _stack() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="verteiler-bench-") as folder:
        try:
            _verteiler("up", "--detach", home=Path(folder))
            yield Path(folder)
        finally:
            _verteiler("down", home=Path(folder))


async def _measured(home: Path) -> dict[str, Any]:
    await asyncio.sleep(_IDLE_SECONDS)  # caches and garbage of the start shall have settled
    memory = _memory_mb(home)
    endpoints = json.loads((home / "endpoints.json").read_bytes())
    report = await run(endpoints, read_settings(home).key_ring(), _Told(), addresses=ADDRESSES, seed=1)
    async with World(home) as world:
        new = await _new_subscribers(world)
        words = await opt_outs.figures(world)
    return _figures(report) | memory | {"new_subscriber_ms": _milliseconds(new)} | words


async def _new_subscribers(world: World) -> Race:
    """People with a consent who become members, one a second; until their list shows them as subscribed."""
    race = Race()
    place = await world.place("a")
    for _ in range(NEW_SUBSCRIBERS):
        email = world.email()
        address = await world.person(email, town="Neustadt")
        await world.member(place, address)
        race.begin(email, time.monotonic())
        await eventually(partial(world.seen, place, email), within_seconds=30, because="a new subscriber arrives")
        race.arrive(email, time.monotonic())
    return race


def _figures(report: Report) -> dict[str, Any]:
    return {
        "streamed_load_10k_s": report.initial_load_s,
        "incremental_ms": {"p50": report.incremental_ms.p50, "p99": report.incremental_ms.p99},
        "reverse_ms": {"p50": report.reverse_ms.p50, "p99": report.reverse_ms.p99},
        "converged": report.converged,
        "lost": report.lost,
    }


def _milliseconds(race: Race) -> dict[str, float | None]:
    figures = latency(race.took)
    return {"p50": figures.p50, "p99": figures.p99}


def _memory_mb(home: Path) -> dict[str, int]:
    """Of every process of the stack and what it started. Shared pages count for each in RSS, and once in PSS."""
    rss = pss = 0
    processes: set[psutil.Process] = set()
    for row in json.loads((home / "pids.json").read_bytes()):
        process = psutil.Process(row["pid"])
        processes |= {process, *process.children(recursive=True)}
    for process in processes:
        try:
            full = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        rss += full.rss
        pss += getattr(full, "pss", full.rss)
    return {"idle_rss_mb": rss // 2**20, "idle_pss_mb": pss // 2**20}


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[1]
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}; load of 5 minutes {load:.1f};"
        " stand-ins import 5,000 rows a second after 200 ms and show log entries after 500 ms"
    )


class _Told:
    """A stage without a stage."""

    def say(self, words: str) -> None:
        sys.stderr.write(words + "\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """Too often to be told."""


def _verteiler(*words: str, home: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VERTEILER_")}
    argv = [sys.executable, "-m", "streams", *words, "--home", str(home)]
    subprocess.run(argv, env=inherited, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
