"""As whom PostgreSQL runs: it refuses root, and the folders it needs may be open to root alone."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import Misconfigured

_OVERFLOW_ID = 65534  # who an unmapped user looks like inside a user namespace


@dataclass(frozen=True, slots=True)
class Account:
    """What to put before a command. `owner` is who must own its files, None for us: (user id, group id)."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    def give(self, *paths: Path) -> None:
        """Make the account own what it is to write."""
        if self.owner is not None:
            for path in paths:
                os.chown(path, *self.owner)


def runs(command: tuple[str, ...]) -> bool:
    """Whether a command can be run and succeeds."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unprivileged(user_id: int | None = None, works: Callable[[tuple[str, ...]], bool] = runs) -> Account:
    """An account that is not root.

    Not as root: ourselves. As root: a user namespace in which we are somebody else while files stay ours, so that even
    a home of mode 0700 can be used. Where the kernel forbids that: the user `postgres` or `nobody`, who must then be
    able to reach the home and the installation.
    Raises: Misconfigured, when none of this works.
    """
    if (os.geteuid() if user_id is None else user_id) != 0:
        return Account()
    known = pwd.getpwall()  # initdb insists on a name for its user id
    somebody = [user for user in known if user.pw_uid not in (0, _OVERFLOW_ID)]
    for user in [*somebody[:1], *(user for user in known if user.pw_uid == _OVERFLOW_ID)]:
        namespace = ("unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--")
        if works((*namespace, "true")):
            return Account(namespace)
    for user in (user for name in ("postgres", "nobody") for user in known if user.pw_name == name):
        other = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--")
        if works((*other, "true")):
            return Account(other, (user.pw_uid, user.pw_gid))
    raise Misconfigured(
        "PostgreSQL refuses to run as root, and neither `unshare --user` nor `setpriv` works here: "
        "start as an ordinary user"
    )
