"""Keeps the connector registered and running: Connect itself never starts a failed task again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from connectors.debezium.connect import Connect, Status, TaskState
from schemas.errors import PipelineError

log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 10.0


def pause_seconds(attempt: int) -> float:
    """Seconds between the look that found it wrong for the `attempt`-th time (from 1) and the next."""
    return min(_FIRST_SECONDS * 2.0 ** (attempt - 1), _LONGEST_SECONDS)


async def watch(
    connect: Connect, name: str, wanted: Callable[[], Awaitable[Mapping[str, str]]], *, every_seconds: float = 5.0
) -> None:
    """Look every `every_seconds`, for ever: register the connector when it is gone, restart what failed of it.

    wanted: gives the configuration, with the present epoch. A connector that is there with another one is left alone:
    that is for `provision`. So is one of which Connect has lost how far it had come: it needs a new epoch.
    """
    failures = 0
    while True:
        try:
            status = await connect.status(name)
            failures = 0 if status is not None and status.running else failures + 1
            if status is None:
                await _register_missing(connect, name, wanted)
            elif status.failure is not None:
                await _restart(connect, name, status, failures)
            elif status.connector.state is TaskState.STOPPED:
                log.error("capture stands still until `verteiler provision` is run", extra={"connector": name})
        except PipelineError as error:  # Connect's own absence: whoever runs it starts it again
            log.warning("capture cannot be looked after", extra={"connector": name, "reason": str(error)})
        await asyncio.sleep(max(every_seconds, pause_seconds(failures)) if failures else every_seconds)


async def _register_missing(connect: Connect, name: str, wanted: Callable[[], Awaitable[Mapping[str, str]]]) -> None:
    if await connect.config(name) is not None:
        return  # too new to have a status
    await connect.register_stopped(name, await wanted())
    log.warning("connector was gone and is registered again", extra={"connector": name})
    if await connect.has_offsets(name):
        await connect.resume(name)


async def _restart(connect: Connect, name: str, status: Status, attempt: int) -> None:
    log.warning(
        "capture failed and is restarted",
        extra={"connector": name, "reason": status.failure, "attempt": attempt},
    )
    await connect.restart_failed(name)
