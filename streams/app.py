"""The one way we run Faust: batches without auto-acknowledgement, in order, and the process ends on any surprise.

Measured: every other pattern of consumption lost records when an agent raised, when it was cancelled, or when the
process was killed. The supervisor outside starts the process again; unacknowledged records then come again.
"""

import asyncio
import logging
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import uvloop
from mode.supervisors import CrashingSupervisor
from prometheus_client import Histogram

from connectors.kafka.records import Message
from streams.telemetry import Health, serve_health

log = logging.getLogger(__name__)

STALLED = 70
"""Exit code of a process whose batch did not finish in time."""
STOP_OVERDUE = 75
"""Exit code of a process that was asked to stop and could not finish its batch."""

GATHER_SECONDS = 0.25
"""How long records are gathered while more of them wait already. A record that comes alone is never kept waiting."""

Batch = Sequence[Any]  # Faust messages: topic, partition, offset, key, value, headers
Apply = Callable[[Batch], Awaitable[None]]


def received(raw: Any) -> Message:
    """A record as Faust gives it, in our words."""
    return Message(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key,
        value=raw.value,
        headers={name: value for name, value in dict(raw.headers or ()).items() if value is not None},
        written_ms=int((raw.timestamp or 0.0) * 1000),
    )


@dataclass(frozen=True)
class Flow:
    """One consumer group that turns batches of records into effects."""

    name: str
    topics: tuple[str, ...]
    start: Callable[[], Awaitable[Apply]]
    """Opens what the effect needs, and gives it: durable when it returns, raising when anything is in doubt."""
    batch: int = 1000
    within_seconds: float = 0.02
    batch_limit_seconds: float = 25.0
    background: tuple[Callable[[], Awaitable[None]], ...] = ()


def build_app(flow: Flow, *, bootstrap: str, instance: str, health: Health, telemetry_port: int) -> faust.App:
    """The Faust app of a flow. Registers its agent; starts nothing."""
    app = faust.App(
        f"verteiler-{flow.name}",
        broker=[f"kafka://{server}" for server in bootstrap.split(",")],
        autodiscover=False,
        web_enabled=False,
        store="memory://",
        datadir=str(Path(tempfile.gettempdir()) / f"verteiler-{flow.name}-{instance}"),
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        key_serializer="raw",
        value_serializer="raw",
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{flow.name}-{instance}",
        broker_commit_interval=0.5,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_request_timeout=30.0,
        broker_rebalance_timeout=60.0,
        broker_max_poll_interval=120.0,
        broker_max_poll_records=500,
        stream_buffer_maxsize=4096,
    )
    source = app.topic(*flow.topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    records = Histogram(
        "verteiler_batch_records", "Records of a batch.", ("flow",), buckets=(1, 10, 30, 100, 300, 1000)
    ).labels(flow.name)
    seconds = Histogram("verteiler_batch_seconds", "From a batch to its acknowledgement.", ("flow",)).labels(flow.name)
    opened = asyncio.Event()

    async def run(stream: Any) -> None:
        apply = await flow.start()
        opened.set()
        health.ready = "assigned" in health.detail
        gathered: list[Any] = []
        gather_until = 0.0
        async for events in stream.noack().noack_take(flow.batch, within=flow.within_seconds):
            if not gathered:
                gather_until = time.monotonic() + GATHER_SECONDS
            gathered += events
            if stream.channel.queue.qsize() and len(gathered) < flow.batch and time.monotonic() < gather_until:
                continue  # there is a backlog: one big batch costs a fraction of many small ones
            health.begin()
            records.observe(len(gathered))
            with seconds.time():
                # A failure ends the process: nothing is acknowledged.
                await apply([event.message for event in gathered])
                for event in gathered:
                    await stream.ack(event)
            health.end()
            gathered = []

    run.__name__ = flow.name
    app.agent(source, name=flow.name, concurrency=1, supervisor_strategy=CrashingSupervisor)(run)

    async def on_assigned(_: Any, assigned: Any = None, **kwargs: Any) -> None:
        health.detail["assigned"] = len(assigned or ())
        health.ready = opened.is_set()

    app.on_partitions_assigned.connect(on_assigned, weak=False)

    async def serve(_: Any) -> None:
        await serve_health(health, telemetry_port)

    app.task(serve)
    for number, task in enumerate(flow.background):
        app.task(_named(task, f"{flow.name}_background_{number}"))
    return app


def _named(task: Callable[[], Awaitable[None]], name: str) -> Callable[[Any], Awaitable[None]]:
    async def body(_: Any) -> None:
        await task()

    body.__name__ = name
    return body


class _Worker(faust.Worker):  # type: ignore[misc] # Faust publishes no types
    """Remembers that it was asked to stop, so that the watchdog can bound the stop."""

    stop_requested = False

    def _on_sigterm(self) -> None:
        self.stop_requested = True
        super()._on_sigterm()

    def _on_sigint(self) -> None:
        self.stop_requested = True
        super()._on_sigint()


def _watch(worker: _Worker, app: faust.App, health: Health, stop_limit_seconds: float) -> None:
    """Runs in a thread, so that it also fires when the event loop hangs. A hard exit loses nothing."""
    asked_at: float | None = None
    while True:
        time.sleep(0.5)  # the watchdog's own pulse: it has no condition to await but time
        if health.stalled:
            log.error("a batch did not finish in time; the process ends and its records come again")
            os._exit(STALLED)
        if worker.stop_requested or app.should_stop:
            asked_at = asked_at or time.monotonic()
            if time.monotonic() - asked_at > stop_limit_seconds:
                log.error("the batch in work did not finish within the stop limit; its records come again")
                os._exit(STOP_OVERDUE)


def run_flow(
    flow: Flow, *, bootstrap: str, instance: str, telemetry_port: int, stop_limit_seconds: float = 15.0
) -> None:
    """Run until told to stop. Leaves the process with a non-zero code after any surprise."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    health = Health(stall_limit_seconds=flow.batch_limit_seconds)
    app = build_app(flow, bootstrap=bootstrap, instance=instance, health=health, telemetry_port=telemetry_port)
    worker = _Worker(app, loglevel="warn", redirect_stdouts=False, logging_config=None, override_logging=False)
    threading.Thread(target=_watch, args=(worker, app, health, stop_limit_seconds), daemon=True).start()
    worker.execute_from_commandline()
