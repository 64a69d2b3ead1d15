"""A CRM database of a test's own, on the server of the running stack."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
from pydantic import SecretStr

from connectors.smartwe import schema
from schemas.crm import RecipientStatus, SubscriptionState, SuppressionRecord, SyncState
from schemas.ids import NORMALISER_VERSION, KeyRing
from streams.settings import Settings, read_settings

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = b"a key for tests, no longer secret"


@dataclass
class CrmDatabase:
    """With one client and one distribution. `write_back_dsn` has the rights of the write-back and no more."""

    settings: Settings
    admin: "asyncpg.Connection[asyncpg.Record]"
    write_back_dsn: SecretStr
    origin: str
    distribution: str

    async def recipients(self, number: int) -> list[str]:
        """So many new memberships of people with nothing but a key; their GGUIDs."""
        found = await self.admin.fetch(
            "with people as (insert into crm.address (kind) select 'person' from generate_series(1, $2) returning *)"
            " insert into crm.distribution_recipient (distribution_gguid, baf_client_id, address_gguid)"
            " select $1, 'a', gguid from people returning gguid",
            self.distribution,
            number,
        )
        return [row["gguid"] for row in found]

    async def statuses(self) -> dict[str, "asyncpg.Record"]:
        """All status rows, by recipient."""
        found = await self.admin.fetch("select * from crm.distribution_recipient_status")
        return {row["distribution_recipient_gguid"]: row for row in found}

    def suppression(self) -> SuppressionRecord:
        """A new suppression on the distribution."""
        return SuppressionRecord(
            gguid=uuid.uuid4().hex.upper(),
            epoch=1,
            version=1,
            scope="list",
            baf_client_id="a",
            distribution_gguid=self.distribution,
            email_hmac=b"\xfe" * 32,
            reason="unsubscribe",
            since=AT,
            event_id="4711",
        )


def status(
    recipient: str,
    version: int = 1,
    *,
    epoch: int = 1,
    state: SubscriptionState = SubscriptionState.SUBSCRIBED,
) -> RecipientStatus:
    """A status of a recipient."""
    return RecipientStatus(
        recipient=recipient,
        epoch=epoch,
        version=version,
        client="a",
        email_used="anna@example.org",
        mailbox_ref="f" * 64,
        inxmail_recipient_id=7,
        subscription_state=state,
        state_reason="member",
        state_since=AT,
        state_event_id="subscriptions:1",
        subscribed_at=AT,
        unsubscribed_at=None,
        is_leading=True,
        is_unproven=False,
        is_frozen=False,
        sync_state=SyncState.IN_SYNC,
        last_synced_at=AT,
        last_error_code=None,
        last_error_text=None,
        desired_hash=b"\x00\xff" * 16,
    )


@asynccontextmanager
async def crm_database(home: Path, origin: str) -> AsyncIterator[CrmDatabase]:
    """Migrated and provisioned for `KEY`; dropped at the end, and the replication origin with it."""
    settings = read_settings(home)
    server = settings.database.sync_dsn.get_secret_value().rpartition("/")[0]
    name = f"crm_{uuid.uuid4().hex[:12]}"
    maintenance = await asyncpg.connect(f"{server}/postgres")
    await maintenance.execute(f"create database {name}")
    try:
        await schema.migrate(f"{server}/{name}")
        await schema.create_roles(f"{server}/{name}", _passwords(settings))
        admin = await asyncpg.connect(f"{server}/{name}")
        await schema.provision_identity(admin, KeyRing([KEY]).fingerprint(), NORMALISER_VERSION)
        await admin.execute("insert into crm.baf_client (baf_client_id) values ('a')")
        distribution = await admin.fetchval("insert into crm.distribution (title) values ('Neues') returning gguid")
        yield CrmDatabase(
            settings, admin, SecretStr(f"{server}/{name}?role={schema.WRITE_BACK_ROLE}"), origin, distribution
        )
        await admin.close()
    finally:
        await maintenance.execute(f"drop database {name} with (force)")
        await maintenance.execute(
            "select pg_replication_origin_drop(roname) from pg_replication_origin where roname = $1", origin
        )
        await maintenance.close()


def _passwords(settings: Settings) -> schema.RolePasswords:
    """Those that the roles have: they belong to the whole server."""
    write_back = unquote(urlsplit(settings.database.crm_dsn.get_secret_value()).password or "")
    return schema.RolePasswords(
        capture=settings.capture.database_password,
        write_back=SecretStr(write_back),
        crm=settings.database.crm_user_password,
    )
