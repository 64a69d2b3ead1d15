"""The client's attribute and list definitions: read first, again from time to time, and whenever something names one
that is not known.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from connectors.inxmail.client import InxmailClient
from connectors.inxmail.pace import Urgency
from schemas.inxmail import Attribute

log = logging.getLogger(__name__)

_FRESH_SECONDS: Final = 30.0
"""A definition that was just not there is not asked for again at once."""


class Directory:
    """Attributes by id (decimal text), and the ids of lists that can have members."""

    def __init__(self, api: InxmailClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._missed: dict[str, float] = {}
        self._changed: set[str] = set()
        self._news = asyncio.Event()
        self._is_read = False
        self.attributes: dict[str, Attribute] = {}
        self.lists: tuple[int, ...] = ()

    async def refresh(self, *, urgency: Urgency = Urgency.NORMAL) -> bool:
        """Read everything anew; whether an attribute is different now. Raises: PipelineError."""
        attributes = {str(attribute.id): attribute for attribute in await self._api.attributes(urgency=urgency)}
        lists = await self._api.lists(urgency=urgency)
        before = self.attributes
        self.attributes = attributes
        self.lists = tuple(sorted(found.id for found in lists if found.type == "STANDARD"))
        if self._is_read:
            self._note_changes(before)
        self._is_read = True
        return attributes != before

    def _note_changes(self, before: dict[str, Attribute]) -> None:
        now = self.attributes
        altered = {key for key in now.keys() & before.keys() if now[key] != before[key]}
        if now.keys() != before.keys() or altered:
            facts = {
                "new": sorted(now.keys() - before.keys()),
                "gone": sorted(before.keys() - now.keys()),
                "altered": sorted(altered),
                "other_type": sorted(key for key in altered if now[key].type != before[key].type),
            }
            log.warning("attributes were changed at Inxmail", extra=facts)
            self._changed |= altered | (now.keys() ^ before.keys())
            self._news.set()

    async def changes(self, within_seconds: float) -> set[str]:
        """The ids of attributes whose definition has changed since this was last asked; empty when none did in time."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._news.wait()
        except TimeoutError:
            return set()
        self._news.clear()
        changed, self._changed = self._changed, set()
        return changed

    async def look_up(self, attribute_ids: set[str]) -> None:
        """Make sure that a definition of these is missing at Inxmail, not only here. Raises: PipelineError."""
        now = self._clock()
        news = {
            wanted for wanted in attribute_ids if now - self._missed.get(wanted, now - _FRESH_SECONDS) >= _FRESH_SECONDS
        }
        if news:
            await self.refresh()
            known = self.attributes.keys() | {f"list {list_id}" for list_id in self.lists}
            self._missed.update(dict.fromkeys(news - known, now))
            if missing := sorted(news - known):
                log.warning("not known to Inxmail", extra={"ids": missing})

    async def look_up_lists(self, list_ids: set[int]) -> None:
        """Make sure that these lists are missing at Inxmail, not only here. Raises: PipelineError."""
        await self.look_up({f"list {list_id}" for list_id in list_ids if list_id not in self.lists})

    @property
    def names(self) -> list[str]:
        """The names of all attributes."""
        return [attribute.name for attribute in self.attributes.values()]

    def id_of(self, name: str) -> str | None:
        """The id of the attribute of that name."""
        return next((key for key, attribute in self.attributes.items() if attribute.name == name), None)
