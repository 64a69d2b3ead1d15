"""Keeps the definitions of attributes and lists fresh, and tries again what was rejected because of them."""

import logging
from functools import partial

from connectors.inxmail.pace import Urgency
from schemas.errors import MalformedInput, Refused
from streams.delivery.desk import Desk

log = logging.getLogger(__name__)


async def keep_definitions(desk: Desk) -> None:
    """Read them again at every interval, for ever. Whoever else reads them: what changed is acted upon at once."""
    while True:
        changed = await desk.directory.changes(desk.settings.definitions_seconds)
        if changed:
            await try_again(desk, changed)
            continue
        try:
            await desk.gate.insist(partial(desk.directory.refresh, urgency=Urgency.STATISTICS))
        except (Refused, MalformedInput) as failure:
            log.warning("definitions were not read; those known stay in use", extra={"reason": str(failure)})


async def try_again(desk: Desk, attribute_ids: set[str]) -> None:
    """Look again at the mailboxes where a value of these attributes was rejected."""
    async with desk.ledger.transaction() as books:
        mailboxes = await books.deliveries.try_values_again(sorted(attribute_ids))
    if mailboxes:
        facts = {"client": desk.client, "attributes": sorted(attribute_ids), "mailboxes": mailboxes}
        log.info("rejected values are tried again", extra=facts)
        desk.overlooked.set()
