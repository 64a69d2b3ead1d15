"""Where Kafka and the registry are."""

from pydantic import BaseModel, ConfigDict, Field


class KafkaSettings(BaseModel):
    """The broker and the schema registry."""

    model_config = ConfigDict(frozen=True)

    bootstrap: str = Field("127.0.0.1:9092", description="Bootstrap servers, host:port separated by commas.")
    registry_url: str = Field(
        "http://127.0.0.1:8081", description="Base URL of the schema registry; Confluent's API below /apis/ccompat/v7."
    )
    registry_path: str = Field("/apis/ccompat/v7", description="Path of Confluent's API under the registry's base URL.")
    partitions: int = Field(4, ge=1, description="Partitions of every topic that is keyed by row, mailbox or event.")
    replication: int = Field(1, ge=1, description="Replicas of every topic; 3 on a cluster.")
    max_compaction_lag_seconds: int = Field(
        7 * 86400, description="Longest time until compaction in topics with personal data; bounds erasure."
    )
    min_compaction_lag_seconds: int = Field(3 * 86400, description="Full history kept for as-of questions.")
    segment_seconds: int = Field(86400, description="Longest life of an open log segment.")
    delete_retention_seconds: int = Field(7 * 86400, description="How long a tombstone stays readable.")
    mutation_retention_seconds: int = Field(14 * 86400, description="Retention of mutation topics.")
    event_retention_seconds: int = Field(21 * 86400, description="Retention of dead letters and reactions.")
