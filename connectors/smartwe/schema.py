"""The CRM's schema: what is captured of it, its migrations, its roles, and the identity of its hashes.

Order: `migrate`, then `create_roles` (it grants on what exists), then `provision_identity`. All may be repeated.
"""

from collections.abc import Collection
from typing import Final

import asyncpg
import msgspec
from pydantic import SecretStr

from connectors.postgres import migrations
from connectors.postgres.failures import translated
from schemas.errors import Misconfigured

PACKAGE: Final = "connectors.smartwe"
SCHEMA: Final = "crm"

PUBLICATION: Final = "verteiler"
"""Made by the migrations for exactly `CAPTURED_TABLES`, the heartbeat and the signals: the connector creates none."""

CAPTURED_TABLES: Final = (
    "baf_client",
    "channel",
    "source",
    "distribution",
    "distribution_binding",
    "field_mapping",
    "lookup_set",
    "lookup_value",
    "lookup_mapping",
    "suppression",
    "consent",
    "address",
    "address_profile",
    "profile_identifier",
    "distribution_recipient",
    "sync_request",
    "erasure_request",
)
"""In the order in which a snapshot should read them: structure, objections and proofs, people, memberships."""

UNCAPTURED_COLUMNS: Final = ("baf_client.base_url", "baf_client.credential_ref")
"""Columns of captured tables that never reach the bus."""

CAPTURE_ROLE: Final = "verteiler_capture"
WRITE_BACK_ROLE: Final = "verteiler_write_back"
CRM_ROLE: Final = "crm_user"


class RolePasswords(msgspec.Struct, frozen=True):
    """A password for each role that `create_roles` makes."""

    capture: SecretStr
    write_back: SecretStr
    crm: SecretStr


_GRANTS: Final = f"""
-- The CRM's own role owns its tables, so that adding, dropping and re-typing a column is an ordinary act.
do $$
declare
    item record;
begin
    for item in select format('%I.%I', schemaname, tablename) as name from pg_tables
        where schemaname = 'crm' and tableowner <> '{CRM_ROLE}'
    loop
        execute format('alter table %s owner to {CRM_ROLE}', item.name);
    end loop;
    execute format('grant connect, temporary on database %I to {CRM_ROLE}, {WRITE_BACK_ROLE}', current_database());
    execute format('grant connect on database %I to {CAPTURE_ROLE}', current_database());
end $$;
grant usage, create on schema crm to {CRM_ROLE};

-- Capture reads what it captures, moves its heartbeat and keeps its signals.
grant usage on schema crm, cdc to {CAPTURE_ROLE};
grant select on {", ".join(f"crm.{table}" for table in CAPTURED_TABLES)} to {CAPTURE_ROLE};
grant select, update on cdc.heartbeat to {CAPTURE_ROLE};
grant select, insert, update, delete on cdc.dbz_signal to {CAPTURE_ROLE};

-- Write-back reads the CRM and writes observations, never an intent.
grant usage on schema crm to {WRITE_BACK_ROLE};
grant select on all tables in schema crm to {WRITE_BACK_ROLE};
grant insert on crm.consent, crm.suppression_written to {WRITE_BACK_ROLE};
grant insert, update, delete on crm.distribution_recipient_status, crm.suppression, crm.mailing, crm.sending,
    crm.sending_kpi, crm.reaction, crm.attribute_def, crm.target_group, crm.sync_conflict to {WRITE_BACK_ROLE};
grant insert, update on crm.address_profile, crm.profile_identifier to {WRITE_BACK_ROLE};
grant update on crm.sync_request to {WRITE_BACK_ROLE};
grant execute on function pg_replication_origin_create(text), pg_replication_origin_oid(text),
    pg_replication_origin_session_setup(text), pg_replication_origin_session_reset(),
    pg_replication_origin_session_is_setup(), pg_replication_origin_session_progress(boolean),
    pg_replication_origin_xact_setup(pg_lsn, timestamptz), pg_replication_origin_xact_reset() to {WRITE_BACK_ROLE};
"""


async def migrate(dsn: str) -> list[str]:
    """Bring schemas `crm` and `cdc` up to date; the names applied. `dsn` is a role that may create roles and schemas.

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


async def create_roles(dsn: str, passwords: RolePasswords) -> None:
    """Create the three roles, or give them these passwords again, and grant each the least it needs.

    Order: after `migrate`. Roles belong to the whole server: all databases of one server share the passwords.
    Raises: Misconfigured, when `dsn` may not do this; Unavailable, when the database is not there.
    """
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock(hashtext('verteiler.roles'))")
                # A statement that fails or is logged must not put a password into the server's log.
                await connection.execute("set local log_min_error_statement = panic; set local log_statement = none")
                for role, options, password in (
                    (CAPTURE_ROLE, "login replication", passwords.capture),
                    (WRITE_BACK_ROLE, "login", passwords.write_back),
                    (CRM_ROLE, "login", passwords.crm),
                ):
                    await _create_role(connection, role, options, password)
                await connection.execute(_GRANTS)
        finally:
            await connection.close()


async def _create_role(connection: asyncpg.Connection, role: str, options: str, password: SecretStr) -> None:
    # Another database of the same server may be provisioned at this moment; advisory locks are one database's own.
    await connection.execute(
        f"do $$ begin create role {role}; exception when duplicate_object or unique_violation then null; end $$"
    )
    statement = await connection.fetchval(
        "select format('alter role %I with %s password %L', $1::text, $2::text, $3::text)",
        role,
        options,
        password.get_secret_value(),
    )
    await connection.execute(statement)


async def provision_identity(
    connection: asyncpg.Connection, fingerprint: str, normaliser_version: int, *, also_matches: Collection[str] = ()
) -> None:
    """Store with which key and spelling rules the hashes in this database are made; once, and for good.

    Raises: Misconfigured, as `check_identity`, when another identity is already stored.
    """
    async with translated():
        await connection.execute(
            "insert into crm.pipeline_identity (hmac_fingerprint, normaliser_version) values ($1, $2)"
            " on conflict do nothing",
            fingerprint,
            normaliser_version,
        )
    await check_identity(connection, fingerprint, normaliser_version, also_matches=also_matches)


async def check_identity(
    connection: asyncpg.Connection, fingerprint: str, normaliser_version: int, *, also_matches: Collection[str] = ()
) -> None:
    """Refuse to go on with another key or normaliser than the one the stored hashes were made with.

    fingerprint: of the key that writes. also_matches: fingerprints of the other keys in the ring.
    Raises: Misconfigured, when they differ or none is stored yet.
    """
    async with translated():
        stored = await connection.fetchrow("select hmac_fingerprint, normaliser_version from crm.pipeline_identity")
    if stored is None:
        raise Misconfigured("this CRM database was never provisioned for the pipeline: run `verteiler provision` first")
    faults = []
    if stored["hmac_fingerprint"] not in {fingerprint, *also_matches}:
        faults.append(
            f"the HMAC key ({fingerprint}) is not the one this CRM was provisioned with ({stored['hmac_fingerprint']}):"
            " another key silently voids every suppression, people who left would be mailed again. Put the old key"
            " back into VERTEILER_HMAC_KEYS"
        )
    if stored["normaliser_version"] != normaliser_version:
        faults.append(
            f"this program normalises e-mail addresses by version {normaliser_version}, the hashes in this CRM were"
            f" made by version {stored['normaliser_version']}: suppressions would no longer be found. Start the"
            " version of the program that provisioned it, or run `verteiler upgrade`"
        )
    if faults:
        raise Misconfigured("; ".join(faults) + ". Nothing was started and nothing was changed.")
