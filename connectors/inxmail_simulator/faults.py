"""Fault plans are data: which requests, what befalls them, how often."""

import random
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import msgspec

Kind = Literal[
    "cut-before",
    "cut-after",
    "status",
    "status-after",
    "delay",
    "delay-after",
    "truncate",
    "half-body",
    "slow",
    "hang",
    "hold",
    "hold-after",
]
Query = Sequence[tuple[str, str]]


class Match(msgspec.Struct, forbid_unknown_fields=True):
    """Which requests. `path` is a glob over the path below the base path, such as `/recipients/*`.

    `query`: parameters that must be there, each with a glob over its value, such as `{"afterId": "*"}`.
    """

    method: str = "*"
    path: str = "*"
    credential: str = "*"
    list_id: int | None = None
    query: dict[str, str] = {}

    def fits(self, method: str, path: str, credential: str, list_id: int | None, query: Query) -> bool:
        return (
            fnmatchcase(method, self.method.upper())
            and fnmatchcase(path, self.path)
            and fnmatchcase(credential, self.credential)
            and self.list_id in (None, list_id)
            and all(any(name == n and fnmatchcase(v, glob) for n, v in query) for name, glob in self.query.items())
        )


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """What happens.

    cut-before    the connection is reset, nothing was carried out
    cut-after     the request is carried out, then the connection is reset: the answer is lost
    status        the status is answered, nothing was carried out; status-after: carried out all the same
    delay         carried out after that many seconds; delay-after: carried out at once, answered later
    truncate      carried out, half of the promised body is sent, then the connection ends
    half-body     carried out, half of the body is sent as if it were the whole: JSON that cannot be read
    slow          carried out, the body arrives in ten pieces over `seconds`
    hang          nothing is carried out and nothing answered for `seconds` (0: ten minutes)
    hold          carried out only once the plan has been taken away; hold-after: carried out at once, answered then
    """

    kind: Kind
    seconds: float = 0.0
    jitter_seconds: float = 0.0
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


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    """A whole sequence of faults as data: the same plans, seed and requests strike the same requests again."""

    plans: list[Plan] = []
    seed: int = 1


class Strike(NamedTuple):
    """What befalls a request, and by which plan."""

    fault: Fault
    plan_id: int


class Faults:
    """All plans in force, in the order they were made; the first that strikes wins.

    Each plan draws from a seed of its own, so that requests which only other plans look at do not change its course.
    """

    def __init__(self, seed: int, plans: Iterable[Plan] = ()) -> None:
        self.replace(Scenario([msgspec.structs.replace(plan) for plan in plans], seed))

    def replace(self, scenario: Scenario) -> None:
        """Forget all plans and begin anew with these."""
        self.plans: list[Plan] = []
        self._seed = scenario.seed
        self._draws: dict[int, random.Random] = {}
        self._next_id = 1
        for plan in scenario.plans:
            self.add(plan)

    def add(self, plan: Plan) -> Plan:
        plan.id, plan.hits = self._next_id, 0
        self._draws[plan.id] = random.Random(f"{self._seed}/{plan.id}")
        self._next_id += 1
        self.plans.append(plan)
        return plan

    def remove(self, id_: int) -> bool:
        before = len(self.plans)
        self.plans = [plan for plan in self.plans if plan.id != id_]
        return len(self.plans) < before

    def in_force(self, plan_id: int) -> bool:
        """Whether the plan has not been taken away."""
        return any(plan.id == plan_id for plan in self.plans)

    def strike(self, method: str, path: str, credential: str, list_id: int | None, query: Query = ()) -> Strike | None:
        """What befalls this request; the seconds of the fault are drawn already."""
        for plan in self.plans:
            if (plan.count is not None and plan.hits >= plan.count) or not plan.match.fits(
                method, path, credential, list_id, query
            ):
                continue
            draw = self._draws[plan.id]
            if plan.skip > 0:
                plan.skip -= 1
                continue
            if plan.probability < 1.0 and draw.random() >= plan.probability:
                continue
            plan.hits += 1
            fault = plan.fault
            if fault.jitter_seconds:
                seconds = fault.seconds + fault.jitter_seconds * draw.random()
                fault = msgspec.structs.replace(fault, seconds=seconds)
            return Strike(fault, plan.id)
        return None
