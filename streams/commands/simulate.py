"""`verteiler simulate inxmail`."""

import os
import sys
from pathlib import Path

import msgspec
import uvloop

from connectors.inxmail_simulator.options import options_from
from connectors.inxmail_simulator.server import Endpoint, run
from schemas.errors import Misconfigured
from streams.telemetry import configure_logging


def inxmail(options: Path | None, port: int | None, state: Path | None) -> None:
    """Serve until told to stop. The one line on standard output says where. Raises: Misconfigured."""
    configure_logging("INFO")
    given = {} if port is None else {"port": port}
    try:
        document = None if options is None else options.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{options} cannot be read ({error}); nothing was started") from error
    uvloop.run(run(options_from(document, os.environ, **given), _announce, state=state))


def _announce(endpoint: Endpoint) -> None:
    sys.stdout.write(msgspec.json.encode(endpoint._asdict()).decode() + "\n")
    sys.stdout.flush()
