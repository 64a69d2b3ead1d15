"""Where a record goes that could not be carried further: as it came, with the reason, so that what follows flows on."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from connectors.kafka.dead_letters import dead_letter, parked
from connectors.kafka.producer import BatchProducer
from connectors.kafka.records import Message
from connectors.kafka.registry import Registry
from schemas.errors import PipelineError

log = logging.getLogger(__name__)


class Parking:
    """Dead letters of one flow. `now` gives the present time, aware and in UTC."""

    def __init__(
        self,
        flow: str,
        producer: BatchProducer,
        registry: Registry,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._flow = flow
        self._producer = producer
        self._registry = registry
        self._now = now

    async def park(self, message: Message, failure: PipelineError) -> None:
        """Return when the broker has the dead letter: only then may the record be acknowledged.

        Raises: Unavailable and Misconfigured, as the producer and the registry.
        """
        letter = dead_letter(message, failure, flow=self._flow, at=self._now())
        await self._producer.send([parked(letter, await self._registry.id_of("dead-letter"))])
        log.warning(
            "record parked",
            extra={
                "flow": self._flow,
                "topic": message.topic,
                "partition": message.partition,
                "offset": message.offset,
                "error": letter.error,
                "reason": letter.reason,
            },
        )
