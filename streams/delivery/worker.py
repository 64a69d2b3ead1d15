"""`verteiler worker client ID`: the edge of one Inxmail client, until it is told to stop or another leads."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from connectors.inxmail.client import InxmailClient
from connectors.inxmail.pace import Pace
from connectors.inxmail.settings import InxmailSettings
from connectors.inxmail.transport import Transport
from connectors.kafka import catalogue
from connectors.kafka.consumer import LaneConsumer
from connectors.kafka.producer import BatchProducer
from connectors.kafka.registry import Decoder, Registry
from connectors.store.ledger import LeaseTable, Ledger, open_pool
from schemas.delivery import CallState
from schemas.errors import Misconfigured, PipelineError
from schemas.mutations import Held, HeldList, Lane
from streams.delivery.definitions import keep_definitions
from streams.delivery.deliverer import Deliverer
from streams.delivery.desk import Desk
from streams.delivery.directory import Directory
from streams.delivery.gate import PAUSE_SECONDS, Gate
from streams.delivery.imports import Imports
from streams.delivery.lane import LaneReader
from streams.delivery.leadership import Leadership
from streams.delivery.meters import Meters, shown
from streams.delivery.outbox import Outbox
from streams.delivery.reader import Reader
from streams.delivery.single_calls import UNSUBSCRIBE, SingleCalls
from streams.inbound.poller import UNSUBSCRIPTIONS, Poller
from streams.parking import Parking
from streams.settings import Settings
from streams.telemetry import Health, serve_health

log = logging.getLogger(__name__)

_DECISIVE: Final = (Lane.PRIORITY, Lane.NORMAL)
"""The lanes that can say that somebody is to be subscribed no more. The bulk lane never takes anything away."""
_BATCH: Final = 1000
_AHEAD_KIB: Final = 4 * 1024
_SWEPT: Final = 5000
_SWEEP_SECONDS: Final = 30.0
_TELL_SECONDS: Final = 1.0
_LONGEST_TRANSACTION_SECONDS: Final = 15.0
_KEEP_SECONDS: Final = 3600.0
"""How long closed imports and told attribute writes are kept: an echo in a log comes within seconds."""


class _Told(Exception):
    """The process was told to stop."""


def group_of(client: str) -> str:
    """The consumer group of a client's worker."""
    return f"verteiler-client-{client}"


async def run(
    settings: Settings,
    client: str,
    stop: asyncio.Event,
    *,
    health: Health | None = None,
    pause_seconds: float = PAUSE_SECONDS,
) -> None:
    """Lead for a client as soon as nobody else does; deliver and poll until `stop` is set.

    pause_seconds: how long a client that refuses our credentials is left alone. Raises: PipelineError of disposition
    HALT, when the process must be started anew: nothing is lost by that.
    """
    account = settings.inxmail.get(client)
    if account is None:
        raise Misconfigured(f"no settings for Inxmail client {client}; nothing was started")
    if account.timeout_seconds + settings.lease.renew_seconds >= settings.lease.ttl_seconds:
        log.warning(
            "requests are cut shorter than set, because the lease is short",
            extra={"timeout_seconds": account.timeout_seconds, "lease_seconds": settings.lease.ttl_seconds},
        )
    health = health or Health()
    health.detail.update(client=client, leading=False)
    async with contextlib.AsyncExitStack() as stack:
        server = await serve_health(health, settings.telemetry_port)
        stack.push_async_callback(server.cleanup)
        pool = await stack.enter_async_context(
            await open_pool(
                settings.database.sync_dsn.get_secret_value(),
                transaction_seconds=min(_LONGEST_TRANSACTION_SECONDS, settings.lease.ttl_seconds / 2),
            )
        )
        leadership = Leadership(
            LeaseTable(pool, client),
            ttl_seconds=settings.lease.ttl_seconds,
            renew_seconds=settings.lease.renew_seconds,
        )
        epoch = await _or_told(leadership.acquire(), stop)
        if epoch is None:
            return
        stack.push_async_callback(_release, leadership)
        health.detail.update(leading=True, epoch=epoch)
        registry = await stack.enter_async_context(Registry(settings.kafka))
        producer = await stack.enter_async_context(
            BatchProducer(settings.kafka, client_id=f"{group_of(client)}-{settings.instance}")
        )
        ledger = Ledger(pool, client, epoch)
        transport = await stack.enter_async_context(
            Transport(account, _pace(account), lambda: leadership.seconds_allowed(account.timeout_seconds))
        )
        api = InxmailClient(transport)
        desk = Desk(
            client=client,
            settings=account,
            skew=timedelta(seconds=settings.decide.skew_seconds),
            keys=settings.key_ring(),
            api=api,
            ledger=ledger,
            outbox=Outbox(client, ledger, producer, registry),
            gate=Gate(pause_seconds=pause_seconds),
            directory=Directory(api),
        )
        stack.enter_context(shown(Meters(client, desk.gate, api.pace)))
        async with ledger.reading() as books:
            is_new = await books.deliveries.is_new()
        parking = Parking(f"client-{client}", producer, registry)
        lanes = {
            lane: LaneConsumer(
                settings.kafka,
                catalogue.mutations(client, lane),
                group_of(client),
                batch=_BATCH,
                ahead_kib=_AHEAD_KIB,
                from_beginning=is_new,
            )
            for lane in Lane
        }
        readers = [LaneReader(desk, lane, consumer, Decoder(registry), parking) for lane, consumer in lanes.items()]
        desk.has_backlog = lambda: any(not consumer.drained for consumer in lanes.values())
        await _lead(desk, leadership, lanes, readers, health, stop)


async def _lead(
    desk: Desk,
    leadership: Leadership,
    lanes: Mapping[Lane, LaneConsumer],
    readers: Sequence[LaneReader],
    health: Health,
    stop: asyncio.Event,
) -> None:
    """Everything that runs while this process leads. The first part that ends, ends all. Raises: what it ended by."""
    reader = Reader(desk)
    poller = Poller(desk)
    try:
        async with asyncio.TaskGroup() as tasks:
            imports = Imports(desk, reader, lambda: poller.drain(UNSUBSCRIPTIONS), tasks.create_task)
            calls = SingleCalls(desk, reader)
            deliverer = Deliverer(desk, reader, calls, imports, tasks.create_task)
            tasks.create_task(_until(stop))
            tasks.create_task(leadership.keep())
            tasks.create_task(_show(desk, health, poller, imports, deliverer))
            await _take_over(desk)
            await desk.gate.insist(desk.directory.refresh)
            await reader.bootstrap()
            await poller.start()
            await imports.resume()
            for consumer in lanes.values():
                await consumer.start()
            tasks.create_task(desk.outbox.run())
            tasks.create_task(poller.run())
            tasks.create_task(_catch_up(desk, [lanes[lane] for lane in _DECISIVE]))
            for each in readers:
                tasks.create_task(each.run())
            tasks.create_task(deliverer.run())
            for _ in range(desk.settings.max_in_flight):
                tasks.create_task(deliverer.work())
            tasks.create_task(_sweep(desk))
            tasks.create_task(keep_definitions(desk))
            health.ready = True
            log.info("delivering", extra={"client": desk.client})
    except BaseExceptionGroup as group:
        failure = _reason(group)
        if failure is not None:
            raise failure from group
    finally:
        health.ready = False
        health.detail["leading"] = False
        for consumer in lanes.values():
            await consumer.close()


async def _catch_up(desk: Desk, consumers: Sequence[LaneConsumer]) -> None:
    """Subscribing is allowed when everything is known that these lanes held at start."""
    for consumer in consumers:
        await consumer.until_caught_up()
    desk.may_subscribe = True
    desk.awake.set()
    desk.overlooked.set()
    log.info("lanes caught up", extra={"client": desk.client})


async def _take_over(desk: Desk) -> None:
    """Take what a former leader left open for what it is: perhaps carried out, perhaps not."""
    async with desk.ledger.transaction() as books:
        lost = await books.calls.lose_open()
        leaving = [call for call in lost if call.kind == UNSUBSCRIBE and call.list_id is not None]
        held = await books.deliveries.lists_of([call.mailbox for call in leaving])
        now = desk.now()
        await books.deliveries.put_lists(
            [
                (call.mailbox, HeldList(call.list_id, Held.UNKNOWN, call.op_id, now, _claims(held, call)))
                for call in leaving
                if call.list_id is not None
            ]
        )
        emails = {each.mailbox: each.email for each in await books.deliveries.mailboxes([c.mailbox for c in lost])}
        await books.deliveries.touch(emails)
    if lost:
        log.info("open calls taken over", extra={"client": desk.client, "calls": len(lost), "state": CallState.LOST})


async def _sweep(desk: Desk) -> None:
    """Look again at everything that the tables say is unfinished, in case it was overlooked.

    In parts, and never more than there is room for: what is left comes when something is done.
    """
    start = (Lane.PRIORITY, "")
    after = start
    part = min(_SWEPT, desk.settings.most_unfinished)
    while True:
        await desk.room(Lane.BULK)
        async with desk.ledger.reading() as books:
            found = await books.deliveries.dirty(after, part)
        for lane, mailboxes in found.items():
            desk.look(mailboxes, lane)
            after = lane, mailboxes[-1]
        if sum(map(len, found.values())) == part:
            continue
        after = start
        async with desk.ledger.transaction() as books:
            await books.calls.forget_older_than(_KEEP_SECONDS)
        try:
            async with asyncio.timeout(_SWEEP_SECONDS):
                await desk.overlooked.wait()
        except TimeoutError:
            pass
        desk.overlooked.clear()


async def _show(desk: Desk, health: Health, poller: Poller, imports: Imports, deliverer: Deliverer) -> None:
    """Keep what /readyz shows up to date."""
    health.stall_limit_seconds = max(60.0, 10 * desk.settings.poll_seconds)
    while True:
        now = time.monotonic()
        health.detail.update(
            circuit=desk.gate.circuit,
            paused=desk.gate.paused_because,
            failing=desk.gate.last_failure,
            caught_up=desk.may_subscribe,
            unfinished=desk.unfinished(),
            awaiting_decision=deliverer.barred,
            imports=len(imports),
            imports_overdue=len(imports.overdue),
            polled_seconds_ago=None if poller.polled_at is None else round(now - poller.polled_at, 1),
        )
        # Alive means that the logs are read, or that it is known why they are not.
        health.work_started = 0.0 if desk.gate.last_failure else poller.polled_at or 0.0
        health.last_progress = now
        await asyncio.sleep(_TELL_SECONDS)


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """What really went wrong; None when the process was only told to stop."""
    _, rest = group.split(_Told)
    if rest is None:
        return None
    found: BaseException = rest
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, PipelineError) else rest


async def _release(leadership: Leadership) -> None:
    try:
        await leadership.release()
    except PipelineError as failure:
        log.warning("lease not released", extra={"error": type(failure).__name__})


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
    raise _Told


async def _or_told(work: Coroutine[Any, Any, int], stop: asyncio.Event) -> int | None:
    """The result of `work`; None when the process is told to stop before."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()


def _claims(held: dict[str, dict[int, HeldList]], call: Any) -> tuple[str, ...]:
    before = held[call.mailbox].get(call.list_id)
    return before.claims if before is not None else ()


def _pace(account: InxmailSettings) -> Pace:
    return Pace(account.requests_per_minute, account.max_in_flight, logs_per_minute=2 * 60 / account.poll_seconds)
