"""Why a list is held as it is: what a `HeldList.cause` can say. Pure."""

import re
from typing import Final

READ: Final = "read"
"""Read from the recipient itself."""
DUPLICATE: Final = "duplicate"
"""Our call to unsubscribe found it so already: the person's doing."""
MISSING: Final = "missing"
"""The recipient is gone."""

_OP_ID: Final = re.compile(r"[0-9A-F]{32}", re.ASCII)


def event(event_id: int) -> str:
    """An entry of a log."""
    return f"event:{event_id}"


def is_ours(cause: str | None) -> bool:
    """Whether a call of ours brought it about (the cause is its op id)."""
    return cause is not None and _OP_ID.fullmatch(cause) is not None
