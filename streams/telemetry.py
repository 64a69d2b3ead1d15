"""What every process tells of itself: /livez, /readyz and /metrics on a loopback port, and structured logs."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from schemas.errors import PipelineError

_PLAIN_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FactsFormatter(logging.Formatter):
    """One line for each event: time, level, logger, constant message, and its facts as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: value for name, value in vars(record).items() if name not in _PLAIN_RECORD}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = f"{at} {record.levelname} {record.name} {record.getMessage()}"
        if facts:
            line += " " + json.dumps(facts, default=str, ensure_ascii=False)
        if record.exc_info and not isinstance(record.exc_info[1], PipelineError):  # a foreseen failure is one sentence
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Sparse(logging.Filter):
    """aiokafka repeats itself thousands of times while a broker is away: one line a second is enough."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._last < 1.0:
            return False
        self._last = now
        return True


def configure_logging(level: str) -> None:
    """Logs go to standard error, where the supervisor rotates them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FactsFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sparse = _Sparse()
    for name in (
        "aiokafka",
        "aiokafka.conn",
        "aiokafka.cluster",
        "aiokafka.consumer.fetcher",
        "aiokafka.producer.sender",
    ):
        logging.getLogger(name).addFilter(sparse)
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.disable(logging.DEBUG)  # Faust builds debug records even where nobody reads them


@dataclass
class Health:
    """What a process knows of its own progress. `detail` is shown by /readyz."""

    ready: bool = False
    work_started: float = 0.0
    last_progress: float = 0.0
    stall_limit_seconds: float = 25.0
    detail: dict[str, object] = field(default_factory=dict)

    def begin(self) -> None:
        """A batch or call is now in work."""
        self.work_started = time.monotonic()

    def end(self) -> None:
        """It ended well."""
        self.work_started = 0.0
        self.last_progress = time.monotonic()

    @property
    def in_work_seconds(self) -> float:
        """How long the present work has taken; 0 when idle."""
        return time.monotonic() - self.work_started if self.work_started else 0.0

    @property
    def stalled(self) -> bool:
        """Whether the present work has taken longer than it may."""
        return self.in_work_seconds > self.stall_limit_seconds


def _answer(good: bool, facts: Mapping[str, object]) -> web.Response:
    return web.json_response(facts, status=200 if good else 503)


async def serve_health(health: Health, port: int) -> web.AppRunner:
    """Serve on loopback; `cleanup()` of what is returned ends it."""

    async def livez(_: web.Request) -> web.Response:
        return _answer(not health.stalled, {"in_work_seconds": round(health.in_work_seconds, 3)})

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.ready, {"ready": health.ready, **health.detail})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner
