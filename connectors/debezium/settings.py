"""Where Kafka Connect is, and how it reaches the CRM database."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class CaptureSettings(BaseModel):
    """Kafka Connect and the connector that captures schema `crm`."""

    model_config = ConfigDict(frozen=True)

    connect_url: str = Field("http://127.0.0.1:8083", description="Kafka Connect's REST API.")
    connector: str = Field("smartwe", description="Name of the connector, its slot and its client id.")
    topic_prefix: str = Field("smartwe", description="First part of every captured topic's name.")
    database_host: str = Field("127.0.0.1", description="CRM database as seen from Connect.")
    database_port: int = Field(5432, description="CRM database as seen from Connect.")
    database_name: str = Field("crm", description="CRM database as seen from Connect.")
    database_user: str = Field("verteiler_capture", description="Role with the least privilege that capture needs.")
    database_password: SecretStr = Field(SecretStr(""), description="Its password.")
    registry_url: str = Field("http://127.0.0.1:8081", description="Registry as seen from Connect.")
    registry_path: str = Field("/apis/registry/v2", description="Path of the registry's own API for the converter.")
