"""`python -m connectors.inxmail_simulator --port P --options FILE`: one simulated account until SIGTERM.

Secrets come from the environment: INXMAIL_SIMULATOR_CREDENTIALS (JSON, user → secret) and
INXMAIL_SIMULATOR_CONTROL_TOKEN. The one line on standard output says where it answers.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

import uvloop

from connectors.inxmail_simulator.options import options_from
from connectors.inxmail_simulator.server import Endpoint, run
from schemas.errors import Misconfigured


def main() -> int:
    parser = argparse.ArgumentParser(prog="inxmail-simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=None, help="0: any free port")
    parser.add_argument("--options", type=Path, default=None, help="JSON document; see docs/inxmail-simulator.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        document = arguments.options.read_text("utf-8") if arguments.options else None
        given = {} if arguments.port is None else {"port": arguments.port}
        uvloop.run(run(options_from(document, os.environ, **given), _announce))
    except (Misconfigured, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _announce(endpoint: Endpoint) -> None:
    sys.stdout.write(json.dumps(endpoint._asdict()) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
