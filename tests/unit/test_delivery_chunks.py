"""Import files as large as the far side takes, and no larger than it can do in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.delivery.chunks import ChunkSize


def test_a_file_that_is_too_large_is_halved_until_it_is_taken() -> None:
    size = ChunkSize(20_000)
    tried = []
    while size.rows > 3000:
        tried.append(size.rows)
        size.too_large(size.rows)

    assert [*tried, size.rows] == [20_000, 10_000, 5_000, 2_500]


def test_it_grows_again_slowly_and_stays_below_what_was_too_large() -> None:
    size = ChunkSize(20_000)
    size.too_large(4000)
    seen = []
    for _ in range(14):
        seen.append(size.rows)
        size.accepted(size.rows)

    assert seen == sorted(seen)
    assert 2000 < seen[1] <= 2100
    assert 3500 < seen[-1] < 4000


def test_only_full_files_tell_that_more_would_fit() -> None:
    size = ChunkSize(1000)
    size.too_large(1000)
    for _ in range(50):
        size.accepted(10)

    assert size.rows == 500


@given(st.integers(1, 30_000), st.integers(1, 20_000))
def test_wherever_the_limit_is_few_files_are_refused_and_most_of_it_is_used(limit: int, most: int) -> None:
    size = ChunkSize(most)
    refused = 0
    for _ in range(300):
        if size.rows > limit:
            refused += 1
            size.too_large(size.rows)
        else:
            size.accepted(size.rows)

    assert 1 <= size.rows <= most
    assert refused <= 30
    assert size.rows >= 0.4 * min(limit, most) or size.rows == 1


def test_it_is_no_larger_than_what_is_done_in_time() -> None:
    size = ChunkSize(20_000, target_seconds=10)
    size.took(20_000, 40)
    assert size.rows == 5000

    for _ in range(20):
        size.took(5000, 1)
    assert size.rows == 20_000


def test_an_import_that_came_to_nothing_is_tried_with_fewer_rows_until_one_stands_alone() -> None:
    size = ChunkSize(20_000)
    for _ in range(20):
        size.failed(size.rows)

    assert size.rows == 1


def test_how_long_an_import_takes_is_learned() -> None:
    size = ChunkSize(20_000)
    assert size.seconds_for(1) > 1
    size.took(10, 0.3)
    size.took(20_000, 4)

    assert size.seconds_for(1) == pytest.approx(0.3)
    assert size.seconds_for(10_000) == pytest.approx(2)
