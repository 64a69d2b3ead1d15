"""What the Inxmail simulator carries, measured over HTTP against a process of its own that may use one core only.

The asking side is a bare socket with keep-alive, on another core where there is one: it is not what is measured.
"""

import asyncio
import gzip
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Self
from urllib.parse import urlsplit

import psutil

from tests.world import eventually

RECIPIENTS = 1_000_000
WIDE_RECIPIENTS = 50_000
MAPPED_FIELDS = 12
WIDE_FIELDS = 20
_REQUESTS = 5_000
_PAGES = 50
_IMPORT_ROWS = 100_000
USER, VISITOR, SECRET, TOKEN = "bench", "visitor", "bench secret", "bench token"
LIST = 7
_START_SECONDS = 20.0
_IMPORT_SECONDS = 120.0


async def figures() -> dict[str, float | int]:
    """Keys `sim_*`: requests a second, milliseconds of a page, rows a second, MiB of resident memory."""
    return await _size() | await _speed()


async def _speed() -> dict[str, float | int]:
    async with simulator(_texts(WIDE_FIELDS), core=_cores()[-1]) as running, Wire(running) as wire:
        simple = await _requests_per_second(wire, "/serverinfo")
        simple_cpu = running.cpu_seconds
        by_address_path = "/recipients?email=person1%40verteiler.example&pageSize=1"
        took, cpu = await running.imported(wire, WIDE_RECIPIENTS, WIDE_FIELDS)
        before = running.cpu_seconds
        by_address = await _requests_per_second(wire, by_address_path)
        by_address_cpu = running.cpu_seconds - before
        names = ",".join(_attribute(number) for number in range(WIDE_FIELDS))
        pages = await _page_milliseconds(wire, f"/recipients?attributes={names}&pageSize=1000")
        listed = await _page_milliseconds(
            wire,
            f"/recipients?attributes={names}&subscribedTo={LIST}&subscriptionDatesForLists={LIST}"
            f"&unsubscriptionDatesForLists={LIST}&pageSize=1000",
        )
    async with simulator(_texts(MAPPED_FIELDS), core=_cores()[-1]) as running, Wire(running) as wire:
        took, cpu = await running.imported(wire, _IMPORT_ROWS, MAPPED_FIELDS)
    return {
        "sim_requests_per_s": round(simple),
        "sim_requests_per_cpu_s": round(_REQUESTS / simple_cpu),
        "sim_lookups_per_s": round(by_address),
        "sim_lookups_per_cpu_s": round(_REQUESTS / by_address_cpu),
        "sim_page_1000x20_ms": round(median(pages), 1),
        "sim_page_1000x20_worst_ms": round(max(pages), 1),
        "sim_page_1000x20_of_list_ms": round(median(listed), 1),
        "sim_import_rows_per_s": round(_IMPORT_ROWS / took),
        "sim_import_rows_per_cpu_s": round(_IMPORT_ROWS / cpu),
    }


async def _size() -> dict[str, float | int]:
    """A million recipients of twelve attributes on one list, as an initial load leaves them."""
    async with simulator(_texts(MAPPED_FIELDS), core=_cores()[-1]) as running, Wire(running) as wire:
        empty = running.rss_mb
        took, _ = await running.imported(wire, RECIPIENTS, MAPPED_FIELDS)
        deep = await _page_milliseconds(wire, f"/recipients?afterId={RECIPIENTS // 2}&pageSize=1000")
        rare = await _page_milliseconds(wire, f"/recipients?subscribedTo={LIST}&afterId={RECIPIENTS}&pageSize=1000")
        return {
            "sim_empty_rss_mb": empty,
            "sim_million_rss_mb": running.rss_mb,
            "sim_million_load_s": round(took, 1),
            "sim_million_page_ms": round(median(deep), 1),
            "sim_million_last_page_ms": round(median(rare), 1),
        }


class Running:
    """A simulator process."""

    def __init__(self, process: Process, base_url: str, control_url: str) -> None:
        self.base_url = base_url
        self.control_url = control_url
        self._process = psutil.Process(process.pid)
        self._started = 0.0
        self._started = self.cpu_seconds

    @property
    def cpu_seconds(self) -> float:
        """User and system time since it started to answer."""
        times = self._process.cpu_times()
        return float(times.user + times.system) - self._started

    @property
    def rss_mb(self) -> int:
        return int(self._process.memory_info().rss) // 2**20

    async def imported(self, wire: "Wire", rows: int, fields: int, chunk: int = 50_000) -> tuple[float, float]:
        """Bring in that many recipients. (seconds, processor seconds) from the first byte to the last SUCCESS."""
        began, cpu = time.monotonic(), self.cpu_seconds
        for first in range(0, rows, chunk):
            await wire.import_(csv_of(range(first, min(first + chunk, rows)), fields))
        return time.monotonic() - began, self.cpu_seconds - cpu


class Wire:
    """One HTTP/1.1 connection, one request at a time, with as little as possible of its own."""

    def __init__(self, running: Running) -> None:
        url = urlsplit(running.base_url)
        self._host, self._port, self._path = url.hostname or "", url.port or 0, url.path
        secret = b64encode(f"{USER}:{SECRET}".encode()).decode()
        self._head = f"Host: {self._host}:{self._port}\r\nAuthorization: Basic {secret}\r\n"

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def get(self, path: str) -> bytes:
        """The body. Raises: AssertionError, unless the answer is 200."""
        return await self._ask(f"GET {self._path}{path} HTTP/1.1\r\n{self._head}\r\n".encode(), b"200")

    async def import_(self, csv: bytes) -> None:
        """Import a file and wait for its end."""
        data = (
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="datafile.csv.gz"\r\n'
            b"Content-Type: application/gzip\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(csv, 1) + b"\r\n--B--"
        )
        request = (
            f"POST {self._path}/imports/recipients?listId={LIST} HTTP/1.1\r\n{self._head}"
            f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        import_id = json.loads(await self._ask(request.encode() + data, b"201"))["id"]

        async def ended() -> bool:
            shown = json.loads(await self.get(f"/imports/recipients/{import_id}"))
            assert shown["failCount"] == 0
            return bool(shown["state"] == "SUCCESS")

        await eventually(ended, within_seconds=_IMPORT_SECONDS, because=f"import {import_id} ends without a failure")

    async def _ask(self, request: bytes, status: bytes) -> bytes:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        assert head.split(b" ", 2)[1] == status, (head, body[:500])
        return body


@asynccontextmanager
async def simulator(
    attributes: Sequence[tuple[str, str]], behaviour: Mapping[str, object] | None = None, *, core: int | None = None
) -> AsyncIterator[Running]:
    """A simulator process with these attributes (name, type), on one core if it is told which.

    behaviour: its options; without them it has no request limit, and imports are as fast as they go.
    """
    unlimited = {"requests_per_minute": 10**9, "import_rows_per_second": None, "import_start_ms": 0}
    options = {
        "attributes": [{"name": name, "type": kind} for name, kind in attributes],
        "behaviour": unlimited if behaviour is None else dict(behaviour),
    }
    secrets = {
        "INXMAIL_SIMULATOR_CREDENTIALS": json.dumps({USER: SECRET, VISITOR: SECRET}),
        "INXMAIL_SIMULATOR_CONTROL_TOKEN": TOKEN,
    }
    with tempfile.TemporaryDirectory(prefix="verteiler-bench-") as folder:
        file = Path(folder) / "options.json"
        file.write_text(json.dumps(options), "utf-8")
        argv = (sys.executable, "-m", "connectors.inxmail_simulator", "--port", "0", "--options", str(file))
        process = await asyncio.create_subprocess_exec(*argv, env=os.environ | secrets, stdout=PIPE, stderr=DEVNULL)
        try:
            if core is not None:
                psutil.Process(process.pid).cpu_affinity([core])
            assert process.stdout is not None
            async with asyncio.timeout(_START_SECONDS):
                where = json.loads(await process.stdout.readline())
            yield Running(process, where["base_url"], where["control_url"])
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def csv_of(people: Iterable[int], fields: int) -> bytes:
    """An import file: addresses and values of the length that names and towns have."""
    header = ";".join(['"email"', *(f'"{_attribute(number)}"' for number in range(fields))])
    rows = (
        ";".join([f'"person{who}@verteiler.example"', *(f'"value {number} {who % 997}"' for number in range(fields))])
        for who in people
    )
    return "\n".join([header, *rows]).encode()


def _attribute(number: int) -> str:
    return f"Feld{number}"


def _texts(fields: int) -> list[tuple[str, str]]:
    return [(_attribute(number), "TEXT") for number in range(fields)]


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


async def _requests_per_second(wire: Wire, path: str) -> float:
    for _ in range(_REQUESTS // 10):  # what is done for the first time only
        await wire.get(path)
    began = time.monotonic()
    for _ in range(_REQUESTS):
        await wire.get(path)
    return _REQUESTS / (time.monotonic() - began)


async def _page_milliseconds(wire: Wire, path: str) -> list[float]:
    took = []
    for _ in range(_PAGES):
        began = time.monotonic()
        await wire.get(path)
        took.append((time.monotonic() - began) * 1000)
    return took
