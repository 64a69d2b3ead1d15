"""Every choice the simulator makes where the contract is silent, each behind a name; what an account starts with."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)

from connectors.inxmail_simulator.faults import Plan
from connectors.inxmail_simulator.subscription import Process
from connectors.inxmail_simulator.values import AttributeType
from schemas.errors import Misconfigured

_FROZEN = ConfigDict(frozen=True, extra="forbid")

Undocumented = Literal["memberships", "recipient-lists", "list-settings"]
ConflictMode = Literal["OVERWRITE_FULL", "UPDATE", "KEEP_EXISTING"]
PermissionConflictMode = Literal["OVERWRITE_FULL", "KEEP_EXISTING"]


class Behaviour(BaseModel):
    """What may be changed while the simulator runs. Defaults are choices, not facts about the real API."""

    model_config = _FROZEN

    requests_per_minute: int = Field(600, ge=1, description="Budget of one window.")
    window_seconds: float = Field(60.0, gt=0, description="Length of the fixed request window.")
    share_budget: bool = Field(False, description="All credentials draw on one budget instead of one each.")
    retry_after: bool = Field(False, description="Send Retry-After with 429.")
    lower_case_headers: bool = Field(False, description="Header names as HTTP/2 delivers them.")

    page_size_default: int = Field(100, ge=1, description="Page size when none is asked for.")
    page_size_maximum: int = Field(1000, ge=1, description="Largest page.")
    page_size_over_maximum: Literal["reject", "clamp"] = Field("reject", description="What happens above it.")
    embedded_when_empty: bool = Field(False, description="Send `_embedded` with an empty array for an empty page.")

    recipient_delay_ms: float = Field(0, ge=0, description="A new recipient appears in the collection this much later.")
    recipient_delay_jitter_ms: float = Field(
        0, ge=0, description="Up to this much more for each; it may then appear behind a reader."
    )
    recipient_by_email: bool = Field(False, description="GET and DELETE accept an address as id, as PATCH does.")
    unknown_attribute_names: Literal["reject", "ignore"] = Field("reject", description="In the parameter `attributes`.")
    if_modified_since: Literal["filter", "not-modified", "ignore"] = Field(
        "filter",
        description="On attributes and target groups: filter, or 304 when none is newer, or ignore it.",
    )

    event_delay_ms: float = Field(500, ge=0, description="Write buffer of the event logs.")
    event_delay_jitter_ms: float = Field(0, ge=0, description="Up to this much more, drawn for each event.")
    event_ids: Literal["visibility", "creation"] = Field("visibility", description="When an event gets its id.")
    event_duplicate_share: float = Field(0, ge=0, le=1, description="This part of the events is readable twice.")
    event_duplicate_ids: Literal["same", "new"] = Field("same", description="Under which id the second time.")
    untracked_reactions: Literal["anonymous", "named"] = Field(
        "anonymous", description="Whether an opening or click without permission still names its recipient."
    )
    event_on_import: bool = Field(False, description="Imports write subscription events.")
    permission_event_on_import: bool = Field(True, description="Imports write tracking-permission events.")

    opt_in: Process = Field(Process.SINGLE, description="Of lists created through the API.")
    opt_out: Process = Field(Process.SINGLE, description="Of lists created through the API.")
    opt_in_timeout_hours: float = Field(168, gt=0, description="An unconfirmed subscription or unsubscription lapses.")
    unsubscribe_non_member: Literal["refuse", "answer"] = Field(
        "refuse", description="400 unsubscription-error, or 200 NOT_IN_LIST_UNSUBSCRIPTION / NOT_IN_SYSTEM_…."
    )
    duplicate_subscription_applies_attributes: bool = Field(True, description="Also when already subscribed.")
    subscription_coerces_text: bool = Field(True, description="Numbers and booleans may arrive as text.")
    subscription_recipient_id: str | None = Field(None, description="Name of a response field with the recipient's id.")

    import_rows_per_second: float | None = Field(5000, ge=0, description="None: as fast as possible. 0: only by step.")
    import_start_ms: float = Field(200, ge=0, description="An import stays NEW this long.")
    import_conflict_mode: ConflictMode = Field("OVERWRITE_FULL", description="When the request names none.")
    import_permission_conflict_mode: PermissionConflictMode = Field(
        "OVERWRITE_FULL", description="When the request names none."
    )
    import_busy_list: Literal["accept", "lock"] = Field("accept", description="A second import to a list at work.")
    import_max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="A larger request is answered with 413.")
    import_duplicate_row: Literal["apply", "ignore"] = Field("apply", description="Last row wins, or row error.")
    import_refused_row_updates: bool = Field(False, description="UNSUBSCRIPTION_ERROR rows still change attributes.")
    import_error_value: Literal["email", "cell"] = Field("email", description="What `value` of a row error holds.")

    count_refresh_seconds: float = Field(60, ge=0, description="Age above which reading a list's count renews it.")
    count_delay_ms: float = Field(1000, ge=0, description="The renewed count is served this much later.")

    undocumented: frozenset[Undocumented] = Field(
        frozenset(), description="Endpoints of unknown form that answer with the simulator's default instead of 501."
    )

    def changed(self, changes: Mapping[str, object]) -> Self:
        """Raises: ValidationError, when a name or a value is wrong."""
        return type(self).model_validate(self.model_dump() | dict(changes))


class ListSeed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(min_length=1, max_length=255)
    id: int | None = Field(None, ge=2, description="The next free one when not given.")
    opt_in: Process = Field(Process.SINGLE, alias="optIn")
    opt_out: Process = Field(Process.SINGLE, alias="optOut")
    type: Literal["STANDARD", "DYNAMIC", "ADMIN"] = "STANDARD"
    detached: bool = Field(False, description="A tracking permission may be stored for a non-member.")
    delete_when_left: bool = Field(False, alias="deleteWhenLeft", description="Leaving the last list deletes.")


class AttributeSeed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(min_length=1, max_length=255)
    type: AttributeType = AttributeType.TEXT
    max_length: int | None = Field(None, alias="maxLength", ge=1, le=255)


DEMO_LISTS = (
    ListSeed(name="Newsletter"),
    ListSeed(name="Veranstaltungen", opt_in=Process.DOUBLE),
    ListSeed(name="Kundeninformation"),
)
DEMO_ATTRIBUTES = (
    AttributeSeed(name="Anrede", max_length=50),
    AttributeSeed(name="Vorname", max_length=100),
    AttributeSeed(name="Nachname", max_length=100),
    AttributeSeed(name="Ort", max_length=100),
    AttributeSeed(name="Geburtstag", type=AttributeType.DATE_ONLY),
    AttributeSeed(name="Umsatz", type=AttributeType.FLOATING_POINT_NUMBER),
)


def _rooted(path: str) -> str:
    path = "/" + path.strip("/")
    if path == "/" or path.startswith("/_control"):
        raise ValueError("needs a path of its own, such as /demo/rest/v1")
    return path


def _plans(given: Any) -> tuple[Plan, ...]:
    try:
        return msgspec.convert(given, tuple[Plan, ...])
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


class SimulatorOptions(BaseModel):
    """One simulated Inxmail account: where it listens, who may enter, what it starts with, how it behaves.

    Each credential (user name → secret) has a request budget of its own. The control API takes another secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    credentials: dict[str, SecretStr] = Field(min_length=1)
    control_token: SecretStr
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535, description="0: any free port.")
    base_path: Annotated[str, AfterValidator(_rooted)] = "/demo/rest/v1"
    first_list_id: int = Field(7, ge=2)
    first_attribute_id: int = Field(19, ge=1)
    first_recipient_id: int = Field(101, ge=1)
    system_list: bool = Field(True, description="A list of type SYSTEM under id 1.")
    lists: tuple[ListSeed, ...] = DEMO_LISTS
    attributes: tuple[AttributeSeed, ...] = DEMO_ATTRIBUTES
    behaviour: Behaviour = Behaviour()
    faults: Annotated[tuple[Plan, ...], PlainValidator(_plans)] = ()
    seed: int = Field(1, description="Of every random draw: event jitter, faults with a probability.")
    request_log_entries: int = Field(50_000, ge=1, description="Older entries are forgotten; counters are not.")

    @model_validator(mode="after")
    def _secrets_filled(self) -> Self:
        if not self.control_token.get_secret_value() or not all(
            user and secret.get_secret_value() for user, secret in self.credentials.items()
        ):
            raise ValueError("credentials and control_token must not be empty")
        return self


CREDENTIALS_VARIABLE = "INXMAIL_SIMULATOR_CREDENTIALS"
TOKEN_VARIABLE = "INXMAIL_SIMULATOR_CONTROL_TOKEN"


def options_from(document: str | None, env: Mapping[str, str], **settings: object) -> SimulatorOptions:
    """Options from a JSON document, explicit settings (which win) and the two secrets in the environment.

    Shape: INXMAIL_SIMULATOR_CREDENTIALS is a JSON object, user name → secret.
    Raises: Misconfigured, naming every fault at once and no secret.
    """
    faults = [f"{name} is not set" for name in (CREDENTIALS_VARIABLE, TOKEN_VARIABLE) if not env.get(name)]
    values: dict[str, object] = {}
    for source, text in (("the options document", document), (CREDENTIALS_VARIABLE, env.get(CREDENTIALS_VARIABLE))):
        try:
            parsed = json.loads(text) if text else {}
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            faults.append(f"{source} is no JSON object")
        elif source == CREDENTIALS_VARIABLE:
            values["credentials"] = parsed
        else:
            values |= parsed
    values |= settings | {"control_token": env.get(TOKEN_VARIABLE, "")}
    try:
        options = SimulatorOptions.model_validate(values)
    except ValidationError as error:
        where = [f"{'.'.join(map(str, fault['loc'])) or 'options'}: {fault['msg']}" for fault in error.errors()]
        raise Misconfigured("; ".join([*faults, *where])) from None
    if faults:
        raise Misconfigured("; ".join(faults))
    return options
