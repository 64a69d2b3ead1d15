"""How long a person's word takes through the whole pipeline while it is busy with everybody else."""

import asyncio
import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from connectors.kafka import catalogue
from streams.demo.measure import latency
from tests.world import Place, World

PEOPLE = 60
RECORDS = 100_000
"""Change records of addresses and memberships that are in front."""
_EVERY_SECONDS = 0.25
_WITHIN_SECONDS = 300.0
_CHANGES = (
    "update crm.address set last_name = 'Neu ' || $1::text where email1 not like '%@example.org'",
    "update crm.distribution_recipient set updateuser = 'bench ' || $1::text",
)


async def figures(world: World) -> dict[str, Any]:
    """Keys `optout_p99_ms`: from an unsubscription at Inxmail to the CRM's row; `objection_p99_ms`: from an objection's
    own record in Kafka to Inxmail, and `objection_capture_p99_ms`: from its commit to that record.

    Order: addresses are loaded.
    """
    place = await world.place("a")
    leaving = [await _member(world, place) for _ in range(PEOPLE)]
    objecting = [await _member(world, place) for _ in range(PEOPLE)]
    for email, _, _ in (*leaving, *objecting):
        await world.arrives(place, email, within_seconds=_WITHIN_SECONDS)
    flooding = asyncio.create_task(_flood(world))
    try:
        left: list[float] = []
        objected: list[tuple[float, float]] = []
        async with asyncio.TaskGroup() as waiting:
            for (email, _, recipient), (other, address, _) in zip(leaving, objecting, strict=True):
                await _leave(world, place, email)
                waiting.create_task(_shown(world, recipient, left))
                committing = time.time()
                await world.update("address", address, is_objected_global=True)
                waiting.create_task(_gone(world, place, other, committing, objected))
                await asyncio.sleep(_EVERY_SECONDS)  # spread over the time that the flood takes
    finally:
        await flooding
    arrived = await asyncio.to_thread(_arrivals, world.kafka, min(began for began, _ in objected))
    captured = [at - began for at, (began, _) in zip(arrived, sorted(objected), strict=True)]
    reached = [gone - at for at, (_, gone) in zip(arrived, sorted(objected), strict=True)]
    return {
        "optout_p50_ms": latency(left).p50,
        "optout_p99_ms": latency(left).p99,
        "objection_p99_ms": latency(reached).p99,
        "objection_capture_p99_ms": latency(captured).p99,
    }


async def _member(world: World, place: Place) -> tuple[str, str, str]:
    email = world.email("optout")
    address = await world.person(email)
    return email, address, await world.member(place, address)


async def _flood(world: World) -> None:
    """Touch every address and every membership until so many records are written."""
    written = number = 0
    while written < RECORDS:
        for statement in _CHANGES:
            number += 1
            told = await world.crm.execute(statement, str(number))
            written += int(told.split()[-1])


async def _leave(world: World, place: Place, email: str) -> None:
    deed = {"action": "unsubscribe-by-link", "list_id": place.list_id, "email": email}
    await world.clients[place.client].control("POST", "/people", deed)


async def _shown(world: World, recipient: str, took: list[float]) -> None:
    began = time.monotonic()
    await world.shows(recipient, "unsubscribed", within_seconds=_WITHIN_SECONDS)
    took.append(time.monotonic() - began)


async def _gone(world: World, place: Place, email: str, began: float, took: list[tuple[float, float]]) -> None:
    await world.becomes(place, email, "unsubscribed", within_seconds=_WITHIN_SECONDS)
    took.append((began, time.time()))


def _arrivals(bootstrap: str, since: float) -> list[float]:
    """When each consent row written since then stood in Kafka, in order."""
    topic = catalogue.captured("consent")
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    found: list[float] = []
    try:
        for number in sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions):
            place = TopicPartition(topic, number)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            (start,) = consumer.offsets_for_times([TopicPartition(topic, number, int(since * 1000))], timeout=10)
            if start.offset < 0 or start.offset >= end:
                continue
            consumer.assign([start])
            offset = start.offset
            while offset < end:
                message = consumer.poll(10)
                assert message is not None and message.error() is None, message and message.error()
                found.append(message.timestamp()[1] / 1000)
                offset = (message.offset() or 0) + 1
    finally:
        consumer.close()
    return sorted(found)
