"""Takes a lane's mutations into the tables: the newest of each mailbox, all older ones forgotten."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from connectors.kafka.consumer import LaneConsumer
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder
from schemas.errors import MalformedInput, Unavailable
from schemas.mutations import Mutation, Want
from streams.delivery.desk import Desk
from streams.delivery.gate import backoff_seconds
from streams.parking import Parking

log = logging.getLogger(__name__)


class Lane:
    """One lane of one client. Order: the batch is in the tables, then Kafka is told, then it is planned."""

    def __init__(self, desk: Desk, consumer: LaneConsumer, decoder: Decoder, parking: Parking) -> None:
        self._desk = desk
        self._consumer = consumer
        self._decoder = decoder
        self._parking = parking

    async def run(self) -> None:
        """Take every batch, for ever. Raises: PipelineError, when the lane cannot be read."""
        self._note_progress()
        async for batch in self._consumer.batches():
            await self._insist(partial(self.take, batch))
            await self._insist(partial(self._consumer.commit, batch))
            self._note_progress()

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, however long Kafka or the registry take."""
        for failures in itertools.count(1):
            try:
                return await work()
            except Unavailable as failure:
                seconds = backoff_seconds(failures, draw=1.0)
                log.warning("lane waits", extra={"reason": str(failure), "delay_seconds": seconds})
                await asyncio.sleep(seconds)

    async def take(self, batch: Sequence[Message]) -> None:
        """Keep the newest mutation of each mailbox; park what is none."""
        await self._decoder.prepare(message.value for message in batch)
        newest: dict[str, Mutation] = {}
        for message in batch:
            if message.value is None:
                continue
            try:
                mutation = self._read(message)
            except MalformedInput as failure:
                await self._parking.park(message, failure)
                continue
            known = newest.get(mutation.mailbox)
            if known is None or known.version < mutation.version:
                newest[mutation.mailbox] = mutation
        if newest:
            async with self._desk.ledger.transaction() as books:
                changed = await books.deliveries.want(list(newest.values()))
            self._let_rest([newest[mailbox] for mailbox in changed])
            self._desk.look(changed)

    def _let_rest(self, mutations: Iterable[Mutation]) -> None:
        """Proof and objection of one transaction lie in different partitions: the second may still be on its way."""
        until = asyncio.get_running_loop().time() + self._desk.settings.subscribe_grace_seconds
        for mutation in mutations:
            if any(wish.want is Want.SUBSCRIBED for wish in mutation.lists):
                self._desk.fresh[mutation.mailbox] = until

    def _read(self, message: Message) -> Mutation:
        mutation = self._decoder.decode_as(message.value or b"", Mutation)
        if mutation.client != self._desk.client:
            raise MalformedInput("a mutation for another client")
        if mutation.mailbox != message.key_text:
            raise MalformedInput("a mutation under another mailbox's key")
        return mutation

    def _note_progress(self) -> None:
        """From here on subscribing is allowed: everything is known that the lane held at start."""
        if self._consumer.caught_up and not self._desk.may_subscribe:
            self._desk.may_subscribe = True
            self._desk.agenda.every_list_is_free()
            self._desk.awake.set()
            log.info("lane caught up", extra={"client": self._desk.client})
