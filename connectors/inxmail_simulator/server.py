"""The HTTP shell: authentication, budget, faults and sockets around the plain functions of `rest` and `control`."""

import asyncio
import hmac
import logging
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from connectors.inxmail_simulator import memory
from connectors.inxmail_simulator.budget import Draw
from connectors.inxmail_simulator.call import PROBLEM, Answer, Call, Part, query_of
from connectors.inxmail_simulator.clock import Clock
from connectors.inxmail_simulator.control import CONTROL_PREFIX, control
from connectors.inxmail_simulator.faults import Fault
from connectors.inxmail_simulator.options import SimulatorOptions
from connectors.inxmail_simulator.problems import Problem, invalid_body, not_found
from connectors.inxmail_simulator.rest.router import answer as rest_answer
from connectors.inxmail_simulator.world import World
from schemas.errors import Misconfigured

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.02
"""How often a running import is carried on; at 5,000 rows a second that is 100 rows at a time."""
_HANG_SECONDS = 600.0
"""Longer than any client should wait."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_FIXED_HEADERS = {
    "Cache-Control": "no-cache, no-store, max-age=0, must-revalidate",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Set-Cookie": "JSESSIONID=SIMULATOR;Path=/inxmail3;HttpOnly",
}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="Inxmail"'}
_encode = msgspec.json.Encoder().encode


class Endpoint(NamedTuple):
    """Where a running simulator answers."""

    base_url: str
    control_url: str
    port: int


class Simulator:
    """One simulated account behind one port."""

    def __init__(self, options: SimulatorOptions, clock: Clock | None = None) -> None:
        self.world = World(options, clock)
        self._prefix = tuple(part for part in options.base_path.split("/") if part)
        self._base_path = options.base_path
        self._token = options.control_token.get_secret_value()
        self._imports_waiting = asyncio.Event()
        self._controlled = asyncio.Event()
        """Set, and replaced, after every control request."""

    async def carry_on(self) -> None:
        """Let imports advance by the clock, a slice at a time, so that requests are answered in between."""
        while True:
            if not self.world.imports.waiting:
                self._imports_waiting.clear()
                await self._imports_waiting.wait()
            behind = self.world.settle()
            await asyncio.sleep(0 if behind else _TICK_SECONDS)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, raw_query = request.raw_path.partition("?")
        segments = tuple(unquote(part) for part in path.split("/") if part)
        if segments[:1] == (CONTROL_PREFIX,):
            return await self._control(request, segments[1:], raw_query)
        return await self._rest(request, segments, raw_query)

    async def _control(self, request: web.BaseRequest, segments: tuple[str, ...], query: str) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._token.encode()):
            return web.json_response({"error": "the control API takes its own bearer token"}, status=401)
        self.world.settle(0)
        answer = control(self.world, request.method, segments, dict(query_of(query)), await request.content.read())
        if segments == ("clock",):
            await self._catch_up()
        self._imports_waiting.set()
        self._controlled.set()
        self._controlled = asyncio.Event()
        if answer.lines is None:
            return web.Response(body=_encode(answer.body), status=answer.status, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for line in answer.lines:
            await response.write(line)
        await response.write_eof()
        return response

    async def _until_taken_away(self, plan_id: int) -> None:
        """Hold a request until its plan is gone, or nobody can want its answer any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_HANG_SECONDS):
                while self.world.faults.in_force(plan_id):
                    await self._controlled.wait()

    async def _catch_up(self) -> None:
        """A clock set forward makes many rows due: carry them out, with a turn for other requests in between."""
        while self.world.settle():  # noqa: ASYNC110  the loop does the work, there is nobody to signal
            await asyncio.sleep(0)

    async def _rest(self, request: web.BaseRequest, segments: tuple[str, ...], raw_query: str) -> web.StreamResponse:
        began = time.perf_counter()
        world = self.world
        inside = segments[: len(self._prefix)] == self._prefix
        now = world.clock.now()
        user = world.credentials.user_of(request.headers.get("Authorization", ""))
        visit = _Visit(
            user=user,
            draw=world.budget.take(user, now, world.behaviour),
            segments=segments[len(self._prefix) :] if inside else segments,
            query=query_of(raw_query),
            now=now,
        )
        try:
            if not inside:
                raise not_found()
            answer = await self._carry_out(request, visit)
        except Problem as problem:
            answer = Answer(problem.http_status, problem.body, problem.headers, PROBLEM)
        kind = visit.fault.kind if visit.fault else None
        world.log.note(
            at=now,
            method=request.method,
            segments=visit.segments,
            query=visit.query,
            status=answer.status if answer else 0,
            milliseconds=(time.perf_counter() - began) * 1000,
            credential=user,
            carried_out=visit.carried_out,
            fault=kind,
        )
        if visit.fault and kind == "delay-after":
            await asyncio.sleep(visit.fault.seconds)
        if kind == "hold-after":
            await self._until_taken_away(visit.plan_id)
        if kind == "hang":
            await asyncio.sleep(visit.fault.seconds if visit.fault and visit.fault.seconds else _HANG_SECONDS)
        if answer is None:
            return _cut(request)
        response = self._response(answer, visit.draw)
        match visit.fault:
            case Fault("truncate"):
                return await _half(request, response)
            case Fault("half-body") if isinstance(response.body, bytes):
                response.body = response.body[: len(response.body) // 2]
            case Fault("slow"):
                return await _slowly(request, response, visit.fault.seconds)
        return response

    async def _carry_out(self, request: web.BaseRequest, visit: "_Visit") -> Answer | None:
        """The answer to send, None for a connection to be cut.  Raises: Problem."""
        world = self.world
        if visit.user is None:
            raise Problem(401, headers=_CHALLENGE)
        if not visit.draw.granted:
            wait = {"Retry-After": str(visit.draw.reset_seconds)} if world.behaviour.retry_after else {}
            raise Problem(429, headers=wait)
        call = await self._read(request, visit)
        if world.faults.plans:
            path = "/" + "/".join(visit.segments)
            strike = world.faults.strike(call.method, path, visit.user, _list_id(call), call.query)
            if strike is not None:
                visit.fault, visit.plan_id = strike
        fault = visit.fault
        match fault.kind if fault else None:
            case "cut-before" | "hang":
                return None
            case "status":
                return _forced(fault)
            case "delay":
                await asyncio.sleep(fault.seconds if fault else 0)
                call.now = world.clock.now()
            case "hold":
                await self._until_taken_away(visit.plan_id)
                call.now = world.clock.now()
        world.settle(0)
        answer = rest_answer(call, world)
        visit.carried_out = True
        self._imports_waiting.set()
        match fault.kind if fault else None:
            case "cut-after":
                return None
            case "status-after":
                return _forced(fault)
        return answer

    async def _read(self, request: web.BaseRequest, visit: "_Visit") -> Call:
        """Raises: Problem, 413 for too large a body, 400 for multipart that is none."""
        largest = self.world.behaviour.import_max_bytes
        if (request.content_length or 0) > largest:
            raise Problem(413)
        body, parts = b"", None
        if request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
            parts = await _parts(request, largest)
        elif request.body_exists:
            body = await request.content.read(largest + 1)
            while not request.content.at_eof() and len(body) <= largest:
                body += await request.content.read(largest + 1 - len(body))
            if len(body) > largest:
                raise Problem(413)
        return Call(
            method=request.method,
            segments=visit.segments,
            query=visit.query,
            headers=request.headers,
            base_url=f"http://{request.host}{self._base_path}",
            now=visit.now,
            body=body,
            parts=parts,
        )

    def _response(self, answer: Answer, draw: Draw) -> web.Response:
        body = b"" if answer.body is None else answer.body if isinstance(answer.body, bytes) else _encode(answer.body)
        headers = {
            "X-RateLimit-Limit": str(draw.limit),
            "X-RateLimit-Remaining": str(draw.remaining),
            "X-RateLimit-Reset": str(draw.reset_seconds),
            **_FIXED_HEADERS,
            **answer.headers,
        }
        if body:
            headers["Content-Type"] = answer.content_type
        if self.world.behaviour.lower_case_headers:
            headers = {name.lower(): value for name, value in headers.items()}
            headers |= {"content-length": str(len(body)), "server": "simulator", "date": formatdate(usegmt=True)}
        return web.Response(status=answer.status, body=body, headers=headers)


class _Visit(msgspec.Struct):
    """One request on its way through the shell."""

    user: str | None
    draw: Draw
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    now: float
    fault: Fault | None = None
    plan_id: int = 0
    carried_out: bool = False


def _forced(fault: Fault | None) -> Answer:
    """The answer a fault dictates."""
    assert fault is not None
    headers = dict(_CHALLENGE) if fault.status == 401 else {}
    if fault.retry_after_seconds is not None:
        headers["Retry-After"] = str(fault.retry_after_seconds)
    if fault.html:
        body = f"<html><body><h1>{fault.status}</h1></body></html>".encode()
        return Answer(fault.status, body, headers, "text/html")
    problem = Problem(fault.status, fault.type)
    return Answer(fault.status, problem.body, headers, PROBLEM)


def _list_id(call: Call) -> int | None:
    """The list a request is about, from its query or its body; only fault plans want to know."""
    text = call.text("listId")
    if text is None and call.body:
        with suppress(msgspec.DecodeError):
            document = msgspec.json.decode(call.body)
            text = str(document.get("listId", "")) if isinstance(document, dict) else None
    return int(text) if text and text.isascii() and text.isdigit() else None


async def _parts(request: web.BaseRequest, largest: int) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    size = 0
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            data = bytearray()
            while chunk := await part.read_chunk(1 << 16):
                data += chunk
                size += len(chunk)
                if size > largest:
                    raise Problem(413)
            gzip = part.headers.get("Content-Encoding", "").lower() == "gzip"
            parts[part.name or ""] = Part(part.filename or "", gzip, bytes(data))
    except (ValueError, HttpProcessingError):
        raise invalid_body(general=["The body is no multipart"]) from None
    return parts


def _cut(request: web.BaseRequest) -> web.Response:
    """Reset the connection instead of answering."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:  # a plain close would look like an orderly end
            with socket.socket(fileno=socket.dup(connection.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response(status=500)  # goes nowhere: the transport is gone


async def _slowly(request: web.BaseRequest, response: web.Response, seconds: float) -> web.StreamResponse:
    """Send the body in ten pieces over that time."""
    whole = response.body if isinstance(response.body, bytes) else b""
    slow = web.StreamResponse(status=response.status, headers=response.headers)
    slow.content_length = len(whole)
    await slow.prepare(request)
    piece = len(whole) // 10 + 1
    for start in range(0, len(whole), piece):
        await asyncio.sleep(seconds / 10)
        await slow.write(whole[start : start + piece])
    await slow.write_eof()
    return slow


async def _half(request: web.BaseRequest, response: web.Response) -> web.StreamResponse:
    """Promise the whole body, send half of it and hang up."""
    whole = response.body if isinstance(response.body, bytes) else b""
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = len(whole)
    await half.prepare(request)
    await half.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.close()
    return half


@asynccontextmanager
async def serving(
    options: SimulatorOptions, clock: Clock | None = None, *, state: Path | None = None
) -> AsyncIterator[tuple[Endpoint, Simulator]]:
    """Answer on a port while the block runs. `state`: as in `run`, but kept by whoever asks for it.

    Raises: Misconfigured, when the port is taken or the file cannot be read.
    """
    simulator = Simulator(options, clock)
    if state is not None:
        memory.recall(simulator.world, state)
    runner = web.ServerRunner(web.Server(simulator.handle, access_log=None), shutdown_timeout=0.5)
    await runner.setup()
    carrier = asyncio.create_task(simulator.carry_on(), name="simulator imports")
    try:
        try:
            await web.TCPSite(runner, options.host, options.port).start()
        except OSError as error:
            raise Misconfigured(
                f"port {options.port} on {options.host} cannot be used ({error.strerror}); nothing was started."
                " Name another port, or 0 for any free one."
            ) from error
        port = int(runner.addresses[0][1])
        root = f"http://{options.host}:{port}"
        yield Endpoint(root + options.base_path, f"{root}/{CONTROL_PREFIX}", port), simulator
    finally:
        carrier.cancel()
        with suppress(asyncio.CancelledError):
            await carrier
        await runner.cleanup()


async def run(options: SimulatorOptions, ready: Callable[[Endpoint], None], *, state: Path | None = None) -> None:
    """Serve until SIGTERM, SIGINT or cancellation; `ready` is called once, when requests are answered.

    `state`: the file from which the account is taken up and in which it is kept; None: it starts from the seeds.
    Raises: Misconfigured, when the port is taken or the file cannot be read.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        async with serving(options, state=state) as (endpoint, simulator):
            log.info("simulator ready", extra={"port": endpoint.port})
            ready(endpoint)
            await stop.wait()
        if state is not None:
            memory.keep(simulator.world, state)
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)
