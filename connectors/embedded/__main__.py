"""`python -m connectors.embedded up|down`: the four services without the pipeline, for development."""

import argparse
import asyncio
import dataclasses
import random
import sys
from pathlib import Path

from connectors.embedded.detach import detach
from connectors.embedded.home import Home
from connectors.embedded.stack import EmbeddedSettings, EmbeddedStack
from connectors.embedded.supervisor import Event, down, supervising
from schemas.errors import Misconfigured, PipelineError


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _tell(event: Event) -> None:
    _say(f"{event.name}: {event.what} {event.detail}".rstrip())


async def _up(home: Home) -> None:
    stack = EmbeddedStack(home, EmbeddedSettings())
    async with supervising(home, _tell) as supervisor:
        await asyncio.to_thread(stack.fetch, lambda progress: None)
        specs, endpoints = stack.specs(random.Random())
        await supervisor.start(specs)
        content = dataclasses.asdict(endpoints) | {"home": str(home.root), "pids": supervisor.pids()}
        home.write_endpoints(content)
        home.write_state("ready")
        await supervisor.until_stopped()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m connectors.embedded")
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--home", type=Path, default=Path(".verteiler"))
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--erase", action="store_true")
    chosen = parser.parse_args(arguments)
    home = Home(chosen.home.resolve())
    try:
        if chosen.command == "down":
            ended = down(home)
            if chosen.erase:
                home.erase()
            _say(f"ended: {', '.join(ended) or 'nothing was running'}")
        elif chosen.detach:
            detach((sys.executable, "-m", "connectors.embedded", "up", "--home", str(home.root)), home, seconds=180)
            sys.stdout.write(home.endpoints.read_text() + "\n")
        else:
            asyncio.run(_up(home))
    except PipelineError as error:
        home.write_state("failed", reason=str(error), usage=isinstance(error, Misconfigured))
        _say(str(error))
        return 2 if isinstance(error, Misconfigured) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
