"""What the errors of both Kafka libraries mean, in one place. Pure."""

from typing import Final

from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError, UnknownTopicOrPartitionError
from confluent_kafka import KafkaError, KafkaException

from schemas.errors import Misconfigured, PipelineError, Refused, Unavailable

_MISCONFIGURED: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_CONFIG,
    }
)


def failure_of(error: KafkaError | KafkaException, what: str) -> PipelineError:
    """The meaning of a confluent-kafka error met while doing `what`."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    if cause.code() in _MISCONFIGURED:
        return Misconfigured(
            f"Kafka refuses to {what}: {cause.name()}; run `verteiler check` to see whether every topic is there"
        )
    return Unavailable(f"Kafka could not {what}: {cause.name()}; nothing was lost")


def produce_failure(error: AioKafkaError | TimeoutError, topics: str) -> PipelineError:
    """The meaning of an aiokafka error met while writing to `topics`."""
    if isinstance(error, UnknownTopicOrPartitionError):
        return Misconfigured(f"a topic of {topics} does not exist; nothing was written: run `verteiler provision`")
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return Refused(f"a record for {topics} is larger than the topic allows", kind="record_too_large")
    return Unavailable(f"Kafka did not confirm records for {topics}: {type(error).__name__}; send them again")
