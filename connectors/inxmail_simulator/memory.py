"""What an account holds from one run to the next: one file, written when the simulator is told to stop.

A simulator that is killed has lost what happened since it started, as a test system may. The file is the simulator's
own and is trusted: it is written with mode 0600 where nobody else writes.
"""

import os
import pickle
from pathlib import Path

from connectors.inxmail_simulator.world import World
from schemas.errors import Misconfigured

_FORM = 2
"""Raised when what is kept changes its shape."""


def recall(world: World, file: Path) -> None:
    """Take up what `file` holds, if there is one. Behaviour and credentials stay those of this run.

    Raises: Misconfigured, when it cannot be read or was written by another version.
    """
    try:
        form, account, imports = pickle.loads(file.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ImportError, TypeError, ValueError) as error:
        raise Misconfigured(_UNREADABLE.format(file=file, error=type(error).__name__)) from error
    if form != _FORM:
        raise Misconfigured(_UNREADABLE.format(file=file, error="another version wrote it"))
    account.behaviour = world.behaviour
    world.account, world.imports = account, imports


_UNREADABLE = (
    "the simulated account in {file} cannot be read ({error}); nothing was started and the file is as it was."
    " Remove it to begin with an empty account."
)


def keep(world: World, file: Path) -> None:
    """Write what the account holds, all or nothing. Raises: OSError."""
    draft = file.with_suffix(".new")
    with open(draft, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        pickle.dump((_FORM, world.account, world.imports), out, protocol=pickle.HIGHEST_PROTOCOL)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
