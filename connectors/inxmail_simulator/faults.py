"""Fault plans are data: which requests, what befalls them, how often."""

import random
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

Kind = Literal["cut-before", "cut-after", "status", "status-after", "delay", "delay-after", "truncate", "hang"]


class Match(msgspec.Struct, forbid_unknown_fields=True):
    """Which requests. `path` is a glob over the path below the base path, such as `/recipients/*`."""

    method: str = "*"
    path: str = "*"
    credential: str = "*"
    list_id: int | None = None

    def fits(self, method: str, path: str, credential: str, list_id: int | None) -> bool:
        return (
            fnmatchcase(method, self.method.upper())
            and fnmatchcase(path, self.path)
            and fnmatchcase(credential, self.credential)
            and self.list_id in (None, list_id)
        )


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """What happens.

    cut-before    the connection is reset, nothing was carried out
    cut-after     the request is carried out, then the connection is reset: the answer is lost
    status        the status is answered, nothing was carried out; status-after: carried out all the same
    delay         carried out after that many seconds; delay-after: carried out at once, answered later
    truncate      carried out, answered with half of the body
    hang          nothing is carried out and nothing answered for `seconds` (0: ten minutes)
    """

    kind: Kind
    seconds: float = 0.0
    status: int = 500
    type: str = "about:blank"
    html: bool = False
    retry_after_seconds: int | None = None


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """After `skip` fitting requests, befall `count` of them (None: all), each with a probability."""

    fault: Fault
    match: Match = msgspec.field(default_factory=Match)
    count: int | None = 1
    skip: int = 0
    probability: float = 1.0
    id: int = 0
    hits: int = 0


class Faults:
    """All plans in force, in the order they were made; the first that strikes wins."""

    def __init__(self, seed: int) -> None:
        self.plans: list[Plan] = []
        self._draw = random.Random(seed)
        self._next_id = 1

    def add(self, plan: Plan) -> Plan:
        plan.id, plan.hits = self._next_id, 0
        self._next_id += 1
        self.plans.append(plan)
        return plan

    def remove(self, id_: int) -> bool:
        before = len(self.plans)
        self.plans = [plan for plan in self.plans if plan.id != id_]
        return len(self.plans) < before

    def strike(self, method: str, path: str, credential: str, list_id: int | None) -> Fault | None:
        for plan in self.plans:
            if (plan.count is not None and plan.hits >= plan.count) or not plan.match.fits(
                method, path, credential, list_id
            ):
                continue
            if plan.skip > 0:
                plan.skip -= 1
                continue
            if plan.probability < 1.0 and self._draw.random() >= plan.probability:
                continue
            plan.hits += 1
            return plan.fault
        return None
