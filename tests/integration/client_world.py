"""One client worker between real PostgreSQL, real Kafka and a simulator of its own, and what a test does to it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
import asyncpg
from confluent_kafka import Consumer, TopicPartition
from pydantic import SecretStr

from connectors.inxmail.settings import InxmailSettings
from connectors.inxmail_simulator.options import SimulatorOptions
from connectors.inxmail_simulator.server import serving
from connectors.kafka import catalogue
from connectors.kafka.admin import Admin
from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Record
from connectors.kafka.registry import Decoder, Registry
from connectors.kafka.settings import KafkaSettings
from connectors.postgres.migrations import migrate
from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.facts import Cursor, Effect, ListEvent, SubscriptionEvent, UnsubscriptionEvent
from schemas.ids import KeyRing
from schemas.mutations import (
    Cause,
    DeliveryResult,
    Evidence,
    HeldList,
    Lane,
    ListWish,
    Mutation,
    Value,
    Version,
    Want,
)
from streams.delivery import worker
from streams.settings import DatabaseSettings, LeaseSettings, Settings
from streams.telemetry import Health
from tests.contract.account import Account, Control
from tests.world import eventually

KEY = b"0123456789abcdef"
RING = KeyRing([KEY])
LIST, OTHER_LIST = 7, 9
FIRST_NAME, LAST_NAME, BIRTHDAY, REVENUE = "20", "21", "23", "24"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
USER, PASSWORD, TOKEN = "worker", "worker secret", "control token"
FAST = {"requests_per_minute": 1_000_000, "event_delay_ms": 20, "import_start_ms": 20}


class Bus(NamedTuple):
    """Kafka and the registry."""

    settings: KafkaSettings
    registry: Registry
    producer: BatchProducer


@asynccontextmanager
async def connected(kafka: str, registry: str) -> AsyncIterator[Bus]:
    """The broker, with our contracts registered."""
    settings = KafkaSettings(bootstrap=kafka, registry_url=registry, partitions=1)
    async with Registry(settings) as known, BatchProducer(settings, client_id="test-client-worker") as producer:
        await known.register()
        yield Bus(settings, known, producer)


@asynccontextmanager
async def new_database(server: str) -> AsyncIterator[str]:
    """A database with the tables of `sync`; its DSN."""
    name = f"client_{uuid.uuid4().hex[:12]}"
    maintenance = await asyncpg.connect(f"{server}/postgres")
    await maintenance.execute(f"create database {name}")
    try:
        connection = await asyncpg.connect(f"{server}/{name}")
        await migrate(connection, "connectors.store", "sync")
        await connection.close()
        yield f"{server}/{name}"
    finally:
        await maintenance.execute(f"drop database {name} with (force)")
        await maintenance.close()


def wish(
    want: Want = Want.SUBSCRIBED,
    *,
    list_id: int = LIST,
    rule: str = "member",
    proof: datetime | None = LONG_AGO,
    claims: tuple[str, ...] = ("C" * 32,),
) -> ListWish:
    evidence = None if proof is None else Evidence("proof", proof, 2)
    return ListWish(list_id, "B" * 32, want, rule, claims if want is Want.SUBSCRIBED else (), evidence, None)


@dataclass
class Worker:
    """A running client worker."""

    task: asyncio.Task[None]
    stop: asyncio.Event
    health: Health

    async def end(self) -> None:
        """Tell it to stop and wait."""
        self.stop.set()
        await asyncio.wait_for(self.task, 20)

    async def crash(self) -> None:
        """End it wherever it is; nothing is tidied up but what an operating system would."""
        self.task.cancel()
        await asyncio.wait([self.task], timeout=20)


@dataclass
class ClientWorld:
    """One client of its own: its topics, its simulator, its workers."""

    client: str
    bus: Bus
    dsn: str
    account: Account
    behaviour: dict[str, object]
    inxmail: InxmailSettings
    lease: LeaseSettings
    pool: "asyncpg.Pool[asyncpg.Record]"
    workers: list[Worker] = field(default_factory=list)
    _counter: int = 0

    @property
    def control(self) -> Control:
        return self.account.control

    @property
    def settings(self) -> Settings:
        return Settings(
            kafka=self.bus.settings,
            database=DatabaseSettings(sync_dsn=SecretStr(self.dsn)),
            lease=self.lease,
            inxmail={self.client: self.inxmail},
            hmac_keys=(SecretStr(KEY.hex()),),
        )

    def start(self, *, pause_seconds: float = 0.5) -> Worker:
        """Start a worker, ready or not."""
        stop, health = asyncio.Event(), Health()
        run = worker.run(self.settings, self.client, stop, health=health, pause_seconds=pause_seconds)
        started = Worker(asyncio.create_task(run), stop, health)
        self.workers.append(started)
        return started

    async def started(self) -> Worker:
        """Start a worker and wait until it delivers."""
        begun = self.start()
        await eventually(lambda: begun.health.ready or begun.task.done(), because="the worker delivers")
        if begun.task.done():
            begun.task.result()
        await eventually(lambda: begun.health.detail.get("caught_up"), because="the lane is caught up")
        return begun

    # mutations in

    def mailbox(self, email: str) -> str:
        return RING.mailbox_ref(self.client, email)

    def mutation(
        self, email: str, *lists: ListWish, values: Mapping[str, Value] | None = None, counter: int | None = None
    ) -> Mutation:
        self._counter += 1
        version = Version(1, counter or self._counter)
        return Mutation(
            client=self.client,
            mailbox=self.mailbox(email),
            version=version,
            email=email,
            leader="C" * 32,
            claims=("C" * 32,),
            values=dict(values or {}),
            lists=lists,
            desired_hash=str(version).encode(),
            cause=Cause("test", 0, self._counter, datetime.now(UTC)),
        )

    async def want(self, *mutations: Mutation, lane: Lane = Lane.NORMAL) -> None:
        schema_id = await self.bus.registry.id_of("mutation")
        topic = catalogue.mutations(self.client, lane)
        await self.bus.producer.send(
            [Record(topic, each.mailbox, codec.frame(schema_id, "mutation", each)) for each in mutations]
        )

    async def delivered(self, *mutations: Mutation, within_seconds: float = 20) -> list[DeliveryResult]:
        """Ask for these, and wait for the answers to exactly these versions."""
        await self.want(*mutations)
        return [await self.answer(each, within_seconds=within_seconds) for each in mutations]

    async def answer(self, mutation: Mutation, *, within_seconds: float = 20) -> DeliveryResult:
        told = (
            "select true from sync.delivery where client = $1 and mailbox = $2 and counter = $3 and revision = reported"
        )
        await eventually(  # cheaper than reading the topic again and again
            lambda: self.pool.fetchval(told, self.client, mutation.mailbox, mutation.version.counter),
            within_seconds=within_seconds,
            because=f"a result for version {mutation.version}",
        )
        result = (await self.results())[mutation.mailbox]
        assert result.version == mutation.version
        return result

    # what came out

    async def records(self, topic: str) -> list[tuple[str, bytes]]:
        """Everything that stands in a topic, in order for each partition."""
        return await asyncio.to_thread(_read_all, self.bus.settings.bootstrap, topic)

    async def _decoded(self, topic: str, kind: type[Any]) -> list[Any]:
        found = await self.records(topic)
        decoder = Decoder(self.bus.registry)
        await decoder.prepare(value for _, value in found)
        return [decoder.decode_as(value, kind) for _, value in found]

    async def results(self) -> dict[str, DeliveryResult]:
        """The newest result of each mailbox."""
        return {each.mailbox: each for each in await self._decoded(catalogue.results(self.client), DeliveryResult)}

    async def result_of(self, email: str) -> DeliveryResult | None:
        return (await self.results()).get(self.mailbox(email))

    async def held(self, email: str, list_id: int = LIST) -> HeldList | None:
        result = await self.result_of(email)
        return next((each for each in result.lists if each.list_id == list_id), None) if result else None

    async def effects(self) -> list[Effect]:
        return await self._decoded(catalogue.effects(self.client), Effect)

    async def cursors(self) -> dict[str, Cursor]:
        return {each.stream: each for each in await self._decoded(catalogue.cursors(self.client), Cursor)}

    async def unsubscriptions(self) -> dict[int, ListEvent]:
        found = await self._decoded(catalogue.unsubscriptions(self.client), UnsubscriptionEvent)
        return {each.event_id: each for each in found}

    async def subscriptions(self) -> dict[int, ListEvent]:
        found = await self._decoded(catalogue.subscriptions(self.client), SubscriptionEvent)
        return {each.event_id: each for each in found}

    # Inxmail itself

    async def person(self, email: str) -> dict[str, Any] | None:
        """A recipient as the simulator dumps it."""
        found = await self.control("GET", "/recipients?limit=10000")
        return next((each for each in found["recipients"] if each["email"] == email), None)

    async def state(self, email: str, list_id: int = LIST) -> str:
        shown = await self.person(email)
        memberships = shown["memberships"] if shown else []
        return next((each["state"] for each in memberships if each["list_id"] == list_id), "NONE")

    async def put(self, email: str, *states: tuple[int, str], **attributes: object) -> None:
        """Make a recipient behind everybody's back: no event is written."""
        memberships = [{"list_id": list_id, "state": state} for list_id, state in states]
        await self.control(
            "POST", "/recipients", {"email": email, "attributes": attributes, "memberships": memberships}
        )

    async def writes(self) -> list[dict[str, Any]]:
        """Every request that changes something, in order."""
        found: list[dict[str, Any]] = (await self.control("GET", "/requests?writes_only=true&limit=10000"))["requests"]
        return found

    async def fault(self, kind: str, *, method: str, path: str, count: int = 1, **more: object) -> None:
        plan = {"match": {"method": method, "path": path}, "fault": {"kind": kind, **more}, "count": count}
        await self.control("POST", "/faults", plan)

    async def garbage(self) -> None:
        """Put something into the lane that nobody can read."""
        await self.bus.producer.send([Record(catalogue.mutations(self.client), self.mailbox("x@y.example"), b"?")])

    async def dead_letters(self) -> list[DeadLetter]:
        return await self._decoded(catalogue.DEAD_LETTERS, DeadLetter)

    async def later(self) -> None:
        """Wait until what happens now has another date than what happened before: Inxmail's dates are whole seconds."""
        await asyncio.sleep(1.1)  # time itself is what is waited for

    async def rest_without(self, mutation: Mutation) -> None:
        """Wait until the worker has taken a mutation in and has nothing to do that it may do."""
        taken = "select true from sync.desired where client = $1 and mailbox = $2 and counter >= $3"
        await eventually(
            lambda: self.pool.fetchval(taken, self.client, mutation.mailbox, mutation.version.counter),
            because="the mutation was taken in",
        )
        await asyncio.sleep(4 * self.inxmail.poll_seconds)  # the absence of a call has no event of its own

    async def rest(self) -> None:
        """Wait until nothing moves: two polls without a write."""
        before = -1

        async def quiet() -> bool:
            nonlocal before
            await asyncio.sleep(2 * self.inxmail.poll_seconds + 0.1)
            writes = len(await self.writes())
            same, before = writes == before, writes
            dirty = await self.pool.fetchval(
                "select count(*) from sync.delivery where client = $1 and dirt <> planned", self.client
            )
            return same and dirty == 0

        await eventually(quiet, because="nothing moves any more")


def _read_all(bootstrap: str, topic: str) -> list[tuple[str, bytes]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    try:
        found: list[tuple[str, bytes]] = []
        for number in sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions):
            partition = TopicPartition(topic, number)
            first, end = consumer.get_watermark_offsets(partition, timeout=10)
            consumer.assign([TopicPartition(topic, number, first)])
            while first < end:
                message = consumer.poll(10)
                assert message is not None and message.error() is None, message and message.error()
                found.append(((message.key() or b"").decode(), message.value() or b""))
                first = (message.offset() or 0) + 1
        return found
    finally:
        consumer.close()


@asynccontextmanager
async def client_world(bus: Bus, dsn: str, **options: Any) -> AsyncIterator[ClientWorld]:
    """A client of its own. options: `behaviour` of the simulator, settings of the account, `lease`."""
    client = f"t{uuid.uuid4().hex[:10]}"
    behaviour = FAST | options.pop("behaviour", {})
    lease = options.pop("lease", LeaseSettings(ttl_seconds=6, renew_seconds=1))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        chosen = SimulatorOptions(
            credentials={USER: SecretStr(PASSWORD), "visitor": SecretStr("visitor secret")},
            control_token=SecretStr(TOKEN),
            behaviour=behaviour,
        )
        endpoint, _ = await stack.enter_async_context(serving(chosen))
        account = Account(
            http, endpoint.base_url, "visitor", "visitor secret", Control(http, endpoint.control_url, TOKEN)
        )
        inxmail = InxmailSettings(
            base_url=endpoint.base_url,
            user=USER,
            password=SecretStr(PASSWORD),
            **{
                "requests_per_minute": 100_000,
                "poll_seconds": 0.3,
                "subscribe_grace_seconds": 0,
                "import_poll_seconds": 0.05,
                "timeout_seconds": 4,
                **options,
            },
        )
        await Admin(bus.settings).ensure_topics(
            [
                topic
                for topic in catalogue.catalogue([client], [], bus.settings)
                if topic.name.startswith(f"inxmail.{client}.") or topic.name == catalogue.DEAD_LETTERS
            ]
        )
        pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
        world = ClientWorld(client, bus, dsn, account, behaviour, inxmail, lease, pool)
        try:
            yield world
        finally:
            for each in world.workers:
                await each.crash()
            pool.terminate()


def shifted(seconds: float) -> datetime:
    """An instant near now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def states(lists: Iterable[HeldList]) -> dict[int, str]:
    return {held.list_id: held.state.value for held in lists}
