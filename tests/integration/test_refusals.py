"""What must not be carried further is stopped, with a reason, and what stands behind it flows on."""

import json
import os
import secrets
import subprocess
import sys
from typing import Any

import pytest
from confluent_kafka import Producer

from connectors.kafka.reading import read_topic_async
from connectors.kafka.registry import Decoder, Registry
from connectors.kafka.settings import KafkaSettings
from schemas.dead_letters import DeadLetter
from tests.world import World, eventually

pytestmark = pytest.mark.stack

PROCESSES = [
    ("worker", "decide", "--flow", "changes"),
    ("worker", "decide", "--flow", "objections"),
    ("worker", "write-back"),
    ("worker", "client", "a"),
    ("worker", "capture"),
]


@pytest.mark.parametrize("words", PROCESSES, ids=" ".join)
def test_every_process_refuses_another_key_than_the_one_provisioned(stack: World, words: tuple[str, ...]) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VERTEILER_")}
    other_key = {"VERTEILER_HMAC_KEYS": json.dumps([secrets.token_hex(32)])}

    ended = subprocess.run(
        [sys.executable, "-m", "streams", *words, "--home", str(stack.home)],
        env=inherited | other_key,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "key" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "value",
    [b"not avro", b"\x00\x7f\xff\xff\xff rest", b"{}", b"\x00"],
    ids=["text", "a schema nobody knows", "JSON", "a frame cut short"],
)
async def test_a_record_that_cannot_be_decoded_is_parked_and_the_next_one_is_folded(stack: World, value: bytes) -> None:
    key = secrets.token_hex(16).upper()
    producer = Producer({"bootstrap.servers": stack.kafka})
    producer.produce("smartwe.crm.address", key=key.encode(), value=value)
    assert producer.flush(10) == 0

    settings = KafkaSettings(bootstrap=stack.kafka, registry_url=stack.endpoints["registry"])

    async def letter() -> Any:
        async with Registry(settings) as registry:
            decoder = Decoder(registry)
            async for messages in read_topic_async(settings, "verteiler.dead-letters"):
                values = [message.value for message in messages if message.key == key.encode() and message.value]
                await decoder.prepare(values)
                for found in values:
                    return decoder.decode_as(found, DeadLetter)
        return None

    found = await eventually(letter, within_seconds=30, because="the record is parked")
    assert (found.topic, found.value, found.error) == ("smartwe.crm.address", value, "MalformedInput")
    place = await stack.place()
    email = stack.email()
    await stack.member(place, await stack.person(email))
    await stack.arrives(place, email)
