"""Records that could not be carried further, as they are parked. Pure."""

from datetime import datetime

from connectors.kafka.catalogue import DEAD_LETTERS
from connectors.kafka.records import Message, Record
from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.errors import PipelineError


def dead_letter(
    message: Message,
    error: PipelineError,
    *,
    flow: str,
    at: datetime,
    attempts: int = 1,
    first_seen_at: datetime | None = None,
) -> DeadLetter:
    """The parked form of a record: its raw bytes, where it stood, and why `flow` gave it up at `at`.

    The reason is the error's own message, which by rule holds no personal data.
    """
    return DeadLetter(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        error=type(error).__name__,
        reason=str(error),
        flow=flow,
        attempts=attempts,
        first_seen_at=first_seen_at or at,
        last_seen_at=at,
    )


def parked(letter: DeadLetter, schema_id: int) -> Record:
    """The record to be written for it; `schema_id` is the registry's for contract `dead-letter`.

    It has the source record's key, so that a redrive puts letters of one key back in order.
    """
    return Record(
        topic=DEAD_LETTERS,
        key=None if letter.key is None else letter.key.decode("utf-8", "backslashreplace"),
        value=codec.frame(schema_id, "dead-letter", letter),
    )
