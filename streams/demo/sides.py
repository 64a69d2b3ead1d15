"""Both sides of the comparison: what the CRM's tables ask for, and what Inxmail's API shows. Nothing between counts."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import asyncpg

from connectors.smartwe.desk import Desk
from connectors.smartwe.expectation import expected_memberships
from streams.demo.comparison import (
    SUBSCRIBED,
    UNSUBSCRIBED,
    Difference,
    Entry,
    differences,
    scalar,
    status_differences,
)
from streams.demo.visitor import Visitor

Place = tuple[str, int, str]
"""Client, list id, normalised e-mail."""


class Sides:
    """The CRM through SQL, and every Inxmail account through REST. Raises in every method: Unavailable, Refused."""

    def __init__(
        self,
        crm: "asyncpg.Connection[asyncpg.Record]",
        visitors: Mapping[str, Visitor],
        email_hashes: Callable[[str], Sequence[bytes]],
    ) -> None:
        self._crm = crm
        self._visitors = visitors
        self._email_hashes = email_hashes

    async def expected(self, left: Collection[Place] = ()) -> list[Entry]:
        """What should be at Inxmail; who `left` there should be known to have, once the CRM asks for it no more."""
        names = {
            client: {id_: name for name, id_ in (await visitor.attributes()).items()}
            for client, visitor in self._visitors.items()
        }
        asked = await expected_memberships(self._crm, email_hashes=self._email_hashes)
        entries = [
            Entry(
                client,
                list_id,
                email,
                SUBSCRIBED,
                {names[client][attribute]: scalar(value) for attribute, value in member.values.items()},
                member.address,
            )
            for (client, list_id, email), member in asked.items()
        ]
        return entries + [Entry(*place, UNSUBSCRIBED, {}) for place in left if place not in asked]

    async def actual(self) -> list[Entry]:
        """Everyone on any list of any account, with all attributes."""
        found: list[Entry] = []
        for visitor in self._visitors.values():
            attributes = list(await visitor.attributes())
            for list_id in (await visitor.lists()).values():
                found += await visitor.entries(list_id, attributes)
        return found

    async def statuses(self) -> list[Entry]:
        """What the CRM itself says of every membership."""
        observed = await Desk(self._crm).statuses()
        return [Entry(o.client, o.list_id, o.email, o.state, {}, o.recipient) for o in observed]

    async def differences(self, left: Collection[Place] = ()) -> tuple[list[Difference], int]:
        """Every difference in both directions, and how many memberships were compared."""
        expected = await self.expected(left)
        actual, statuses = await asyncio.gather(self.actual(), self.statuses())
        return differences(expected, actual) + status_differences(statuses, actual), len(expected)
