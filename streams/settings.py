"""All settings, read once at the entry point. Everything else takes values.

Environment variables: `VERTEILER_` and the path of the field with two underscores between levels, e.g.
`VERTEILER_KAFKA__BOOTSTRAP` or `VERTEILER_INXMAIL__A__BASE_URL`.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.debezium.settings import CaptureSettings
from connectors.inxmail.settings import InxmailSettings
from connectors.kafka.settings import KafkaSettings
from schemas.errors import Misconfigured
from schemas.ids import KeyRing


class DatabaseSettings(BaseModel):
    """The CRM database and the pipeline's own."""

    model_config = ConfigDict(frozen=True)

    crm_dsn: SecretStr = Field(SecretStr(""), description="CRM database, role that writes back observations.")
    crm_admin_dsn: SecretStr = Field(SecretStr(""), description="CRM database, role that migrates; only `provision`.")
    sync_dsn: SecretStr = Field(SecretStr(""), description="Database of the schemas `sync` and `fence`.")
    crm_user_password: SecretStr = Field(
        SecretStr(""), description="Password of role `crm_user`, which owns the CRM's tables; only `provision`."
    )


class DecideSettings(BaseModel):
    """How records are folded and mailboxes decided."""

    model_config = ConfigDict(frozen=True)

    batch: int = Field(1000, ge=1, description="Most records folded in one transaction.")
    within_seconds: float = Field(0.02, gt=0, description="Longest wait for a batch to fill.")
    batch_limit_seconds: float = Field(25.0, description="A batch still running then ends the process.")
    skew_seconds: float = Field(60.0, description="Clock tolerance: within it, the objection wins over the proof.")
    settle_at_once: int = Field(
        100,
        ge=0,
        description="Up to so many persons and mailboxes of a batch are decided with it. Of more, all but objections"
        " rest first, so that one decision follows from all that is known.",
    )
    rest_seconds: float = Field(1.0, ge=0, description="How long they rest after the last record about them.")
    longest_rest_seconds: float = Field(5.0, ge=0, description="How long they rest at most.")
    sweep_seconds: float = Field(1.0, description="Interval at which the sweeper looks for work.")
    sweep_after_seconds: float = Field(60.0, description="Age at which an unanswered mutation is looked at again.")
    sweep_chunk: int = Field(2000, ge=1, description="Most marked records decided in one sweep transaction.")


class LeaseSettings(BaseModel):
    """The lease by which one client worker leads and others stand by."""

    model_config = ConfigDict(frozen=True)

    ttl_seconds: float = Field(30.0, description="Life of a lease; longer than any HTTP timeout.")
    renew_seconds: float = Field(5.0, description="Interval at which the leader renews it.")


class Settings(BaseSettings):
    """Everything a process of the pipeline needs to know."""

    model_config = SettingsConfigDict(env_prefix="VERTEILER_", env_nested_delimiter="__", frozen=True, extra="ignore")

    home: Path = Field(Path(".verteiler"), description="Folder of the embedded stack; `endpoints.json` lies there.")
    kafka: KafkaSettings = KafkaSettings()
    capture: CaptureSettings = CaptureSettings()
    database: DatabaseSettings = DatabaseSettings()
    decide: DecideSettings = DecideSettings()
    lease: LeaseSettings = LeaseSettings()
    inxmail: dict[str, InxmailSettings] = Field(default_factory=dict, description="By BAF client id.")
    clients: tuple[str, ...] = Field(
        (), description="BAF client ids that exist, as a JSON array; empty: those of `inxmail`. Decide needs no more."
    )
    hmac_keys: tuple[SecretStr, ...] = Field(
        (), description="Key ring for e-mail hashes, hex, as a JSON array: the first writes, any matches."
    )
    telemetry_port: int = Field(0, ge=0, description="Loopback port of /livez, /readyz and /metrics; 0 picks one.")
    instance: str = Field("0", description="Worker slot: static membership and replication origin are named after it.")
    source_epoch: int = Field(1, ge=1, description="Raised when the CRM database is restored; see Position.")
    log_level: str = Field("INFO", description="Least severe level that is logged.")

    @property
    def client_ids(self) -> tuple[str, ...]:
        """Every client, in a fixed order."""
        return tuple(sorted(set(self.clients) | set(self.inxmail)))

    def key_ring(self) -> KeyRing:
        """The keys for e-mail hashes. Raises: Misconfigured."""
        try:
            return KeyRing([bytes.fromhex(key.get_secret_value()) for key in self.hmac_keys])
        except ValueError as error:
            raise Misconfigured(
                "VERTEILER_HMAC_KEYS must be a JSON array of hex keys of at least 16 bytes; nothing was started"
            ) from error


SETTINGS_FILE = "settings.env"
"""Where `up` keeps, in its home, how to reach what it runs."""


def read_settings(home: Path | None = None) -> Settings:
    """The settings from the environment, and where that says nothing, from the stack that runs in `home`.

    Raises: Misconfigured, naming every fault at once and no value.
    """
    running = home is not None and (home / "endpoints.json").exists()
    return settings_from(home / SETTINGS_FILE if home is not None and running else None)


def settings_from(file: Path | None) -> Settings:
    """The settings from the environment, and where that says nothing, from a file of such variables.

    Raises: Misconfigured, as `read_settings`.
    """
    try:
        return Settings(_env_file=file)
    except ValidationError as error:
        faults = "; ".join(
            f"VERTEILER_{'__'.join(str(part).upper() for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        )
        raise Misconfigured(f"settings are wrong: {faults}") from None
