"""What the errors of both Kafka libraries mean, in one place."""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError, UnknownTopicOrPartitionError
from confluent_kafka import KafkaError, KafkaException
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from schemas.errors import Misconfigured, PipelineError, Refused, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE_SECONDS: Final = 8.0

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


_SETTLING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
_PASSING: Final = _SETTLING | {
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
}


def _cause(error: BaseException) -> KafkaError:
    cause: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    return cause


def passes(error: KafkaError | KafkaException) -> bool:
    """Whether the library goes on by itself: a broker is away, or leaders are being found.

    Its own `retriable` speaks of transactions only.
    """
    return _cause(error).code() in _PASSING


def patiently(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function gives; while leaders are being found, it is called again, for some seconds. Blocks.

    So it is for a moment after a topic was made, or a broker came back.
    """
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, KafkaException) and _cause(error).code() in _SETTLING),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        wait=wait_fixed(0.1),
        reraise=True,
    )
    return retrying(function, *args, **kwargs)


def failure_of(error: KafkaError | KafkaException, what: str) -> PipelineError:
    """The meaning of a confluent-kafka error met while doing `what`."""
    cause = _cause(error)
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
