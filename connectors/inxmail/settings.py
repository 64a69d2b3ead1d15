"""How to reach one Inxmail client."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class InxmailSettings(BaseModel):
    """One Inxmail client: address, credentials, pace. Credentials never travel on the bus."""

    model_config = ConfigDict(frozen=True)

    base_url: str = Field(description="Complete base URL, including the customer and /rest/v1.")
    user: str = Field(description="API key id.")
    password: SecretStr = Field(description="API secret.")
    requests_per_minute: int = Field(600, ge=1, description="Request budget shared by delivery and polling.")
    max_in_flight: int = Field(4, ge=1, description="Most requests under way at once.")
    timeout_seconds: float = Field(20.0, description="Total time of one request; must stay below the lease.")
    poll_seconds: float = Field(2.0, description="Interval of the event logs.")
    definitions_seconds: float = Field(
        300.0, gt=0, description="Interval at which the definitions of attributes and lists are read again."
    )
    subscribe_grace_seconds: float = Field(
        1.0,
        ge=0,
        description="How long a wish to subscribe rests before it is sent, so that an objection committed with the"
        " proof, but read after it, still comes in time.",
    )
    bulk_threshold: int = Field(
        100, ge=0, description="Values of more mailboxes than these at once go by an import, however slow imports are."
    )
    import_rows: int = Field(20_000, ge=1, description="Most rows in one import file.")
    most_unfinished: int = Field(
        50_000, ge=1, description="Mailboxes kept in memory; with more, lanes are read on when half of it is done."
    )
    import_poll_seconds: float = Field(0.5, description="First interval at which an import's state is read; grows.")
    import_deadline_seconds: float = Field(3600.0, description="An import still running then is held and reported.")
