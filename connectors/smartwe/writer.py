"""Writes what the pipeline observed into the CRM, on one connection under one replication origin.

The origin marks every transaction, so that a reader of the CRM's log can tell our words from a user's. Nothing here
retries: a failure says whether to try again, and every write may be repeated.
"""

from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec
from pydantic import SecretStr

from connectors.postgres import statements
from connectors.postgres.failures import translated
from schemas.crm import RecipientStatus, SuppressionRecord
from schemas.errors import Misconfigured, Unavailable

SYNC_ORIGIN: Final = "write-back"
"""What stands in `sync_origin` of a row that was written here last."""

_STATUS_TABLE: Final = "distribution_recipient_status"


class StatusGone(msgspec.Struct, frozen=True):
    """The recipient is gone, and what was observed of it goes too."""

    recipient: str


Write = RecipientStatus | StatusGone | SuppressionRecord


class Written(msgspec.Struct, frozen=True):
    """What became of a batch, in rows."""

    statuses: int = 0
    statuses_not_newer: int = 0
    statuses_without_recipient: int = 0
    statuses_deleted: int = 0
    suppressions: int = 0
    suppressions_known: int = 0

    def __add__(self, other: "Written") -> "Written":
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Written(*(mine + its for mine, its in pairs))


class CrmWriter:
    """One session. `origin` belongs to it alone: PostgreSQL refuses it to a second session."""

    def __init__(self, dsn: SecretStr, origin: str, *, statement_seconds: float = 10.0) -> None:
        self._dsn = dsn
        self._origin = origin
        self._statement_seconds = statement_seconds
        self._sql = statements.load("connectors.smartwe", "writer.sql")
        self._connection: asyncpg.Connection | None = None

    async def open(self) -> asyncpg.Connection:
        """The session under its origin, made when there is none.

        Raises: Unavailable, when the CRM is not there or another session still holds the origin; Misconfigured, when
            the role may not write back or the server has no place for the origin.
        """
        if self._connection is None or self._connection.is_closed():
            async with translated():
                self._connection = await self._connect()
        return self._connection

    async def apply(self, writes: Sequence[Write]) -> Written:
        """Write all or none, durable when it returns; at most one write for each row may be given.

        A status that is not newer than what the row shows, one whose recipient is gone, and a suppression that was put
        in once before, change nothing.
        Raises: Refused with the SQLSTATE as `kind`, when a row breaks a rule of the CRM; Unavailable or AnswerLost,
            when it should be tried again; Misconfigured, as `open`.
        """
        suppressions = [write for write in writes if isinstance(write, SuppressionRecord)]
        gone = [write.recipient for write in writes if isinstance(write, StatusGone)]
        statuses = [write for write in writes if isinstance(write, RecipientStatus)]
        connection = await self.open()
        async with translated():
            if not await connection.fetchval(self._sql["has_origin"]):
                connection.terminate()
                raise Unavailable("the session has lost its replication origin; nothing was written")
            try:
                async with connection.transaction():
                    new = await self._put_in(connection, suppressions)  # objections before everything else
                    deleted = await connection.fetchval(self._sql["delete_statuses"], gone) if gone else 0
                    living, changed = await self._write_statuses(connection, statuses)
            except asyncpg.ForeignKeyViolationError as error:
                if error.table_name != _STATUS_TABLE:
                    raise
                raise Unavailable("a recipient was deleted while its status was written; nothing was") from error
        return Written(
            statuses=changed,
            statuses_not_newer=living - changed,
            statuses_without_recipient=len(statuses) - living,
            statuses_deleted=deleted,
            suppressions=new,
            suppressions_known=len(suppressions) - new,
        )

    async def close(self) -> None:
        """End the session; its origin is free for the next one."""
        if self._connection is not None and not self._connection.is_closed():
            async with translated():
                await self._connection.close(timeout=self._statement_seconds)

    async def _put_in(self, connection: asyncpg.Connection, suppressions: Sequence[SuppressionRecord]) -> int:
        if not suppressions:
            return 0
        new: int = await connection.fetchval(self._sql["put_in_suppressions"], _json(suppressions), SYNC_ORIGIN)
        return new

    async def _write_statuses(
        self, connection: asyncpg.Connection, statuses: Sequence[RecipientStatus]
    ) -> tuple[int, int]:
        if not statuses:
            return 0, 0
        row = await connection.fetchrow(self._sql["write_statuses"], _json(statuses), SYNC_ORIGIN)
        assert row is not None  # an aggregate always answers
        return row["living"], row["written"]

    async def _connect(self) -> asyncpg.Connection:
        milliseconds = str(int(self._statement_seconds * 1000))
        connection = await asyncpg.connect(
            self._dsn.get_secret_value(),
            timeout=self._statement_seconds,
            command_timeout=self._statement_seconds,
            server_settings={
                "application_name": self._origin,
                "statement_timeout": milliseconds,
                # A process that hangs between two statements must not keep rows of the CRM locked.
                "idle_in_transaction_session_timeout": milliseconds,
            },
        )
        try:
            if not await connection.fetchval(self._sql["origin_exists"], self._origin):
                await connection.execute(self._sql["create_origin"], self._origin)
            await connection.execute(self._sql["take_origin"], self._origin)
        except asyncpg.ObjectInUseError as error:
            connection.terminate()
            raise Unavailable(
                f"another session still writes to the CRM as {self._origin}: a predecessor that is ending, or a second"
                " process with the same slot; nothing was written"
            ) from error
        except asyncpg.ConfigurationLimitExceededError as error:
            connection.terminate()
            raise Misconfigured(
                f"the CRM's server has no place for another replication origin ({self._origin}): raise its setting"
                " max_active_replication_origins, or drop origins of slots that no longer run; nothing was written"
            ) from error
        except BaseException:  # whatever ended it, half a session is not kept; raised again
            connection.terminate()
            raise
        return connection


def _json(records: Sequence[msgspec.Struct]) -> str:
    return msgspec.json.encode(records).decode()
