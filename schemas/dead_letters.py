"""A record that could not be carried further. Pure."""

from datetime import datetime

import msgspec


class DeadLetter(msgspec.Struct, frozen=True):
    """Raw bytes, origin and reason; the record key is the source record's key.

    `error` is the class of the failure, `reason` its message (no personal data), `flow` who gave up.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    error: str
    reason: str
    flow: str
    attempts: int
    first_seen_at: datetime
    last_seen_at: datetime
