"""Which recipients hold a value of an attribute, without looking at everybody."""

from collections.abc import Iterable

from connectors.inxmail_simulator.values import Value

Values = tuple[Value, ...]


class ValueIndex:
    """Ids by attribute position and value. An attribute costs nothing until somebody filters by it."""

    def __init__(self) -> None:
        self._by_position: dict[int, dict[Value, set[int]]] = {}

    def ids(self, position: int, value: Value, everybody: Iterable[tuple[int, Values]]) -> set[int]:
        """`everybody` is read only when the attribute is asked for the first time."""
        index = self._by_position.get(position)
        if index is None:
            index = self._by_position[position] = {}
            for id_, values in everybody:
                index.setdefault(_at(values, position), set()).add(id_)
        return index.get(value, set())

    def moved(self, id_: int, before: Values | None, after: Values | None) -> None:
        """None: the recipient is new, or is gone."""
        for position, index in self._by_position.items():
            if before is not None:
                index[_at(before, position)].discard(id_)
            if after is not None:
                index.setdefault(_at(after, position), set()).add(id_)


def _at(values: Values, position: int) -> Value:
    return values[position] if position < len(values) else None
