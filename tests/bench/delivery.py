"""What the delivery to one Inxmail client carries: real worker processes between Kafka, PostgreSQL and a simulator.

Mutations are put straight into their topics, so capture and decide are not in these figures. Progress is told on
standard error.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from confluent_kafka import Consumer, TopicPartition

from connectors.kafka import catalogue
from connectors.kafka.records import Record
from connectors.kafka.registry import Decoder
from schemas import codec
from schemas.facts import UnsubscriptionEvent
from schemas.mutations import (
    Cause,
    DeliveryResult,
    Evidence,
    Held,
    ListWish,
    Mutation,
    Outcome,
    Value,
    Version,
    Want,
)
from streams.demo.measure import latency
from tests.bench.parts import RING, Parts, Worker, parts, worker
from tests.bench.simulator import SECRET, TOKEN, USER, VISITOR, simulator
from tests.contract.account import Account, Control, encoded

MAILBOXES = int(os.environ.get("VERTEILER_BENCH_MAILBOXES", "100000"))
CHUNKS = (20_000, 10_000, 1_000)
LIST = 7
ATTRIBUTES = (
    *((name, "TEXT") for name in ("Anrede", "Titel", "Vorname", "Nachname", "Firma", "Ort", "Land", "Sprache")),
    ("Geburtstag", "DATE_ONLY"),
    ("Umsatz", "FLOATING_POINT_NUMBER"),
    ("Bestellungen", "INTEGER"),
    ("Stammkunde", "BOOLEAN"),
)
_FIRST_ATTRIBUTE = 19
_BEHAVIOUR = {"requests_per_minute": 600, "import_rows_per_second": 5_000}
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_LOAD_SECONDS = 240.0
_BATCH = 2_000
_LEAVERS = 80
_LEAVE_EVERY_SECONDS = 0.25
_SLOW_ANSWER_SECONDS = 20.0
_ISOLATION_CALLS = 300


async def figures(*, chunks: Sequence[int] = CHUNKS, isolation: bool = True) -> dict[str, Any]:
    """Keys `load_100k_s`, `load_100k_requests` (for the first chunk; `…_by_chunk` for all), `optout_under_bulk_p99_ms`,
    `optout_heard_under_bulk_p99_ms`, `slow_client_…`."""
    found: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    requests: dict[str, int] = {}
    async with parts() as made:
        for rows in chunks:
            _say(f"loading {MAILBOXES} mailboxes in chunks of {rows} rows")
            async with Client.started(made, f"load{rows}", import_rows=rows) as client:
                loaded = await client.load()
                seconds[str(rows)], requests[str(rows)] = loaded["s"], loaded["requests"]
                _say(f"{json.dumps(loaded)} {json.dumps(await client.routes())}")
                if rows == chunks[0]:
                    found |= {"load_100k_s": loaded["s"], "load_100k_requests": loaded["requests"]}
                    found |= {"load_worker_rss_mb": loaded["rss_mb"], "load_worker_cpu_s": loaded["cpu_s"]}
                    _say("opting out while everybody is changed")
                    found |= await _under_bulk(client)
        found |= {"load_100k_s_by_chunk": seconds, "load_100k_requests_by_chunk": requests}
        if isolation:
            _say("one client is slow")
            found |= await _isolation(made)
    return found


class Client:
    """One client: its worker, its simulator, its topics."""

    def __init__(self, made: Parts, name: str, running: Worker, visitor: Account, look_seconds: float) -> None:
        self.name = name
        self.control = visitor.control
        self._visitor = visitor
        self._look_seconds = look_seconds
        self._leaving: dict[int, asyncio.Event] = {}
        self.worker = running
        self._made = made
        self._counter = 0
        self._decoder = Decoder(made.registry)
        self._mailboxes = {number: RING.mailbox_ref(name, _email(number)) for number in range(MAILBOXES)}

    @staticmethod
    @asynccontextmanager
    async def started(
        made: Parts, name: str, behaviour: Mapping[str, object] | None = None, **settings: object
    ) -> AsyncIterator["Client"]:
        async with AsyncExitStack() as stack:
            far = await stack.enter_async_context(simulator(ATTRIBUTES, {**_BEHAVIOUR, **(behaviour or {})}))
            await made.topics(name)
            account = {"base_url": far.base_url, "user": USER, "password": SECRET, **settings}
            running = await stack.enter_async_context(worker(made, name, account))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            control = Control(http, far.control_url, TOKEN)
            budget = int(str({**_BEHAVIOUR, **(behaviour or {})}["requests_per_minute"]))
            visitor = Account(http, far.base_url, VISITOR, SECRET, control)
            client = Client(made, name, running, visitor, max(0.01, 75 / budget))
            watching = asyncio.create_task(client.watch())
            try:
                yield client
            finally:
                watching.cancel()

    # what is wanted

    def mutations(
        self, people: Iterable[int], *, want: Want = Want.SUBSCRIBED, town: str = "Augsburg"
    ) -> list[Mutation]:
        """The next wish for each: on the list or off it, with twelve values."""
        self._counter += 1
        now = datetime.now(UTC)
        cause = Cause("bench", 0, self._counter, now)
        version = Version(1, self._counter)
        objection = Evidence("objection", now, 0) if want is Want.UNSUBSCRIBED else None
        rule = "member" if objection is None else "objected"
        claims = ("C" * 32,) if objection is None else ()
        lists = (ListWish(LIST, "B" * 32, want, rule, claims, Evidence("proof", _LONG_AGO, 2), objection),)
        return [
            Mutation(
                client=self.name,
                mailbox=self._mailboxes[who],
                version=version,
                email=_email(who),
                leader="C" * 32,
                claims=claims,
                values=_values(who, town),
                lists=lists,
                desired_hash=str(self._counter).encode(),
                cause=cause,
            )
            for who in people
        ]

    async def records(self, lane: str, mutations: Iterable[Mutation]) -> list[Record]:
        schema_id = await self._made.registry.id_of("mutation")
        topic = self._made.lane(self.name, lane)
        return [Record(topic, each.mailbox, codec.frame(schema_id, "mutation", each)) for each in mutations]

    async def send(self, records: Sequence[Record]) -> None:
        for first in range(0, len(records), _BATCH):
            await self._made.producer.send(records[first : first + _BATCH])

    # what comes of it

    async def load(self) -> dict[str, Any]:
        """Everybody onto the list. Seconds from the first mutation to the last confirmation; the requests used."""
        records = await self.records("bulk", self.mutations(range(MAILBOXES)))
        before, cpu = await self.requests(), self.worker.cpu_seconds()
        began = time.time()
        sending = asyncio.create_task(self.send(records))
        try:
            ended = await self.confirmed(range(MAILBOXES), _is_subscribed)
        finally:
            await sending
        return {
            "s": round(ended - began, 1),
            "requests": await self.requests() - before,
            "rss_mb": self.worker.peak_rss_mb(),
            "cpu_s": round(self.worker.cpu_seconds() - cpu, 1),
        }

    async def confirmed(
        self, people: Iterable[int], is_good: Callable[[DeliveryResult], bool], counter: int | None = None
    ) -> float:
        """When the last of them was confirmed: the time of its record. Answers to older versions do not count.

        counter: of the version that is to be answered; the newest one when not given.
        """
        waiting = {self._mailboxes[who] for who in people}
        counter = counter or self._counter
        newest: dict[str, bytes] = {}
        last = 0.0
        async for batch in self._read(catalogue.results(self.name)):
            for mailbox, value, at in batch:
                if mailbox in waiting:
                    newest[mailbox] = value
                    last = max(last, at)
            if batch:
                continue  # decoding takes a core that the worker needs: only once nothing comes any more
            await self._decoder.prepare(newest.values())
            for mailbox, value in newest.items():
                result = self._decoder.decode_as(value, DeliveryResult)
                if result.version is not None and result.version.counter >= counter and is_good(result):
                    waiting.discard(mailbox)
            newest.clear()
            if not waiting:
                return last
        raise AssertionError("the topic ended")

    async def _read(self, topic: str) -> AsyncIterator[list[tuple[str, bytes, float]]]:
        """What stands in a topic and what comes, in batches of (key, value, time); an empty one when nothing comes."""
        bootstrap = self._made.kafka.bootstrap
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
        try:
            found = await asyncio.to_thread(consumer.list_topics, topic, timeout=10)
            consumer.assign([TopicPartition(topic, number, 0) for number in found.topics[topic].partitions])
            async with asyncio.timeout(_LOAD_SECONDS):
                while True:
                    self.worker.check()
                    messages = await asyncio.to_thread(consumer.consume, 10_000, 0.5)
                    yield [
                        ((each.key() or b"").decode(), each.value() or b"", each.timestamp()[1] / 1000)
                        for each in messages
                        if each.error() is None
                    ]
        finally:
            consumer.close()

    async def heard(self, people: Sequence[int]) -> dict[int, float]:
        """When each one's unsubscription stood in the bus."""
        by_email = {_email(who): who for who in people}
        times: dict[int, float] = {}
        async for batch in self._read(catalogue.unsubscriptions(self.name)):
            await self._decoder.prepare(value for _, value, _ in batch)
            for _, value, at in batch:
                event = self._decoder.decode_as(value, UnsubscriptionEvent)
                who = by_email.get(event.email or "")
                if who is not None:
                    times.setdefault(who, at)
            if len(times) == len(people):
                return times
        raise AssertionError("the topic ended")

    async def until_left(self, who: int) -> None:
        """Return when the simulator does not hold her as subscribed any more."""
        self._leaving[who] = gone = asyncio.Event()
        async with asyncio.timeout(_LOAD_SECONDS):
            await gone.wait()

    async def watch(self) -> None:
        """Look who has left, for ever: one question for all of them, as the simulator has other things to do."""
        while True:
            asked = list(self._leaving)
            if asked:
                emails = ",".join(encoded(_email(who)) for who in asked)
                reply = await self._visitor.get(f"/recipients?subscribedTo={LIST}&email={emails}&pageSize=1000")
                assert reply.status == 200, reply.text
                there = {item["email"] for item in reply.items("recipients")}
                for who in asked:
                    if _email(who) not in there:
                        self._leaving.pop(who).set()
            await asyncio.sleep(self._look_seconds)

    async def requests(self) -> int:
        """How many requests the worker has made."""
        return int((await self.control("GET", "/counters"))["by_credential"].get(USER, 0))

    async def routes(self) -> dict[str, int]:
        found: dict[str, int] = (await self.control("GET", "/counters"))["by_route"]
        return found


async def _under_bulk(client: Client) -> dict[str, Any]:
    """Objections, by mutation and at Inxmail itself, while everybody's town changes."""
    draw = random.Random(1)
    drawn = draw.sample(range(MAILBOXES), 2 * _LEAVERS)
    told, clicking = drawn[:_LEAVERS], drawn[_LEAVERS:]
    changes = client.mutations(range(MAILBOXES), town="Ulm")
    bulk, counter = await client.records("bulk", changes), changes[0].version.counter
    before = await client.requests()
    began = time.time()
    changing = asyncio.create_task(_changed(client, bulk, counter, set(range(MAILBOXES)) - set(drawn)))
    clicked: dict[int, float] = {}
    hearing = asyncio.create_task(client.heard(clicking))
    took: list[float] = []

    async def leave(who: int) -> None:
        (record,) = await client.records("priority", client.mutations([who], want=Want.UNSUBSCRIBED))
        at = time.monotonic()
        await client.send([record])
        await client.until_left(who)
        took.append(time.monotonic() - at)

    async with asyncio.TaskGroup() as leaving:
        for who, other in zip(told, clicking, strict=True):
            leaving.create_task(leave(who))
            clicked[other] = time.time()
            await client.control.person("unsubscribe-by-link", LIST, _email(other))
            await asyncio.sleep(_LEAVE_EVERY_SECONDS)  # spread over the time that the bulk takes
    heard = await hearing
    changed_at = await changing
    figures = latency(took)
    reached = latency([heard[who] - clicked[who] for who in clicking])
    return {
        "optout_under_bulk_p50_ms": figures.p50,
        "optout_under_bulk_p99_ms": figures.p99,
        "optout_heard_under_bulk_p99_ms": reached.p99,
        "change_100k_s": round(changed_at - began, 1),
        "change_100k_requests": await client.requests() - before,
    }


async def _changed(client: Client, records: Sequence[Record], counter: int, people: set[int]) -> float:
    confirming = asyncio.create_task(client.confirmed(people, _is_applied, counter))
    await client.send(records)
    return await confirming


async def _isolation(made: Parts) -> dict[str, Any]:
    """Two clients; how long single calls of the one take while the other is well, and while it answers late."""
    generous = {"requests_per_minute": 60_000}
    async with AsyncExitStack() as stack:
        slow, other = [
            await stack.enter_async_context(Client.started(made, name, requests_per_minute=60_000, behaviour=generous))
            for name in ("slow", "other")
        ]
        people = range(2 * _ISOLATION_CALLS + 10)
        for client in (slow, other):
            await client.send(await client.records("normal", client.mutations(people)))
            await client.confirmed(people, _is_subscribed)
        for who in range(2 * _ISOLATION_CALLS, 2 * _ISOLATION_CALLS + 10):
            await _call(other, who)  # what is done for the first time only
        before = await _calls(slow, other, range(_ISOLATION_CALLS))
        late = {"match": {}, "fault": {"kind": "delay", "seconds": _SLOW_ANSWER_SECONDS}, "count": None}
        await slow.control("POST", "/faults", late)
        during = await _calls(slow, other, range(_ISOLATION_CALLS, 2 * _ISOLATION_CALLS))
        await slow.control("DELETE", "/faults")
    calm, disturbed = latency(before), latency(during)
    assert calm.p99 is not None and disturbed.p99 is not None
    return {
        "slow_client_other_p99_before_ms": calm.p99,
        "slow_client_other_p99_ms": disturbed.p99,
        "slow_client_other_p99_ratio": round(disturbed.p99 / calm.p99, 2),
    }


async def _calls(slow: Client, other: Client, people: Iterable[int]) -> list[float]:
    took = []
    for who in people:
        await slow.send(await slow.records("normal", slow.mutations([who], want=Want.UNSUBSCRIBED)))
        took.append(await _call(other, who))
    return took


async def _call(client: Client, who: int) -> float:
    """Seconds from one person's mutation to her being off the list."""
    records = await client.records("priority", client.mutations([who], want=Want.UNSUBSCRIBED))
    began = time.monotonic()
    await client.send(records)
    await client.until_left(who)
    return time.monotonic() - began


def _is_subscribed(result: DeliveryResult) -> bool:
    return result.outcome is Outcome.APPLIED and any(
        held.list_id == LIST and held.state is Held.SUBSCRIBED for held in result.lists
    )


def _is_applied(result: DeliveryResult) -> bool:
    return result.outcome is Outcome.APPLIED and "Ulm" in result.values.values()


def _email(who: int) -> str:
    return f"person{who}@verteiler.example"


def _values(who: int, town: str) -> dict[str, Value]:
    born = (datetime(1950, 1, 1, tzinfo=UTC) + timedelta(days=who % 18_000)).date().isoformat()
    values: tuple[Value, ...] = (
        "Frau" if who % 2 else "Herr",
        None,
        f"Vorname {who % 997}",
        f"Nachname {who % 4999}",
        f"Firma {who % 1999}",
        town,
        "Deutschland",
        "de",
        born,
        (who % 100_000) / 100,
        who % 50,
        who % 3 == 0,
    )
    return {str(_FIRST_ATTRIBUTE + number): value for number, value in enumerate(values)}


def _say(words: str) -> None:
    sys.stderr.write(words + "\n")
