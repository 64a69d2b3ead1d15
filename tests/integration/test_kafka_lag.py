"""How far a group is behind, on a real topic."""

import uuid
from pathlib import Path

import msgspec
import pytest

from connectors.kafka.admin import Admin
from connectors.kafka.catalogue import OPERATOR_DECISIONS, catalogue
from connectors.kafka.consumer import LaneConsumer
from connectors.kafka.lag import NO_LAG, lags
from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Record
from streams.settings import read_settings

pytestmark = pytest.mark.stack


async def test_lag_is_what_a_group_has_not_committed_and_how_old_the_oldest_of_it_is(stack_home: Path) -> None:
    kafka = read_settings(stack_home).kafka
    admin, topic, group = Admin(kafka), f"lag-{uuid.uuid4().hex[:10]}", f"lag-{uuid.uuid4().hex[:10]}"
    ours = {found.name: found for found in catalogue([], [], kafka)}
    await admin.ensure_topics([msgspec.structs.replace(ours[OPERATOR_DECISIONS], name=topic)])

    untouched = await lags(admin, kafka, {group: [topic], "nobody": ["no-such-topic"]})
    async with BatchProducer(kafka, client_id=topic) as producer:
        await producer.send([Record(topic, str(number), b"x") for number in range(50)])
    behind = (await lags(admin, kafka, {group: [topic]}))[group]
    async with LaneConsumer(kafka, topic, group) as lane:
        async for messages in lane.batches():
            await lane.commit(messages)
            if lane.caught_up or (await lags(admin, kafka, {group: [topic]}))[group] == NO_LAG:
                break

    assert untouched == {group: NO_LAG, "nobody": NO_LAG}
    assert behind.records == 50 and behind.seconds is not None and 0 <= behind.seconds < 60
    assert (await lags(admin, kafka, {group: [topic]}))[group] == NO_LAG
