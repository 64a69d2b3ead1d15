"""Which columns the next import has, where rows have many different sets of them. Pure.

A row never has a column that is not meant to change there: an empty cell would clear it, and the value that we last saw
may not be the person's own any more. So sets are never widened. They may be narrowed: a row goes along with fewer
columns than it has changes, and what is left is planned anew. Rows with the same few nulls would otherwise be thousands
of small imports, one after the other.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Final

FEW: Final = 8
"""Up to so many different sets are sent as they are."""
_CANDIDATES: Final = 24

Columns = tuple[str, ...]


def widest(rows_by_columns: Mapping[Columns, int], most: int, *, alone: int) -> Columns:
    """The columns with which one import of at most `most` rows writes most cells; sorted.

    alone: the cells that a row without any column is worth: 1 where it subscribes, 0 where it would do nothing.
    """
    sets: dict[frozenset[str], int] = {frozenset(columns): rows for columns, rows in rows_by_columns.items()}
    by_size = sorted(sets.items(), key=lambda found: (-found[1] * len(found[0]), sorted(found[0])))
    large = [columns for columns, _ in by_size[:_CANDIDATES]]
    candidates = set(large) | {first & second for first, second in combinations(large, 2)}
    candidates |= {frozenset((column,)) for columns in sets for column in columns}
    if alone:
        candidates.add(frozenset())
    worth = {
        columns: min(most, sum(rows for each, rows in sets.items() if columns <= each)) * (len(columns) + alone)
        for columns in candidates
        if columns or alone
    }
    best = min(worth, key=lambda columns: (-worth[columns], sorted(columns)))
    return tuple(sorted(best))


def holding(columns: Columns, sets: Iterable[Columns]) -> list[Columns]:
    """Those of these sets that have all these columns, the same set first."""
    wanted = set(columns)
    return sorted((each for each in sets if wanted.issubset(each)), key=lambda each: (len(each), each))
