"""Target groups: a name for some of a list's recipients. Who belongs to one cannot be read through the API."""

import msgspec


class TargetGroup(msgspec.Struct):
    id: int
    list_id: int
    name: str
    description: str | None
    created_at: float
    modified_at: float


class TargetGroups:
    def __init__(self) -> None:
        self.groups: dict[int, TargetGroup] = {}
        self._last_id = 0

    @property
    def last_id(self) -> int:
        return self._last_id

    def add(self, list_id: int, name: str, description: str | None, now: float) -> TargetGroup:
        self._last_id += 1
        self.groups[self._last_id] = added = TargetGroup(self._last_id, list_id, name, description, now, now)
        return added

    def named(self, list_id: int, name: str) -> TargetGroup | None:
        folded = name.lower()
        known = self.groups.values()
        return next((group for group in known if group.list_id == list_id and group.name.lower() == folded), None)

    def drop_list(self, list_id: int) -> None:
        self.groups = {id_: group for id_, group in self.groups.items() if group.list_id != list_id}
