"""Which of a client's lists and attributes the sample people get."""

from connectors.smartwe.sample import ClientTargets
from streams.demo.visitor import Visitor

COLUMNS = {
    "salutation": "Anrede",
    "first_name": "Vorname",
    "last_name": "Nachname",
    "town": "Ort",
    "birthday": "Geburtstag",
    "x_revenue": "Umsatz",
}
"""Columns of `crm.address` and the attributes that show them, where a client has them."""


async def targets_of(visitor: Visitor) -> ClientTargets:
    """The first two lists of the account and the attributes we know by name. Raises: Unavailable, Refused."""
    lists = await visitor.lists()
    attributes = await visitor.attributes()
    shown = {column: attributes[name] for column, name in COLUMNS.items() if name in attributes}
    return ClientTargets(lists=tuple(lists.values())[:2], attributes=shown)
