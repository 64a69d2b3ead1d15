"""The write-back as a process: killed between the CRM's commit and Kafka's, it writes everything and nothing twice."""

import asyncio
import json
import os
import signal
import sys
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from connectors.kafka.admin import Admin
from connectors.kafka.catalogue import DEAD_LETTERS, RECIPIENT_STATUS, SUPPRESSIONS, catalogue
from connectors.kafka.lag import NO_LAG, lags
from connectors.kafka.producer import BatchProducer
from connectors.kafka.reading import read_topic
from connectors.kafka.records import Record
from connectors.kafka.registry import Decoder, Registry
from connectors.kafka.settings import KafkaSettings
from schemas import codec
from schemas.crm import RecipientStatus, SubscriptionState
from schemas.dead_letters import DeadLetter
from tests.crm_database import KEY, CrmDatabase, crm_database, status
from tests.world import eventually

pytestmark = pytest.mark.stack

PROGRAM = """
import dataclasses, os, signal, sys
from streams.app import run_flow
from streams.inbound.write_back import Topics, write_back_flow
from streams.settings import read_settings
from streams.telemetry import configure_logging

name, dies = sys.argv[1], sys.argv[2] == "dies"
settings = read_settings()
configure_logging("WARNING")
flow = write_back_flow(settings, Topics(f"{name}.statuses", f"{name}.suppressions"))

async def start():
    apply = await flow.start()
    async def apply_and_die(batch):
        await apply(batch)
        os.kill(os.getpid(), signal.SIGKILL)
    return apply_and_die if dies else apply

run_flow(dataclasses.replace(flow, name=name, start=start), bootstrap=settings.kafka.bootstrap,
         instance=settings.instance, telemetry_port=0)
"""


@dataclass
class Desk:
    """Topics, a CRM and a consumer group of the test's own."""

    name: str
    kafka: KafkaSettings
    crm: CrmDatabase

    @property
    def statuses(self) -> str:
        return f"{self.name}.statuses"

    @property
    def suppressions(self) -> str:
        return f"{self.name}.suppressions"

    async def start(self, manner: str, *, key: bytes = KEY) -> Process:
        environment = {
            "PATH": os.environ["PATH"],
            "VERTEILER_KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "VERTEILER_KAFKA__REGISTRY_URL": self.kafka.registry_url,
            "VERTEILER_DATABASE__CRM_DSN": self.crm.write_back_dsn.get_secret_value(),
            "VERTEILER_HMAC_KEYS": json.dumps([key.hex()]),
            "VERTEILER_INSTANCE": self.name,
        }
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, self.name, manner, env=environment, stderr=asyncio.subprocess.PIPE
        )

    async def send(self, *records: Record) -> None:
        async with BatchProducer(self.kafka, client_id=self.name) as producer:
            await producer.send(records)

    async def is_idle(self) -> bool:
        group = f"verteiler-{self.name}"
        topics = [self.statuses, self.suppressions]
        return (await lags(Admin(self.kafka), self.kafka, {group: topics}))[group] == NO_LAG

    async def letters(self) -> list[DeadLetter]:
        """What was parked of this test's topics."""
        async with Registry(self.kafka) as registry:
            decoder = Decoder(registry)
            found = []
            for messages in await asyncio.to_thread(lambda: list(read_topic(self.kafka, DEAD_LETTERS))):
                await decoder.prepare([message.value for message in messages])
                found += [decoder.decode_as(message.value, DeadLetter) for message in messages if message.value]
        return [letter for letter in found if letter.topic.startswith(self.name)]


@pytest.fixture
async def desk(stack_home: Path) -> AsyncIterator[Desk]:
    name = f"write-back-{uuid.uuid4().hex[:10]}"
    async with crm_database(stack_home, f"verteiler_{name}") as crm:
        kafka = crm.settings.kafka
        async with Registry(kafka) as registry:
            await registry.register()
        ours = {topic.name: topic for topic in catalogue([], [], kafka)}
        await Admin(kafka).ensure_topics(
            [
                msgspec.structs.replace(ours[RECIPIENT_STATUS], name=f"{name}.statuses"),
                msgspec.structs.replace(ours[SUPPRESSIONS], name=f"{name}.suppressions"),
                ours[DEAD_LETTERS],
            ]
        )
        yield Desk(name, kafka, crm)


async def test_a_process_killed_after_the_crms_commit_writes_nothing_twice_and_loses_nothing(desk: Desk) -> None:
    async with Registry(desk.kafka) as registry:
        of_status, of_suppression = await registry.id_of("recipient-status"), await registry.id_of("suppression-record")

    def said(record: RecipientStatus) -> Record:
        return Record(desk.statuses, record.recipient, codec.frame(of_status, "recipient-status", record))

    recipients = await desk.crm.recipients(200)
    suppression = desk.crm.suppression()
    broken = msgspec.structs.replace(suppression, gguid=uuid.uuid4().hex.upper(), distribution_gguid="0" * 32)
    await desk.send(
        *(said(status(recipient, 1)) for recipient in recipients),
        *(said(status(recipient, 2, state=SubscriptionState.UNSUBSCRIBED)) for recipient in recipients[:50]),
        *(
            Record(desk.suppressions, record.gguid, codec.frame(of_suppression, "suppression-record", record))
            for record in (suppression, broken)
        ),
        Record(desk.statuses, recipients[0], b"no record"),
        Record(desk.statuses, recipients[-1], None),
    )

    deaths = 0
    while not await desk.is_idle():
        process = await desk.start("dies" if deaths < 2 else "lives")
        if deaths < 2:
            assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
            before = await desk.crm.statuses()
            deaths += 1
            continue
        await eventually(desk.is_idle, within_seconds=60, because="everything is acknowledged")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0

    after = await desk.crm.statuses()
    assert after.keys() == set(recipients[:-1])
    assert all(after[recipient]["subscription_state"] == "unsubscribed" for recipient in recipients[:50])
    assert all(after[recipient] == row for recipient, row in before.items() if row["pipeline_version"] == 2)
    assert all(row["row_version"] <= row["pipeline_version"] for row in after.values())
    assert await desk.crm.admin.fetchval("select array_agg(gguid::text) from crm.suppression") == [suppression.gguid]
    assert {(letter.error, letter.key) for letter in await desk.letters()} == {
        ("Refused", broken.gguid.encode()),
        ("MalformedInput", recipients[0].encode()),
    }


async def test_another_key_than_the_provisioned_one_stops_the_process_and_it_says_why(desk: Desk) -> None:
    process = await desk.start("lives", key=b"another key, not the one before")

    _, said = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode not in (0, -signal.SIGKILL)
    assert b"another key silently voids every suppression" in said
    assert b"write_back.py" not in said, "a foreseen failure is one sentence, without a trace"
