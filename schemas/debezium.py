"""The typed change envelope of Debezium's PostgreSQL connector. Pure."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from schemas.errors import MalformedInput

EPOCH_HEADER = "epoch"
"""Header that the connector puts on every record: the source epoch, a decimal number (see `Position`)."""


class Op(StrEnum):
    """What happened to the row."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"


class Position(msgspec.Struct, frozen=True, order=True):
    """Where in the source's history a change stands. A restored database starts at lower LSNs in a higher epoch."""

    epoch: int
    lsn: int


class Change(msgspec.Struct, frozen=True):
    """One change of one row; rows are the plain column values of the record."""

    table: str
    op: Op
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    position: Position
    committed_at: datetime
    origin: str | None

    @property
    def row(self) -> Mapping[str, Any]:
        """The row as it now is, or as it last was when it is gone."""
        row = self.before if self.op is Op.DELETE else self.after
        assert row is not None  # parse_change saw to it
        return row


def parse_change(envelope: Mapping[str, Any], *, epoch: int) -> Change:
    """Read one envelope.

    Shape: {"op", "before", "after", "source": {"table", "lsn", "snapshot", "sequence", "ts_ms", "origin"}}; tombstones
        must not reach here.
    Units: source.ts_ms is milliseconds since the Unix epoch; source.lsn a decimal byte position in the log.
    Raises: MalformedInput, when a field is missing or holds what its type cannot, or no row is there.
    Source: Debezium PostgreSQL connector, "Data change events".
    """
    try:
        source = envelope["source"]
        op = Op(envelope["op"])
        change = Change(
            table=str(source["table"]),
            op=op,
            before=envelope.get("before"),
            after=envelope.get("after"),
            position=Position(epoch, _lsn(source)),
            committed_at=datetime.fromtimestamp(source["ts_ms"] / 1000, UTC),
            origin=source.get("origin"),
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise MalformedInput(f"not a change envelope: {type(error).__name__}") from error
    if not isinstance(change.before if op is Op.DELETE else change.after, Mapping):
        raise MalformedInput(f"a change with op {op.value!r} carries no row")
    return change


def _lsn(source: Mapping[str, Any]) -> int:
    """The change's position in its epoch.

    Each full snapshot opens an epoch, and its rows stand before everything streamed in it. Their own `lsn` is the
    snapshot's: a change that was written before it but committed after it has a lower one, and would lose to the row
    that it replaces. Rows of an incremental snapshot have no `lsn`, but stand in the stream at `sequence`.
    """
    match source.get("snapshot"):
        case None | "false":
            return int(source.get("lsn") or 0)
        case "incremental":
            return int(json.loads(source["sequence"])[1] or 0)
        case _:
            return 0


def epoch_of(headers: Mapping[str, bytes] | None) -> int:
    """The source epoch in a record's headers; 0 when Connect put none there.

    Raises: MalformedInput, when the header is no number.
    """
    raw = (headers or {}).get(EPOCH_HEADER)
    if raw is None:
        return 0
    try:
        return int(json.loads(raw))
    except (ValueError, TypeError) as error:
        raise MalformedInput("the epoch header is no number") from error
