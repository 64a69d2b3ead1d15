"""Start a supervisor that outlives the shell, and wait for its word."""

import subprocess
import time
from collections.abc import Callable, Sequence

from connectors.embedded.home import Home, State
from schemas.errors import Misconfigured, Unavailable


def detach(
    argv: Sequence[str], home: Home, *, seconds: float, report: Callable[[State], None] = lambda state: None
) -> None:
    """Run `argv`, which supervises `home`, in a session of its own; return when it says that it is ready.

    It says so with `home.write_state`. Its output goes to the log `up`.
    Raises: Misconfigured or Unavailable, with its own words, when it fails; Unavailable, when it says nothing in time.
    """
    home.prepare()
    with home.log_of("up").open("ab") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + seconds
    seen: State | None = None
    while time.monotonic() < deadline:
        code = process.poll()
        state = home.read_state(process.pid)
        if state is not None and state != seen:
            seen = state
            report(state)
        match state:
            case State(phase="ready"):
                return
            case State(phase="failed"):
                raise Misconfigured(state.reason) if state.usage else Unavailable(state.reason)
        if code is not None:
            raise Unavailable(f"`up` ended at once (exit code {code}); its log is {home.log_of('up')}")
        time.sleep(0.05)
    process.terminate()
    raise Unavailable(f"`up` was not ready after {seconds:.0f} s and was stopped; its log is {home.log_of('up')}")
