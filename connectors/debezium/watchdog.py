"""Keeps the connector registered and running: Connect itself never starts a failed task again."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from connectors.debezium.connect import Connect, Status
from schemas.errors import PipelineError

log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 60.0


def pause_seconds(attempt: int) -> float:
    """Seconds between restart `attempt` (from 1) and the next look at whether it helped."""
    return min(_FIRST_SECONDS * 2.0 ** (attempt - 1), _LONGEST_SECONDS)


async def watch(connect: Connect, name: str, config: Mapping[str, str], *, every_seconds: float = 5.0) -> None:
    """Look every `every_seconds`, for ever: register the connector when it is gone, restart what failed of it.

    A connector that is there with another configuration is left alone: `provision` may have raised the epoch since.
    """
    restarts = 0
    while True:
        pause = every_seconds
        try:
            status = await connect.status(name)
            if status is None:
                await _register_missing(connect, name, config)
            elif status.failure is not None:
                restarts += 1
                pause = pause_seconds(restarts)
                await _restart(connect, name, status, restarts, pause)
            elif status.running:
                restarts = 0
        except PipelineError as error:  # Connect's own absence: whoever runs it starts it again
            log.warning("capture cannot be looked after", extra={"connector": name, "reason": str(error)})
        await asyncio.sleep(pause)


async def _register_missing(connect: Connect, name: str, config: Mapping[str, str]) -> None:
    if await connect.config(name) is None:  # else it is only too new to have a status
        await connect.register(name, config)
        log.warning("connector was gone and is registered again", extra={"connector": name})


async def _restart(connect: Connect, name: str, status: Status, attempt: int, pause: float) -> None:
    log.warning(
        "capture failed and is restarted",
        extra={"connector": name, "reason": status.failure, "attempt": attempt, "delay_seconds": pause},
    )
    await connect.restart_failed(name)
