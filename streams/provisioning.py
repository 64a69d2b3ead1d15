"""Everything that must exist before the pipeline can run: made, or only looked at. Every step may be repeated."""

from collections.abc import Collection
from enum import StrEnum
from urllib.parse import unquote, urlsplit

import asyncpg
import msgspec
from pydantic import SecretStr

from connectors.debezium import source
from connectors.debezium.connect import Connect
from connectors.debezium.connector import connector_config, differing, slot_of
from connectors.debezium.source import History
from connectors.kafka.admin import Admin, Outcome, TopicOutcome
from connectors.kafka.catalogue import MAX_RECORD_BYTES, Topic, catalogue
from connectors.kafka.registry import Registry, contracts
from connectors.postgres.failures import translated
from connectors.smartwe import schema as crm
from connectors.smartwe.clients import client_ids
from connectors.store import schema as store
from schemas.errors import Misconfigured, PipelineError
from schemas.ids import NORMALISER_VERSION
from streams.identity import check_identity, fingerprints
from streams.settings import Settings

_CAPTURE_SECONDS = 90.0


class State(StrEnum):
    """How a thing stands."""

    PRESENT = "present"
    DONE = "done"
    """It was missing or different, and now it is not."""
    MISSING = "missing"
    FAULTY = "faulty"
    """It is there and wrong, and nothing may change it by itself."""


class Step(msgspec.Struct, frozen=True):
    """One thing that must be there, and how it stands; `detail` says in words what was done or is wrong."""

    what: str
    state: State
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether the pipeline can run with it."""
        return self.state in (State.PRESENT, State.DONE)


async def provision(settings: Settings) -> list[Step]:
    """Make everything. Raises: PipelineError, when something cannot be made; what was made before it stays."""
    return [
        *await provision_databases(settings),
        *await provision_bus(settings),
        *await provision_capture(settings),
    ]


async def provision_databases(settings: Settings) -> list[Step]:
    """Migrations of both databases, roles of the CRM, identity of the hashes. Raises: Misconfigured, Unavailable."""
    _demand(settings, "crm_admin_dsn", "crm_dsn", "sync_dsn", "crm_user_password")
    database = settings.database
    admin = database.crm_admin_dsn.get_secret_value()
    writing, others = fingerprints(settings)
    steps = [_migrated("schema crm", await crm.migrate(admin))]
    await crm.create_roles(
        admin,
        crm.RolePasswords(
            capture=settings.capture.database_password,
            write_back=_password_of(database.crm_dsn),
            crm=database.crm_user_password,
        ),
    )
    steps.append(Step("roles of the CRM", State.DONE, "passwords and rights are as set"))
    sync = database.sync_dsn.get_secret_value()
    steps.append(_migrated("schemas sync, fence", await store.migrate(sync)))
    await _provision_crm_identity(admin, writing, others)
    await store.provision_identity(sync, writing, NORMALISER_VERSION, also_matches=others)
    steps.append(Step("identity of the hashes", State.PRESENT, f"key {writing}"))
    return steps


async def provision_bus(settings: Settings) -> list[Step]:
    """Topics and schemas. Raises: Misconfigured, Unavailable; Refused, when a contract would lose older records."""
    topics = topics_of(settings, await _clients(settings))
    outcomes = await Admin(settings.kafka).ensure_topics(topics)
    async with Registry(settings.kafka) as registry:
        missing = set(await registry.unregistered())
        await registry.register()
    schemas = Step("schemas", State.DONE, f"{len(missing)} registered") if missing else Step("schemas", State.PRESENT)
    return [*_topic_steps(outcomes), schemas]


def topics_of(settings: Settings, clients: Collection[str]) -> tuple[Topic, ...]:
    """Every topic that these clients need."""
    return catalogue(sorted(clients), crm.CAPTURED_TABLES, settings.kafka, prefix=settings.capture.topic_prefix)


async def provision_capture(settings: Settings) -> list[Step]:
    """The connector, registered and running. In a restored CRM it starts anew, in the next epoch.

    So it does when Connect has lost it, or how far it had come: every full snapshot opens an epoch.
    Raises: Unavailable, when it does not run in time; Misconfigured, when Connect refuses it.
    """
    name = settings.capture.connector
    admin, sync = settings.database.crm_admin_dsn, settings.database.sync_dsn.get_secret_value()
    history = await _history(admin)
    before = await store.present_history(sync)
    async with Connect(settings.capture.connect_url) as connect:
        known = await connect.config(name) is not None
        if not known:
            epoch = before[0].epoch if before else settings.source_epoch
            await connect.register_stopped(name, capture_config(settings, epoch))
        lost = not known or not await _is_under_way(connect, name)
        entered = await store.enter_history(
            sync,
            history.system_identifier,
            history.timeline,
            at_least=max(settings.source_epoch, before[0].epoch + 1 if before and lost else 0),
        )
        anew = entered.snapshot_due or lost
        if anew:
            # Connect keeps the offsets of a connector that was removed; without its slot they lead nowhere.
            await connect.forget_offsets(name, within_seconds=_CAPTURE_SECONDS)
            await _drop_slot(admin, slot_of(name))
        changed = await connect.register(name, capture_config(settings, entered.epoch))
        if anew:
            await connect.resume(name)
        await connect.wait_running(name, within_seconds=_CAPTURE_SECONDS)
    if anew and before:
        await store.snapshot_begun(sync)
        reason = "Connect had lost it" if lost else "the CRM was restored"
        return [Step("connector", State.DONE, f"new snapshot in epoch {entered.epoch}: {reason}")]
    if anew or changed:
        return [Step("connector", State.DONE, "registered and running")]
    return [Step("connector", State.PRESENT, "running")]


async def _is_under_way(connect: Connect, name: str) -> bool:
    """Whether a registered connector goes on from where it was. One that runs commits its place a moment later."""
    if await connect.has_offsets(name):
        return True
    status = await connect.status(name)
    return status is not None and status.running


def capture_config(settings: Settings, epoch: int) -> dict[str, str]:
    """The connector's configuration. It holds a password."""
    return connector_config(
        settings.capture,
        tables=crm.CAPTURED_TABLES,
        excluded_columns=crm.UNCAPTURED_COLUMNS,
        publication=crm.PUBLICATION,
        epoch=epoch,
        record_bytes=MAX_RECORD_BYTES,
    )


async def check(settings: Settings) -> list[Step]:
    """How everything stands. Changes nothing, and goes on after what is out of reach."""
    steps: list[Step] = []
    for what, look in (
        ("schema crm", _look_at_crm),
        ("schemas sync, fence", _look_at_store),
        ("identity of the hashes", _look_at_identity),
        ("topics", _look_at_topics),
        ("schemas", _look_at_schemas),
        ("connector", _look_at_connector),
    ):
        try:
            steps += await look(settings)
        except PipelineError as error:
            steps.append(Step(what, State.FAULTY, str(error)))
    return steps


async def _look_at_crm(settings: Settings) -> list[Step]:
    _demand(settings, "crm_admin_dsn")
    return [_pending("schema crm", await crm.pending(settings.database.crm_admin_dsn.get_secret_value()))]


async def _look_at_store(settings: Settings) -> list[Step]:
    _demand(settings, "sync_dsn")
    return [_pending("schemas sync, fence", await store.pending(settings.database.sync_dsn.get_secret_value()))]


async def _look_at_identity(settings: Settings) -> list[Step]:
    await check_identity(settings)
    return [Step("identity of the hashes", State.PRESENT, f"key {fingerprints(settings)[0]}")]


async def _look_at_topics(settings: Settings) -> list[Step]:
    topics = topics_of(settings, await _clients(settings))
    return _topic_steps(await Admin(settings.kafka).differing(topics)) or [
        Step("topics", State.PRESENT, f"{len(topics)}")
    ]


async def _look_at_schemas(settings: Settings) -> list[Step]:
    async with Registry(settings.kafka) as registry:
        missing = await registry.unregistered()
    if missing:
        return [Step("schemas", State.MISSING, ", ".join(missing))]
    return [Step("schemas", State.PRESENT, f"{len(contracts())}")]


async def _look_at_connector(settings: Settings) -> list[Step]:
    _demand(settings, "crm_admin_dsn", "sync_dsn")
    name = settings.capture.connector
    present = await store.present_history(settings.database.sync_dsn.get_secret_value())
    if present is None:
        return [Step("connector", State.MISSING, "never registered")]
    entered, system_identifier, timeline = present
    if await _history(settings.database.crm_admin_dsn) != History(system_identifier, timeline):
        return [Step("connector", State.FAULTY, "the CRM was restored: its positions belong to a new epoch")]
    async with Connect(settings.capture.connect_url) as connect:
        found = await connect.config(name)
        status = await connect.status(name)
    if found is None or status is None:
        return [Step("connector", State.MISSING, "not registered")]
    if changed := differing(capture_config(settings, entered.epoch), found):
        return [Step("connector", State.FAULTY, f"other settings: {', '.join(changed)}")]
    if not status.running:
        return [Step("connector", State.FAULTY, status.failure or f"it is {status.connector.state.value}")]
    return [Step("connector", State.PRESENT, f"running, epoch {entered.epoch}")]


async def _history(dsn: SecretStr) -> History:
    async with translated():
        connection = await asyncpg.connect(dsn.get_secret_value())
        try:
            return await source.history(connection)
        finally:
            await connection.close()


async def _drop_slot(dsn: SecretStr, slot: str) -> None:
    async with translated():
        connection = await asyncpg.connect(dsn.get_secret_value())
        try:
            await source.drop_slot(connection, slot)
        finally:
            await connection.close()


def _demand(settings: Settings, *names: str) -> None:
    """Raises: Misconfigured, naming every database setting of these that is not set."""
    missing = [name for name in names if not getattr(settings.database, name).get_secret_value()]
    if missing:
        variables = ", ".join(f"VERTEILER_DATABASE__{name.upper()}" for name in missing)
        raise Misconfigured(f"not set: {variables}. No stack runs in the home either; nothing was changed")


def _password_of(dsn: SecretStr) -> SecretStr:
    return SecretStr(unquote(urlsplit(dsn.get_secret_value()).password or ""))


async def _provision_crm_identity(dsn: str, writing: str, others: Collection[str]) -> None:
    async with translated():
        connection = await asyncpg.connect(dsn)
        try:
            await crm.provision_identity(connection, writing, NORMALISER_VERSION, also_matches=others)
        finally:
            await connection.close()


async def _clients(settings: Settings) -> set[str]:
    """The clients that the settings or the CRM name."""
    return await client_ids(settings.database.crm_dsn.get_secret_value()) | settings.inxmail.keys()


def _migrated(what: str, applied: list[str]) -> Step:
    return Step(what, State.DONE, ", ".join(applied)) if applied else Step(what, State.PRESENT)


def _pending(what: str, names: list[str]) -> Step:
    return Step(what, State.MISSING, f"to be applied: {', '.join(names)}") if names else Step(what, State.PRESENT)


_STATES = {
    Outcome.KEPT: State.PRESENT,
    Outcome.CREATED: State.DONE,
    Outcome.ALTERED: State.DONE,
    Outcome.DIFFERS: State.FAULTY,
    Outcome.MISSING: State.MISSING,
}


def _topic_steps(outcomes: Collection[TopicOutcome]) -> list[Step]:
    """One step for each topic that is not simply there, and one for all that are."""
    present = sum(outcome.outcome is Outcome.KEPT for outcome in outcomes)
    steps = [
        Step(f"topic {outcome.topic}", _STATES[outcome.outcome], outcome.detail or outcome.outcome.value)
        for outcome in outcomes
        if outcome.outcome is not Outcome.KEPT
    ]
    return [*steps, Step("topics", State.PRESENT, f"{present}")] if present else steps
