"""Numbered SQL files, applied once each, all or none.

A package that owns a schema keeps `migrations/NNNN_name.sql` beside its code. Which of them a database has is kept in
that schema's own table `schema_migration`, with a checksum: an applied file that was edited afterwards is a fault.
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files

import asyncpg
import msgspec

from schemas.errors import Misconfigured


class Migration(msgspec.Struct, frozen=True):
    """One file: its name, its text, and the SHA-256 of the text in hex."""

    name: str
    sql: str
    checksum: str


def migrations_of(package: str) -> tuple[Migration, ...]:
    """The migrations that `package` ships in its folder `migrations`, in order.

    Raises: Misconfigured, when there are none (an incomplete installation).
    """
    folder = files(package).joinpath("migrations")
    entries = folder.iterdir() if folder.is_dir() else ()
    texts = {entry.name: entry.read_text("utf-8") for entry in entries if entry.name.endswith(".sql")}
    if not texts:
        raise Misconfigured(f"package {package} has no migrations: the installation is incomplete, install it again")
    return tuple(
        Migration(name=name, sql=sql, checksum=hashlib.sha256(sql.encode()).hexdigest())
        for name, sql in sorted(texts.items())
    )


async def migrate(connection: asyncpg.Connection, package: str, schema: str) -> list[str]:
    """Apply what is missing, in one transaction; the names applied, in order (empty: nothing was missing).

    Several callers at once wait for each other. Migrations run as the connection's role, whose rights they need.
    Raises: Misconfigured, when an applied file has changed or the database is newer than this program, and when a
        file fails; then nothing of it remains. Errors of the connection itself are asyncpg's.
    """
    migrations = migrations_of(package)
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext('verteiler.migrations'), hashtext($1))", schema)
        await connection.execute(f"create schema if not exists {schema}")
        await connection.execute(
            f"create table if not exists {schema}.schema_migration"
            " (name text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
        missing = unapplied(migrations, await _applied(connection, schema), schema)
        for migration in missing:
            try:
                await connection.execute(migration.sql)
            except asyncpg.PostgresError as error:
                raise Misconfigured(
                    f"migration {migration.name} of schema {schema} failed: {error.args[0]}; the database is"
                    " as it was before"
                ) from error
            await connection.execute(
                f"insert into {schema}.schema_migration (name, checksum) values ($1, $2)",
                migration.name,
                migration.checksum,
            )
    return [migration.name for migration in missing]


async def pending(connection: asyncpg.Connection, package: str, schema: str) -> list[str]:
    """The names that `migrate` would apply. Changes nothing. Raises: Misconfigured, as `migrate`."""
    exists = await connection.fetchval("select to_regclass($1) is not null", f"{schema}.schema_migration")
    applied = await _applied(connection, schema) if exists else {}
    return [migration.name for migration in unapplied(migrations_of(package), applied, schema)]


def unapplied(migrations: Sequence[Migration], applied: Mapping[str, str], schema: str) -> list[Migration]:
    """The migrations that are not in `applied` (name → checksum).

    Raises: Misconfigured, when what is applied is not what this program would have applied.
    """
    known = {migration.name: migration.checksum for migration in migrations}
    if foreign := sorted(applied.keys() - known.keys()):
        raise Misconfigured(
            f"schema {schema} has migrations this program does not know ({', '.join(foreign)}): it belongs to a newer"
            " version; start that version, nothing was changed"
        )
    if edited := sorted(name for name, checksum in applied.items() if known[name] != checksum):
        raise Misconfigured(
            f"migrations of schema {schema} were edited after they had been applied ({', '.join(edited)}): restore"
            " the files and add a new migration instead; nothing was changed"
        )
    missing = [migration for migration in migrations if migration.name not in applied]
    if applied and missing and missing[0].name < max(applied):
        raise Misconfigured(
            f"migration {missing[0].name} of schema {schema} sorts before one that is applied: number it after"
            f" {max(applied)}; nothing was changed"
        )
    return missing


async def _applied(connection: asyncpg.Connection, schema: str) -> dict[str, str]:
    rows = await connection.fetch(f"select name, checksum from {schema}.schema_migration")
    return {row["name"]: row["checksum"] for row in rows}
