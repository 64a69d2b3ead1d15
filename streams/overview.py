"""How far every flow has come, and what waits for whom, at one moment. What cannot be read is named, not hidden."""

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import msgspec

from connectors.debezium.connect import Connect
from connectors.debezium.connector import slot_of
from connectors.debezium.source import SlotLag, slot_lag
from connectors.embedded.home import Home
from connectors.kafka import catalogue
from connectors.kafka.admin import Admin
from connectors.kafka.lag import Lag, lags, lags_by_topic
from connectors.postgres.reading import reading
from connectors.smartwe.inspection import open_conflicts
from connectors.store.inspection import HeldClaims, Inspection, Quarantined, Unapplied
from schemas.errors import PipelineError
from schemas.mutations import Lane as LaneName
from streams.inbound.write_back import OUR_TOPICS
from streams.outbound.flow import topics_of
from streams.settings import Settings
from streams.stack import FLOWS

HELD_NAMED: Final = 20
"""Most recipients that are named for each client with held e-mail changes."""

_PART_SECONDS: Final = 15.0
"""Longest wait for one part: whoever asks because something is down has no patience."""

T = TypeVar("T")


class FlowLag(msgspec.Struct, frozen=True):
    """One consumer group. `records`: not finished yet; `seconds`: age of the oldest; null: it cannot be told."""

    flow: str
    records: int | None
    seconds: float | None


class Lane(msgspec.Struct, frozen=True):
    """One lane of one client: what its worker has not taken from Kafka, and what Inxmail has not got.

    `unapplied`: mailboxes whose newest mutation has no answer; `oldest_unapplied_seconds`: since its source's commit.
    """

    client: str
    lane: str
    records: int | None
    seconds: float | None
    unapplied: int | None
    oldest_unapplied_seconds: float | None


class Worker(msgspec.Struct, frozen=True):
    """What a client's worker has in hand, and who leads; `leader` is null while nobody does."""

    client: str
    leader: str | None
    lease_epoch: int | None
    pending: int
    open_imports: int
    oldest_import_seconds: float | None
    open_calls: int


class CursorAge(msgspec.Struct, frozen=True):
    """How long ago a stream was last read further."""

    client: str
    stream: str
    last_event_id: int | None
    age_seconds: float


class Connector(msgspec.Struct, frozen=True):
    """What captures the CRM: its own state and its tasks', and why it failed if it did."""

    name: str
    state: str
    tasks: tuple[str, ...]
    failure: str | None


class Process(msgspec.Struct, frozen=True):
    """One process of the stack here: `ready`, `starting`, `silent` (it lives and does not answer), `gone`; `alive`: it
    has no door to ask at."""

    name: str
    pid: int
    state: str


class Waiting(msgspec.Struct, frozen=True):
    """What is decided and not produced (records), and what is still to be decided (persons, mailboxes)."""

    unproduced: int
    oldest_unproduced_seconds: float | None
    persons: int
    mailboxes: int


class Held(msgspec.Struct, frozen=True):
    """Claims that wait for an e-mail change to be carried out."""

    count: int
    clients: tuple[HeldClaims, ...]


class Refusals(msgspec.Struct, frozen=True):
    """Mailboxes that wait for a person: refused by their client, as a whole or in single fields."""

    count: int
    clients: tuple[Quarantined, ...]


class StatusReport(msgspec.Struct, frozen=True):
    """Everything at one moment. A part that could not be read is null or empty, and a sentence of `faults` says why."""

    at: datetime
    flows: tuple[FlowLag, ...]
    lanes: tuple[Lane, ...]
    oldest_unapplied_seconds: float | None
    workers: tuple[Worker, ...]
    cursors: tuple[CursorAge, ...]
    connector: Connector | None
    slot: SlotLag | None
    waiting: Waiting | None
    held: Held | None
    quarantined: Refusals | None
    conflicts: int | None
    dead_letters: int | None
    processes: tuple[Process, ...]
    faults: tuple[str, ...]


async def gather(settings: Settings, home: Path | None = None) -> StatusReport:
    """The report, all parts at once. `home`: the stack whose processes are looked at; by default the settings' own."""
    faults: list[str] = []
    now = datetime.now(UTC)

    async def part(what: str, reading: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(_PART_SECONDS):
                return await reading
        except PipelineError as error:
            faults.append(f"{what}: {error}")
        except TimeoutError:
            faults.append(f"{what}: no answer within {_PART_SECONDS:.0f} s")
        return None

    lag, letters, state, crm, connector, processes = await asyncio.gather(
        part("lag of the flows", _lags(settings)),
        part("dead letters", _dead_letters(settings)),
        part("state of the pipeline", _state(settings, now)),
        part("the CRM", _crm(settings)),
        part("connector", _connector(settings)),
        part("processes", _processes(Home((home or settings.home).resolve()))),
    )
    unapplied = state.unapplied if state else None
    oldest = min((found.oldest_at for found in (unapplied or {}).values()), default=None)
    return StatusReport(
        at=now,
        flows=tuple(_flow_lag(flow, lag) for flow in (*(f"decide-{flow}" for flow in FLOWS), "write-back")),
        lanes=tuple(_lane(client, lane, lag, unapplied, now) for client in settings.client_ids for lane in LaneName),
        oldest_unapplied_seconds=_age(now, oldest),
        workers=state.workers if state else (),
        cursors=state.cursors if state else (),
        connector=connector,
        slot=crm.slot if crm else None,
        waiting=state.waiting if state else None,
        held=state.held if state else None,
        quarantined=state.quarantined if state else None,
        conflicts=crm.conflicts if crm else None,
        dead_letters=letters,
        processes=tuple(processes or ()),
        faults=tuple(faults),
    )


async def _lags(settings: Settings) -> dict[str, Lag]:
    groups = {
        f"verteiler-decide-{flow}": topics_of(flow, settings.client_ids, settings.capture.topic_prefix)
        for flow in FLOWS
    }
    groups["verteiler-write-back"] = tuple(OUR_TOPICS)
    found = await lags(_admin(settings), settings.kafka, groups)
    clients = {
        _group_of(client): {_group_of(client, lane): (catalogue.mutations(client, lane),) for lane in LaneName}
        for client in settings.client_ids
    }
    for parts in (await lags_by_topic(_admin(settings), settings.kafka, clients)).values():
        found |= parts
    return found


def _group_of(client: str, lane: LaneName | None = None) -> str:
    """The consumer group of a client's worker; with a lane, the name of its part in the lag."""
    group = f"verteiler-client-{client}"
    return group if lane is None else f"{group} {lane}"


def _admin(settings: Settings) -> Admin:
    return Admin(settings.kafka, timeout_seconds=_PART_SECONDS / 3)


async def _dead_letters(settings: Settings) -> int:
    extents = await _admin(settings).extents([catalogue.DEAD_LETTERS])
    return sum(extent.end - extent.first for extent in extents.values())


class _State(msgspec.Struct, frozen=True):
    """What schema `sync` tells."""

    unapplied: dict[tuple[str, str], Unapplied]
    workers: tuple[Worker, ...]
    cursors: tuple[CursorAge, ...]
    waiting: Waiting
    held: Held
    quarantined: Refusals


async def _state(settings: Settings, now: datetime) -> _State:
    async with reading(settings.database.sync_dsn) as connection:
        sync = Inspection(connection)
        unproduced, unsettled = await sync.unproduced(), await sync.unsettled()
        held, refused = await sync.held_claims(HELD_NAMED), await sync.quarantined()
        in_hand = {delivery.client: delivery for delivery in await sync.deliveries()}
        leases = {lease.client: lease for lease in await sync.leases()}
        workers = []
        for client in sorted({*settings.client_ids, *in_hand, *leases}):
            delivery, lease = in_hand.get(client), leases.get(client)
            workers.append(
                Worker(
                    client=client,
                    leader=lease.holder if lease and lease.is_held else None,
                    lease_epoch=lease.epoch if lease else None,
                    pending=delivery.pending if delivery else 0,
                    open_imports=delivery.open_imports if delivery else 0,
                    oldest_import_seconds=_age(now, delivery.oldest_import_at) if delivery else None,
                    open_calls=delivery.open_calls if delivery else 0,
                )
            )
        return _State(
            unapplied=await sync.unapplied(),
            workers=tuple(workers),
            cursors=tuple(
                CursorAge(cursor.client, cursor.stream, cursor.last_event_id, _age(now, cursor.at) or 0.0)
                for cursor in await sync.cursors()
            ),
            waiting=Waiting(
                unproduced.records, _age(now, unproduced.oldest_at), unsettled.persons, unsettled.mailboxes
            ),
            held=Held(sum(client.claims for client in held), tuple(held)),
            quarantined=Refusals(
                sum(client.mailboxes + client.with_rejected_values for client in refused), tuple(refused)
            ),
        )


class _Crm(msgspec.Struct, frozen=True):
    """What the CRM's database tells."""

    slot: SlotLag | None
    conflicts: int


async def _crm(settings: Settings) -> _Crm:
    async with reading(settings.database.crm_dsn) as connection:
        return _Crm(await slot_lag(connection, slot_of(settings.capture.connector)), await open_conflicts(connection))


async def _connector(settings: Settings) -> Connector:
    name = settings.capture.connector
    async with Connect(settings.capture.connect_url, timeout_seconds=5.0) as connect:
        found = await connect.status(name)
    if found is None:
        return Connector(name, "MISSING", (), "it is not registered: run `verteiler provision`")
    return Connector(name, found.connector.state, tuple(task.state for task in found.tasks), found.failure)


async def _processes(home: Home) -> list[Process]:
    """Those that the stack in `home` named last; none when there is no such stack."""
    endpoints = home.read_endpoints() or {}
    doors: Mapping[str, str] = endpoints.get("telemetry", {})
    alive = {identity.name: identity.pid for identity in home.read_pids() if identity.process() is not None}
    names = sorted({*alive, *endpoints.get("pids", {})})
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as http:
        states = await asyncio.gather(*(_state_of(http, name in alive, doors.get(name)) for name in names))
    return [
        Process(name, alive.get(name, endpoints.get("pids", {}).get(name, 0)), state)
        for name, state in zip(names, states, strict=True)
    ]


async def _state_of(http: aiohttp.ClientSession, alive: bool, door: str | None) -> str:
    if not alive:
        return "gone"
    if door is None:
        return "alive"
    try:
        async with http.get(f"{door}/readyz") as answer:
            return "ready" if answer.status == 200 else "starting"
    except (aiohttp.ClientError, TimeoutError):
        return "silent"


def _flow_lag(flow: str, found: Mapping[str, Lag] | None) -> FlowLag:
    lag = found[f"verteiler-{flow}"] if found is not None else None
    return FlowLag(flow, lag.records if lag else None, lag.seconds if lag else None)


def _lane(
    client: str,
    lane: LaneName,
    found: Mapping[str, Lag] | None,
    unapplied: Mapping[tuple[str, str], Unapplied] | None,
    now: datetime,
) -> Lane:
    lag = found[_group_of(client, lane)] if found is not None else None
    waiting = unapplied.get((client, lane)) if unapplied is not None else None
    return Lane(
        client=client,
        lane=lane,
        records=lag.records if lag else None,
        seconds=lag.seconds if lag else None,
        unapplied=None if unapplied is None else waiting.mailboxes if waiting else 0,
        oldest_unapplied_seconds=_age(now, waiting.oldest_at) if waiting else None,
    )


def _age(now: datetime, at: datetime | None) -> float | None:
    return None if at is None else max(0.0, (now - at).total_seconds())
