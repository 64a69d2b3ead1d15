"""Kafka Connect's REST API: register the connector, look at it, restart what failed."""

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from time import monotonic
from types import TracebackType
from typing import Any, Final

import aiohttp
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from connectors.debezium.connector import differing
from schemas.errors import Misconfigured, PipelineError, Refused, Unavailable

_RESTARTS: Final = 4
_RESTART_SECONDS: Final = 1.5
_LOOK_SECONDS: Final = 0.25


class TaskState(StrEnum):
    """What Connect says of a connector or task."""

    UNASSIGNED = "UNASSIGNED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    RESTARTING = "RESTARTING"
    DESTROYED = "DESTROYED"


class Part(msgspec.Struct, frozen=True):
    """The connector itself or one of its tasks; `reason` only when it failed."""

    state: TaskState
    reason: str | None = None


class Status(msgspec.Struct, frozen=True):
    """A connector and its tasks."""

    connector: Part
    tasks: tuple[Part, ...]

    @property
    def running(self) -> bool:
        """Whether it captures: itself and at least one task, all of them."""
        return bool(self.tasks) and all(part.state is TaskState.RUNNING for part in self._parts)

    @property
    def failure(self) -> str | None:
        """Why it failed, if any part of it did."""
        failed = (part for part in self._parts if part.state is TaskState.FAILED)
        return next((part.reason or "no reason given" for part in failed), None)

    @property
    def _parts(self) -> tuple[Part, ...]:
        return (self.connector, *self.tasks)


class Connect:
    """One Connect cluster. Every request has a deadline.

    Connect answers "not now" for a moment after each change, because it rebalances: that is waited for, up to
    `patience_seconds`.
    Raises in every method: Unavailable, when Connect does not answer or stays busy; Misconfigured, when it refuses a
    configuration.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 15.0, patience_seconds: float = 20.0) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._patience_seconds = patience_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Connect":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    async def config(self, name: str) -> dict[str, str] | None:
        """A connector's present configuration, password included; None when there is no such connector."""
        found = await self._ask("GET", f"/connectors/{name}/config")
        return None if found is None else dict(found)

    async def register(self, name: str, config: Mapping[str, str]) -> list[str]:
        """Make the connector's configuration this one; the names of the settings that were not. May be repeated."""
        present = await self.config(name)
        changed = differing(config, present or {})
        if changed:
            await self._ask("PUT", f"/connectors/{name}/config", dict(config))
        return changed

    async def register_stopped(self, name: str, config: Mapping[str, str]) -> None:
        """Register a connector that is not there yet, and let it stand still until `resume`."""
        await self._ask(
            "POST", "/connectors", {"name": name, "config": dict(config), "initial_state": TaskState.STOPPED.value}
        )

    async def has_offsets(self, name: str) -> bool:
        """Whether Connect knows how far a registered connector has come. It keeps that when a connector is removed."""
        found = await self._ask("GET", f"/connectors/{name}/offsets")
        return bool(found and found["offsets"])

    async def status(self, name: str) -> Status | None:
        """How a connector is; None when there is no such connector, or it is so new that nothing is known yet."""
        found = await self._ask("GET", f"/connectors/{name}/status")
        if found is None:
            return None
        return Status(_part(found["connector"]), tuple(_part(task) for task in found["tasks"]))

    async def wait_running(self, name: str, *, within_seconds: float) -> None:
        """Return when the connector and its task run. Raises: Unavailable with the reason, when they do not in time.

        A failed task never comes back by itself, so it is started again: where Connect and the registry start side by
        side, the task may have been first. One that fails `_RESTARTS` times is given up.
        """
        await self._wait_for(name, TaskState.RUNNING, within_seconds)

    async def restart_failed(self, name: str) -> None:
        """Start again what failed of a connector, and nothing else."""
        await self._ask("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")

    async def forget_offsets(self, name: str, *, within_seconds: float) -> None:
        """Stop the connector and make it forget where it was: once resumed it takes a new snapshot.

        Its replication slot is another matter, and may be dropped now.
        """
        await self._ask("PUT", f"/connectors/{name}/stop")
        await self._wait_for(name, TaskState.STOPPED, within_seconds)
        await self._ask("DELETE", f"/connectors/{name}/offsets")

    async def resume(self, name: str) -> None:
        """Go on after `register_stopped` or `forget_offsets`."""
        await self._ask("PUT", f"/connectors/{name}/resume")

    async def delete(self, name: str) -> None:
        """Remove the connector. Its offsets stay, and so does its slot, which keeps log back until it is dropped."""
        await self._ask("DELETE", f"/connectors/{name}")

    async def _wait_for(self, name: str, state: TaskState, within_seconds: float) -> None:
        deadline = monotonic() + within_seconds
        last: str | None = None
        restarts = 0
        while monotonic() < deadline:
            status = await self.status(name)
            if status is not None:
                if status.running if state is TaskState.RUNNING else status.connector.state is state:
                    return
                last = f"it is {status.connector.state.value}"
                if state is TaskState.RUNNING and status.failure:
                    last = f"it failed: {status.failure}"
                    if restarts == _RESTARTS:
                        raise Unavailable(f"capture failed: {status.failure}; what the CRM wrote waits in its log")
                    restarts += 1
                    await self.restart_failed(name)
                    await asyncio.sleep(_RESTART_SECONDS * restarts)  # Connect shows the old state for a moment
            await asyncio.sleep(_LOOK_SECONDS)
        raise Unavailable(
            f"the connector was not {state.value} within {within_seconds:.0f} s ({last or 'no status'});"
            " what the CRM wrote waits in its log"
        )

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer; None when there is no such thing, or nothing to say."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_Rebalancing),
            stop=stop_after_delay(self._patience_seconds),
            wait=wait_fixed(_LOOK_SECONDS),
            reraise=True,
        ):
            with attempt:
                return await self._ask_once(method, path, body)

    async def _ask_once(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            # Connect refuses a call whose content has no type, even where there is no content.
            async with self._session.request(
                method, self._url + path, json=body, headers={"Content-Type": "application/json"}
            ) as response:
                text = await response.text()
                if response.status == 404:
                    return None
                if failure := failure_of(response.status, text):
                    raise failure
                return json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(
                f"Kafka Connect does not answer: {type(error).__name__}; what the CRM wrote waits in its log"
            ) from error
        except ValueError as error:
            raise Unavailable("Kafka Connect is still starting: it answers, but not yet in JSON") from error


class _Rebalancing(Unavailable):
    """Connect is settling who does what; in a moment it will answer."""


def failure_of(status: int, text: str = "") -> PipelineError | None:
    """What a status of Connect means. `text` is its body."""
    if 200 <= status < 300:
        return None
    if status == 409 or (status == 500 and "rebalance" in text):
        return _Rebalancing(f"Kafka Connect is rebalancing ({status}); what the CRM wrote waits in its log")
    if status in (408, 429) or status >= 500:
        return Unavailable(f"Kafka Connect cannot do it now ({status}): {reason_of(text)}")
    if status == 400:
        return Misconfigured(f"Kafka Connect refuses the connector's configuration: {reason_of(text)}")
    return Refused(f"Kafka Connect refused ({status}): {reason_of(text)}", status=status)


_EMAIL: Final = re.compile(r"[^\s@\"'(=,]+@[^\s@\"'),]+")


def reason_of(trace: str, longest: int = 300) -> str:
    """The innermost cause in a Java trace or an error body, on one line, without anything like an e-mail address."""
    with suppress(ValueError, KeyError, TypeError):  # no JSON body: a trace
        trace = str(json.loads(trace)["message"])
    causes = [line for line in trace.splitlines() if line.startswith("Caused by: ")]
    line = (
        causes[-1].removeprefix("Caused by: ")
        if causes
        else " ".join(part.strip() for part in trace.splitlines() if part.strip() and not part.startswith("\tat "))
    )
    return _EMAIL.sub("…", line)[:longest].strip() or "no reason given"


def _part(found: Mapping[str, Any]) -> Part:
    trace = found.get("trace")
    return Part(TaskState(found["state"]), None if trace is None else reason_of(str(trace)))
