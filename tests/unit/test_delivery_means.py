"""Single calls or an import: whichever is done sooner."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.delivery.means import Means, write_singly

USUAL = Means(
    requests_left=300,
    seconds_left=30.0,
    window_requests=600,
    queued=0,
    call_seconds=0.05,
    at_once=3,
    import_seconds=lambda rows: 2.0,
    most=1000,
)


def singly(mailboxes: int, **facts: Any) -> bool:
    return write_singly(mailboxes, msgspec.structs.replace(USUAL, **facts))


def test_one_changed_value_is_written_at_once_however_things_stand() -> None:
    assert singly(1)
    assert singly(1, requests_left=0, call_seconds=20.0, import_seconds=lambda rows: 0.1)


@pytest.mark.parametrize(
    ("facts", "most"),
    [
        pytest.param({}, 135, id="as many as are done while an import would run"),
        pytest.param({"import_seconds": lambda rows: 0.2}, 27, id="imports are fast"),
        pytest.param({"import_seconds": lambda rows: 30.0}, 302, id="imports are slow: the window's rest, and a few"),
        pytest.param({"call_seconds": 1.0}, 21, id="calls are slow"),
        pytest.param({"requests_left": 40}, 40, id="little is left of the window"),
        pytest.param({"queued": 100}, 35, id="others wait already"),
        pytest.param({"most": 20}, 20, id="more are never written singly"),
    ],
)
def test_the_break_even_follows_from_the_budget_and_from_what_was_measured(facts: dict[str, Any], most: int) -> None:
    assert [number for number in range(1, 1200) if singly(number, **facts)] == list(range(1, most + 1))


@given(
    st.integers(1, 2000),
    st.integers(0, 600),
    st.floats(0, 60),
    st.floats(0.001, 20),
    st.floats(0.1, 100),
    st.integers(0, 500),
)
def test_fewer_are_written_singly_wherever_more_are(
    mailboxes: int, left: int, seconds: float, call: float, takes: float, queued: int
) -> None:
    facts: dict[str, Any] = {
        "requests_left": left,
        "seconds_left": seconds,
        "call_seconds": call,
        "import_seconds": lambda rows: takes,
        "queued": queued,
    }
    if singly(mailboxes + 1, **facts):
        assert singly(mailboxes, **facts)
