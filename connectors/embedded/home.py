"""The one folder that holds everything of a stack: data, logs, secrets, and who is running."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from connectors.embedded.process import Identity
from schemas.errors import Misconfigured, Unavailable


class State(msgspec.Struct, frozen=True):
    """How far an `up` is: `phase` is `ready`, `failed` or what it is doing; `usage` tells wrong use from bad luck."""

    pid: int
    phase: str
    reason: str = ""
    usage: bool = False


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under `root`. Nothing is created before `prepare`."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def held(self) -> Path:
        """A file here named like a process keeps that process stopped."""
        return self.root / "held"

    @property
    def lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def pids(self) -> Path:
        return self.root / "pids.json"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def endpoints(self) -> Path:
        return self.root / "endpoints.json"

    @property
    def _ours(self) -> Path:
        """Its presence says that nothing was in the folder before us, so that all of it may be erased."""
        return self.root / ".made-by-verteiler"

    @property
    def settings(self) -> Path:
        return self.root / "settings.env"

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Create the folder, open to its owner alone.

        Raises: Misconfigured, when it cannot be created or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not any(self.root.iterdir()):
                self._ours.touch(mode=0o600)
            for folder in (self.data, self.logs, self.config, self.held):
                folder.mkdir(exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise Misconfigured(f"the home folder {self.root} cannot be written ({error.strerror})") from error

    def write_private(self, path: Path, content: bytes) -> None:
        """Replace a file at once and whole, readable by its owner alone."""
        descriptor, name = tempfile.mkstemp(dir=self.root, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def secret(self, name: str) -> str:
        """A random password that stays the same for the life of this home."""
        path = self.config / f"{name}.secret"
        if not path.exists():
            self.write_private(path, secrets.token_urlsafe(24).encode())
        return path.read_text()

    def read_pids(self) -> tuple[Identity, ...]:
        """Who was running when the list was last written."""
        try:
            return tuple(msgspec.json.decode(self.pids.read_bytes(), type=list[Identity]))
        except (FileNotFoundError, msgspec.DecodeError):
            return ()

    def write_pids(self, identities: Iterable[Identity]) -> None:
        self.write_private(self.pids, msgspec.json.encode(list(identities)))

    def read_endpoints(self) -> dict[str, Any] | None:
        """What `up` last wrote, or None."""
        try:
            return msgspec.json.decode(self.endpoints.read_bytes(), type=dict[str, Any])
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write_endpoints(self, endpoints: dict[str, Any]) -> None:
        self.write_private(self.endpoints, msgspec.json.format(msgspec.json.encode(endpoints), indent=2))

    def write_state(self, phase: str, *, reason: str = "", usage: bool = False) -> None:
        """Tell whoever waits for this process how far it is."""
        if self.root.is_dir():
            self.write_private(self.state, msgspec.json.encode(State(os.getpid(), phase, reason, usage)))

    def read_state(self, pid: int) -> State | None:
        """What process `pid` last said, if it has spoken."""
        try:
            state = msgspec.json.decode(self.state.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return state if state.pid == pid else None

    def erase(self) -> None:
        """Remove the folder; if something else was in it before us, only what a stack keeps there."""
        if self._ours.exists():
            shutil.rmtree(self.root, ignore_errors=True)
            return
        for folder in (self.data, self.logs, self.config, self.held):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.pids, self.state, self.endpoints, self.lock, self.settings):
            file.unlink(missing_ok=True)


def refuse_damaged(folder: Path, *, missing: str) -> None:
    """Raises: Unavailable, when a data folder without its central file holds something all the same."""
    if folder.is_dir() and any(folder.iterdir()):
        raise Unavailable(
            f"the data folder {folder} is damaged: {missing} is missing; nothing was changed; "
            "put it back, or erase everything with `down --erase`"
        )
