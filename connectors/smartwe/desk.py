"""What a CRM user does in the demonstration: change one person's town, and look at what is said of a membership."""

from collections.abc import Collection, Mapping

import asyncpg
import msgspec

from connectors.postgres.failures import translated
from schemas.errors import Refused


class Observed(msgspec.Struct, frozen=True):
    """One membership as the CRM knows it: where, under which address, and in which subscription state."""

    recipient: str
    client: str
    list_id: int
    email: str
    state: str


class Desk:
    """One session in the CRM, as its own user. Raises in every method: Unavailable, AnswerLost, Misconfigured."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def move(self, address: str, town: str) -> None:
        """Change a person's town. Raises: Refused, when there is no such person."""
        async with translated():
            done = await self._connection.execute("update crm.address set town = $2 where gguid = $1", address, town)
        if done != "UPDATE 1":
            raise Refused("there is no such person in the CRM; nothing was changed")

    async def states(self, recipients: Collection[str]) -> Mapping[str, str]:
        """The observed subscription state of each of these memberships that has one."""
        async with translated():
            rows = await self._connection.fetch(
                "select distribution_recipient_gguid as recipient, subscription_state as state"
                " from crm.distribution_recipient_status where distribution_recipient_gguid = any ($1::text[])",
                list(recipients),
            )
        return {row["recipient"]: row["state"] for row in rows}

    async def statuses(self) -> list[Observed]:
        """What the CRM says was observed, of every membership whose mailbox was ever sent."""
        async with translated():
            rows = await self._connection.fetch(
                "select s.distribution_recipient_gguid as recipient, r.baf_client_id as client,"
                " b.inxmail_list_id as list_id, s.email_used as email, s.subscription_state as state"
                " from crm.distribution_recipient_status s"
                " join crm.distribution_recipient r on r.gguid = s.distribution_recipient_gguid"
                " join crm.distribution_binding b on b.distribution_gguid = r.distribution_gguid"
                " and b.baf_client_id = r.baf_client_id and b.deleted_at is null"
                " where s.email_used is not null and b.inxmail_list_id is not null"
            )
        return [Observed(**dict(row)) for row in rows]
