"""Random histories on a real database: whatever the order between topics, however often a record comes, the same end;
and never a wish to subscribe without a proof that is newer than every objection.
"""

import os
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.mutations import Held, Want
from tests.integration.decide_world import (
    EMAIL,
    Decoded,
    World,
    change,
    empty,
    gguid,
    left,
    new_world,
    result,
)

pytestmark = pytest.mark.stack

EXAMPLES = int(os.environ.get("VERTEILER_TEST_HISTORIES", "60"))
STRUCTURE = ("baf_client", "distribution", "distribution_binding", "field_mapping")
PERSONS = (1, 2)
START = datetime(2026, 1, 1, tzinfo=UTC)

step = st.one_of(
    st.tuples(st.just("address"), st.sampled_from(PERSONS), st.sampled_from(["Ann", "Bob", None])),
    st.tuples(st.just("deactivate"), st.sampled_from(PERSONS), st.booleans()),
    st.tuples(st.just("member"), st.sampled_from(PERSONS), st.sampled_from(["member", "not_member"])),
    st.tuples(st.just("delete"), st.sampled_from(PERSONS), st.just(None)),
    st.tuples(st.just("proof"), st.sampled_from(PERSONS), st.sampled_from([1, 2])),
    st.tuples(st.just("withdrawal"), st.sampled_from(PERSONS), st.just(None)),
    st.tuples(st.just("suppression"), st.just(0), st.sampled_from(["list", "client", "global"])),
    st.tuples(st.just("leave"), st.just(0), st.just(None)),
)
histories = st.lists(step, min_size=1, max_size=14)


class Telling:
    """Turns a history into records, and keeps book of proofs and objections in its own way."""

    def __init__(self) -> None:
        self.proofs: list[datetime] = []
        self.objections: list[datetime] = []
        self._number = 0
        self._addresses: dict[int, dict[str, Any]] = {p: {"first_name": None, "is_deactivated": False} for p in PERSONS}

    def tell(self, kind: str, person: int, value: Any) -> Decoded:
        self._number += 1
        at = START + timedelta(hours=self._number)
        stamp = at.isoformat().replace("+00:00", "Z")
        row = {"gguid": gguid(1000 + self._number), "captured_at": stamp, "inserttimestamp": stamp}
        match kind:
            case "address":
                self._addresses[person]["first_name"] = value
            case "deactivate":
                self._addresses[person]["is_deactivated"] = value
            case "proof":
                if value == 2:
                    self.proofs.append(at)
                return change("consent", **row, proof_level=value, address_gguid=gguid(100 + person))
            case "withdrawal":
                self.objections.append(at)
                return change("consent", **row, kind="withdrawal", address_gguid=gguid(100 + person), email=EMAIL)
            case "suppression":
                self.objections.append(at)
                scope = {
                    "baf_client_id": None if value == "global" else "a",
                    "distribution_gguid": gguid(2) if value == "list" else None,
                }
                return change("suppression", gguid=row["gguid"], since=stamp, scope=value, **scope)
            case "leave":
                self.objections.append(at)
                return left(self._number, at=at.replace(tzinfo=None).isoformat())
            case "member" | "delete":
                op = "d" if kind == "delete" else "u"
                ids = {"gguid": gguid(200 + person), "address_gguid": gguid(100 + person), "profile_gguid": None}
                return change("distribution_recipient", op, **ids, desired=value or "member")
        return change("address", "u", gguid=gguid(100 + person), **self._addresses[person])

    def may_subscribe(self) -> bool:
        newest = max(self.proofs, default=None)
        return newest is not None and all(newest > objection + timedelta(seconds=60) for objection in self.objections)


@pytest.fixture(scope="module")
async def world(postgres_server: str) -> AsyncIterator[World]:
    async with new_world(postgres_server) as world:
        yield world


async def begin(world: World) -> None:
    await empty(world)
    await world.fold(*[change(table) for table in STRUCTURE])


def shuffled(records: list[Decoded], draw: random.Random) -> list[Decoded]:
    """Another order between topics and keys, the same within each key; some records twice, the second time late."""
    queues: dict[tuple[str, bytes | None], list[Decoded]] = {}
    for record in records:
        queues.setdefault((record[0].topic, record[0].key), []).append(record)
    order = []
    while queues:
        key = draw.choice(sorted(queues, key=str))
        order.append(queues[key].pop(0))
        if not queues[key]:
            del queues[key]
        if draw.random() < 0.2:
            order.append(draw.choice(order))
    return order


async def asked_for(world: World) -> tuple[Want, dict[str, Any], str | None] | None:
    """What is wanted of the mailbox; None where nothing is, told or not."""
    mutation = await world.mutation()
    if mutation is None:
        return None
    (wish,) = mutation.lists or (None,)
    return None if wish is None or wish.want is not Want.SUBSCRIBED else (wish.want, mutation.values, mutation.leader)


def many(test: Any) -> Any:
    quick = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    return quick(test)


@many
@given(history=histories, seed=st.integers(0, 2**32))
async def test_the_end_does_not_depend_on_order_between_topics_or_repetition(
    world: World, history: list[tuple[str, int, Any]], seed: int
) -> None:
    telling = Telling()
    records = [telling.tell(*found) for found in history]
    await begin(world)
    for record in records:
        await world.fold(record)
    await world.sweep()
    in_order, status = await asked_for(world), await statuses(world)

    draw = random.Random(seed)
    await begin(world)
    for record in shuffled(records, draw):
        await world.fold(record)
    await world.sweep()

    assert await asked_for(world) == in_order
    assert await statuses(world) == status


async def statuses(world: World) -> dict[str, Any]:
    """What the CRM is shown, without how far delivery has come: that depends on whether it was ever asked."""
    found = {}
    for (topic, key), body in (await world.decided()).items():
        if topic == "crm.recipient-status" and body is not None:
            found[key] = {name: value for name, value in body.items() if name != "sync_state"}
    return found


@many
@given(history=histories, answers=st.lists(st.booleans(), min_size=14, max_size=14))
async def test_nobody_is_wanted_subscribed_without_a_proof_newer_than_every_objection(
    world: World, history: list[tuple[str, int, Any]], answers: list[bool]
) -> None:
    telling = Telling()
    await begin(world)
    for found, answered in zip(history, answers, strict=False):
        await world.fold(telling.tell(*found))
        mutation = await world.mutation()
        if mutation is None:
            continue
        wanted = any(wish.want is Want.SUBSCRIBED for wish in mutation.lists)

        assert not wanted or telling.may_subscribe()
        if answered:
            await world.fold(result(mutation, state=Held.SUBSCRIBED if wanted else Held.UNSUBSCRIBED))


@many
@given(history=histories, at=st.integers(0, 13))
async def test_redelivery_from_any_point_changes_nothing(
    world: World, history: list[tuple[str, int, Any]], at: int
) -> None:
    telling = Telling()
    records = [telling.tell(*found) for found in history]
    await begin(world)
    for record in records:
        await world.fold(record)
    await world.sweep()
    before = await world.decided()

    for record in records[at:]:
        assert await world.fold(record) == []

    assert await world.decided() == before
