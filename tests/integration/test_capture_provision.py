"""Provisioning on the real stack: everything made from nothing, once; what differs is told, and put right."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from connectors.debezium import source
from connectors.debezium.connect import Connect
from connectors.debezium.connector import slot_of
from connectors.store import schema as store
from schemas.errors import Misconfigured
from streams import provisioning
from streams.identity import check_identity
from streams.provisioning import State, Step
from streams.settings import Settings, read_settings
from tests.integration.capture_world import delete_topics

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
async def settings(stack_home: Path, postgres_server: str) -> AsyncIterator[Settings]:
    """The stack's own settings, but for two empty databases, a connector and its topics."""
    name = f"capture_{uuid.uuid4().hex[:8]}"
    running = read_settings(stack_home)
    database, capture = running.database, running.capture
    own = running.model_copy(
        update={
            "database": database.model_copy(
                update={
                    "crm_dsn": _moved(database.crm_dsn, name),
                    "crm_admin_dsn": _moved(database.crm_admin_dsn, name),
                    "sync_dsn": _moved(database.sync_dsn, f"{name}_sync"),
                }
            ),
            "capture": capture.model_copy(update={"connector": name, "topic_prefix": name, "database_name": name}),
        }
    )
    control = await asyncpg.connect(f"{postgres_server}/postgres")
    try:
        for made in (name, f"{name}_sync"):
            await control.execute(f"create database {made}")
        yield own
    finally:
        async with Connect(capture.connect_url) as connect:
            await connect.delete(name)
        await source.drop_slot(control, slot_of(name))
        for made in (name, f"{name}_sync"):
            await control.execute(f"drop database if exists {made} with (force)")
        await control.close()
        topics = provisioning.topics_of(own, [])
        await delete_topics(own.kafka, [topic.name for topic in topics if name in topic.name])


async def test_what_is_missing_is_named_and_looking_makes_nothing(settings: Settings) -> None:
    before = await provisioning.check(settings)
    again = await provisioning.check(settings)

    assert _states(before) == _states(again)
    assert {"schema crm", "schemas sync, fence"} <= {step.what for step in before if step.state is State.MISSING}
    assert not _of(before, "connector").good


async def test_everything_is_made_from_nothing_and_a_second_time_nothing_is_left_to_do(settings: Settings) -> None:
    made = await provisioning.provision(settings)
    again = await provisioning.provision(settings)

    assert all(step.good for step in made)
    assert (_of(made, "connector").state, _of(again, "connector").state) == (State.DONE, State.PRESENT)
    assert {step.what for step in again if step.state is State.DONE} <= {"roles of the CRM"}
    assert [step for step in await provisioning.check(settings) if not step.good] == []


async def test_another_key_is_refused_by_every_process_and_by_provision(settings: Settings) -> None:
    other = settings.model_copy(update={"hmac_keys": (SecretStr("ab" * 32),)})

    with pytest.raises(Misconfigured, match="HMAC key"):
        await check_identity(other)
    with pytest.raises(Misconfigured, match="HMAC key"):
        await provisioning.provision(other)

    await check_identity(settings)


async def test_a_connector_that_connect_has_lost_starts_anew_in_the_next_epoch(settings: Settings) -> None:
    name = settings.capture.connector
    before = await _epoch(settings)
    async with Connect(settings.capture.connect_url) as connect:
        await connect.delete(name)
    assert _of(await provisioning.check(settings), "connector").state is State.MISSING

    await provisioning.provision(settings)

    assert await _epoch(settings) > before
    assert _of(await provisioning.check(settings), "connector").good


async def test_another_history_of_the_server_raises_the_epoch(settings: Settings) -> None:
    before = await _epoch(settings)
    sync = await asyncpg.connect(settings.database.sync_dsn.get_secret_value())
    await sync.execute("update fence.source_history set system_identifier = 'the server before the restore'")
    await sync.close()
    told = _of(await provisioning.check(settings), "connector")
    assert (told.state, "restored" in told.detail) == (State.FAULTY, True)

    await provisioning.provision(settings)

    assert await _epoch(settings) == before + 1
    assert _of(await provisioning.check(settings), "connector").good


async def _epoch(settings: Settings) -> int:
    present = await store.present_history(settings.database.sync_dsn.get_secret_value())
    assert present is not None
    return present[0].epoch


def _moved(dsn: SecretStr, database: str) -> SecretStr:
    return SecretStr(urlsplit(dsn.get_secret_value())._replace(path=f"/{database}").geturl())


def _of(steps: list[Step], what: str) -> Step:
    (step,) = (step for step in steps if step.what == what)
    return step


def _states(steps: list[Step]) -> list[tuple[str, State]]:
    return [(step.what, step.state) for step in steps]
