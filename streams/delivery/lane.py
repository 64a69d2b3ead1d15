"""Mutations in: the newest desired state of each mailbox into the tables, then onto the agenda."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from connectors.kafka.consumer import LaneConsumer
from connectors.kafka.records import Message
from connectors.kafka.registry import Decoder
from schemas.errors import MalformedInput, Unavailable
from schemas.mutations import Lane, Mutation, Want
from streams.delivery.desk import Desk
from streams.delivery.gate import backoff_seconds
from streams.parking import Parking

log = logging.getLogger(__name__)


class LaneReader:
    """One lane of one client. Order: the batch is in the tables, then Kafka is told, then it is planned.

    While too many mailboxes are unfinished, it reads nothing: the backlog stays in Kafka. A better lane goes on. At
    start it is read on all the same, because nothing can be finished before it is known what all lanes say.
    """

    def __init__(self, desk: Desk, lane: Lane, consumer: LaneConsumer, decoder: Decoder, parking: Parking) -> None:
        self._desk = desk
        self._lane = lane
        self._consumer = consumer
        self._decoder = decoder
        self._parking = parking

    async def run(self) -> None:
        """Take every batch, for ever. Raises: PipelineError, when the lane cannot be read."""
        async for batch in self._consumer.batches():
            await self._insist(partial(self.take, batch))
            await self._insist(partial(self._consumer.commit, batch))
            if self._desk.may_subscribe:
                await self._desk.room(self._lane)

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
                changed = await books.deliveries.want(list(newest.values()), self._lane)
            self._plan([newest[mailbox] for mailbox in changed])

    def _plan(self, mutations: Sequence[Mutation]) -> None:
        """Plan these; those that wish to subscribe rest first.

        Proof and objection of one transaction lie in different partitions: the second may still be on its way.
        Where there is a backlog, nothing else of those is done before either: then each is planned once.
        """
        desk = self._desk
        if not desk.may_subscribe and desk.unfinished(self._lane) > desk.settings.most_unfinished:
            return  # what is read before anybody may be subscribed stays in the tables: the sweep brings it in parts
        subscribing = [each.mailbox for each in mutations if any(wish.want is Want.SUBSCRIBED for wish in each.lists)]
        until = asyncio.get_running_loop().time() + desk.settings.subscribe_grace_seconds
        desk.fresh.update(dict.fromkeys(subscribing, until))
        at_once = self._lane is not Lane.BULK and self._consumer.drained
        if at_once or not desk.settings.subscribe_grace_seconds:
            desk.look([each.mailbox for each in mutations], self._lane)
            return
        resting = set(subscribing)
        desk.look([each.mailbox for each in mutations if each.mailbox not in resting], self._lane)
        desk.look_at(until, subscribing, self._lane)

    def _read(self, message: Message) -> Mutation:
        mutation = self._decoder.decode_as(message.value or b"", Mutation)
        if mutation.client != self._desk.client:
            raise MalformedInput("a mutation for another client")
        if mutation.mailbox != message.key_text:
            raise MalformedInput("a mutation under another mailbox's key")
        return mutation
