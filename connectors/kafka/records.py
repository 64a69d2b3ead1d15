"""What goes to the broker and what comes from it. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from schemas.errors import MalformedInput


class Record(msgspec.Struct, frozen=True):
    """A record to be written. A value of None is a tombstone: compaction removes the key."""

    topic: str
    key: str | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Placed(NamedTuple):
    """Where the broker put a record."""

    partition: int
    offset: int


class Message(msgspec.Struct, frozen=True):
    """A record that was read. `written_ms`: milliseconds since the Unix epoch by the record's own timestamp."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    written_ms: int

    @property
    def key_text(self) -> str:
        """The key as text; empty when there is none. Raises: MalformedInput, when it is no text."""
        try:
            return (self.key or b"").decode()
        except UnicodeDecodeError as error:
            raise MalformedInput("the record's key is no text") from error
