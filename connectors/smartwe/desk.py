"""What a CRM user does in the demonstration: change one person's town, and look at what the CRM says of a membership."""

from collections.abc import Collection, Mapping

import asyncpg

from connectors.postgres.failures import translated
from schemas.errors import Refused


class Desk:
    """One session in the CRM, as its own user. Raises in every method: Unavailable, AnswerLost, Misconfigured."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def move(self, recipient: str, town: str) -> None:
        """Change the town of the person behind a membership. Raises: Refused, when there is no such membership."""
        async with translated():
            done = await self._connection.execute(
                "update crm.address a set town = $2 from crm.distribution_recipient r"
                " where r.gguid = $1 and a.gguid = r.address_gguid",
                recipient,
                town,
            )
        if done != "UPDATE 1":
            raise Refused("there is no such membership in the CRM; nothing was changed")

    async def states(self, recipients: Collection[str]) -> Mapping[str, str]:
        """The observed subscription state of each of these memberships that has one."""
        async with translated():
            rows = await self._connection.fetch(
                "select distribution_recipient_gguid as recipient, subscription_state as state"
                " from crm.distribution_recipient_status where distribution_recipient_gguid = any ($1::text[])",
                list(recipients),
            )
        return {row["recipient"]: row["state"] for row in rows}
