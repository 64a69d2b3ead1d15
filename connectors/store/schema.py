"""The pipeline's own schemas: `sync`, which can be thrown away and rebuilt, and `fence`, which outlives that."""

from collections.abc import Collection
from typing import Final

import asyncpg
import msgspec

from connectors.postgres import migrations
from connectors.postgres.failures import translated
from schemas.errors import Misconfigured

PACKAGE: Final = "connectors.store"
SCHEMA: Final = "sync"


async def migrate(dsn: str) -> list[str]:
    """Bring schemas `sync` and `fence` up to date; the names applied. `dsn` is a role that may create schemas.

    Raises: Misconfigured, when the database is not one this program can migrate; Unavailable, when it is not there.
    """
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            return await migrations.migrate(connection, PACKAGE, SCHEMA)
        finally:
            await connection.close()


async def pending(dsn: str) -> list[str]:
    """The migrations that `migrate` would apply. Changes nothing. Raises: as `migrate`."""
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            return await migrations.pending(connection, PACKAGE, SCHEMA)
        finally:
            await connection.close()


async def provision_identity(
    dsn: str, fingerprint: str, normaliser_version: int, *, also_matches: Collection[str] = ()
) -> None:
    """Store with which key and spelling rules hashes are made; once, and for good. Raises: as `check_identity`."""
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(
                "insert into fence.pipeline_identity (hmac_fingerprint, normaliser_version) values ($1, $2)"
                " on conflict do nothing",
                fingerprint,
                normaliser_version,
            )
        finally:
            await connection.close()
    await check_identity(dsn, fingerprint, normaliser_version, also_matches=also_matches)


async def check_identity(
    dsn: str, fingerprint: str, normaliser_version: int, *, also_matches: Collection[str] = ()
) -> None:
    """Refuse to go on with another key or normaliser than the one the stored hashes were made with.

    fingerprint: of the key that writes. also_matches: fingerprints of the other keys in the ring.
    Raises: Misconfigured, when they differ or the database was never provisioned; Unavailable, when it is not there.
    """
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            exists = await connection.fetchval("select to_regclass('fence.pipeline_identity') is not null")
            stored = (
                await connection.fetchrow("select hmac_fingerprint, normaliser_version from fence.pipeline_identity")
                if exists
                else None
            )
        finally:
            await connection.close()
    if stored is None:
        raise Misconfigured("this database was never provisioned for the pipeline: run `verteiler provision` first")
    faults = []
    if stored["hmac_fingerprint"] not in {fingerprint, *also_matches}:
        faults.append(
            f"the HMAC key ({fingerprint}) is not the one this pipeline was provisioned with"
            f" ({stored['hmac_fingerprint']}): another key silently voids every suppression, people who left would be"
            " mailed again. Put the old key back into VERTEILER_HMAC_KEYS"
        )
    if stored["normaliser_version"] != normaliser_version:
        faults.append(
            f"this program normalises e-mail addresses by version {normaliser_version}, the stored hashes were made by"
            f" version {stored['normaliser_version']}: start the version of the program that provisioned them"
        )
    if faults:
        raise Misconfigured("; ".join(faults) + ". Nothing was started and nothing was changed.")


class SourceEpoch(msgspec.Struct, frozen=True):
    """The epoch that captured records carry; `snapshot_due`: capture has yet to start anew in it."""

    epoch: int
    snapshot_due: bool


async def enter_history(dsn: str, system_identifier: str, timeline: int, *, at_least: int) -> SourceEpoch:
    """Make this history of the CRM's server the present one; another than before raises the epoch.

    Raises: Unavailable, when the database is not there.
    """
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            row = await connection.fetchrow(
                "insert into fence.source_history as h (epoch, system_identifier, timeline) values ($1, $2, $3)"
                " on conflict (only_row) do update set"
                " epoch = greatest($1, h.epoch + ((h.system_identifier, h.timeline) <> ($2, $3))::int),"
                " snapshot_due = h.snapshot_due or (h.system_identifier, h.timeline) <> ($2, $3) or h.epoch < $1,"
                " system_identifier = $2, timeline = $3,"
                " since = case when (h.system_identifier, h.timeline) <> ($2, $3) then now() else h.since end"
                " returning epoch, snapshot_due",
                at_least,
                system_identifier,
                timeline,
            )
        finally:
            await connection.close()
    assert row is not None  # an upsert returns its row
    return SourceEpoch(row["epoch"], row["snapshot_due"])


async def present_history(dsn: str) -> tuple[SourceEpoch, str, int] | None:
    """The present epoch, with the system identifier and timeline it belongs to; None before it was ever entered."""
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            row = await connection.fetchrow(
                "select epoch, snapshot_due, system_identifier, timeline from fence.source_history"
            )
        finally:
            await connection.close()
    if row is None:
        return None
    return SourceEpoch(row["epoch"], row["snapshot_due"]), row["system_identifier"], row["timeline"]


async def snapshot_begun(dsn: str) -> None:
    """Capture has started anew in the present epoch."""
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("update fence.source_history set snapshot_due = false")
        finally:
            await connection.close()
