"""A small `up`: supervises Python one-liners. Run as a program: HOME, then one JSON object for each process.

Shape: {"name", "code", "ready_seconds"?, "after"?}; a process is ready when the file `<name>.ready` lies in the home.
"""

import asyncio
import json
import sys
from pathlib import Path

from connectors.embedded.home import Home
from connectors.embedded.process import ProcessSpec
from connectors.embedded.supervisor import Event, supervising
from schemas.errors import Misconfigured, PipelineError


def _spec(home: Home, wanted: dict[str, object]) -> ProcessSpec:
    name = str(wanted["name"])
    marker = home.root / f"{name}.ready"

    async def ready() -> bool:
        return marker.exists()

    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-c", str(wanted["code"])),
        env={"NAME": name},
        ready=ready,
        ready_seconds=float(str(wanted.get("ready_seconds", 20))),
        stop_seconds=2,
        after=tuple(wanted.get("after", ())),  # type: ignore[arg-type]  # JSON
        prepare=lambda: marker.unlink(missing_ok=True),
    )


async def _main(home: Home, wanted: list[dict[str, object]]) -> None:
    def report(event: Event) -> None:
        with (home.root / "events").open("a") as file:
            file.write(f"{event.name} {event.what}\n")

    async with supervising(home, report) as supervisor:
        await supervisor.start([_spec(home, one) for one in wanted])
        home.write_endpoints({"pids": supervisor.pids()})
        home.write_state("ready")
        await supervisor.until_stopped()


if __name__ == "__main__":
    place = Home(Path(sys.argv[1]))
    try:
        asyncio.run(_main(place, [json.loads(word) for word in sys.argv[2:]]))
    except PipelineError as error:
        usage = isinstance(error, Misconfigured)
        place.write_state("failed", reason=str(error), usage=usage)
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if usage else 1)
