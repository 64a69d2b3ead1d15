"""Which of two records of one row is the newer one."""

from typing import Any

import pytest

from schemas.debezium import Position, parse_change
from schemas.errors import MalformedInput


def position(op: str = "u", epoch: int = 1, **source: Any) -> Position:
    row = {"gguid": "A" * 32}
    envelope = {"op": op, "before": row, "after": row, "source": {"table": "address", "ts_ms": 1, **source}}
    return parse_change(envelope, epoch=epoch).position


def test_a_streamed_change_stands_at_its_own_place_in_the_log() -> None:
    assert position(snapshot="false", lsn=100, sequence='["90","100"]') == Position(1, 100)


@pytest.mark.parametrize("phase", ["first", "first_in_data_collection", "true", "last_in_data_collection", "last"])
def test_a_change_written_before_a_snapshot_and_committed_after_it_is_newer_than_its_row(phase: str) -> None:
    row = position("r", snapshot=phase, lsn=100, sequence='[null,"100"]')

    assert position(snapshot="false", lsn=90, sequence='["90","90"]') > row


def test_a_new_epochs_snapshot_is_newer_than_anything_before_it() -> None:
    assert position("r", epoch=2, snapshot="first", lsn=5, sequence=None) > position(epoch=1, snapshot="false", lsn=900)


def test_a_row_of_an_incremental_snapshot_stands_where_its_window_closed() -> None:
    row = position("r", snapshot="incremental", lsn=None, sequence='["60364528","60364528"]')

    assert row == Position(1, 60364528)


@pytest.mark.parametrize("sequence", [None, "", "[]", '{"a": 1}', '["1","x"]', "7"])
def test_an_incremental_row_without_its_place_is_malformed(sequence: str | None) -> None:
    with pytest.raises(MalformedInput):
        position("r", snapshot="incremental", lsn=None, sequence=sequence)
