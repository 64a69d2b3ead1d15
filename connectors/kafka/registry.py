"""The schema registry: where our contracts get their ids, and writers' schemas are read back by id.

One subject for each contract, named after its record (`verteiler.Mutation`), whatever topics carry it.
"""

import asyncio
import json
from collections.abc import Collection, Iterable
from importlib import resources
from time import monotonic
from types import TracebackType
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from connectors.kafka.settings import KafkaSettings
from schemas import codec
from schemas.errors import MalformedInput, Misconfigured, PipelineError, Refused, Unavailable

Struct = TypeVar("Struct", bound=msgspec.Struct)

OWN_COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
FOREIGN_COMPATIBILITY: Final = "NONE"
"""Debezium's subjects: a changed CRM column is ours to handle, and must never stop capture."""

_LOOK_SECONDS: Final = 0.5
_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"


def contracts() -> tuple[str, ...]:
    """The names of all our contracts."""
    folder = resources.files("schemas") / "avro"
    return tuple(sorted(entry.name.removesuffix(".avsc") for entry in folder.iterdir() if entry.name.endswith(".avsc")))


def subject_of(contract: str) -> str:
    """The registry's subject for a contract: the full name of its record."""
    return str(codec.contract(contract)["name"])


class Registry:
    """Ids and schemas, each asked for once. Every request has a deadline; nothing is retried here.

    Raises in every method: Unavailable, when the registry does not answer; Misconfigured, when it answers as no
    registry of ours would.
    """

    def __init__(
        self, settings: KafkaSettings, *, timeout_seconds: float = 10.0, patience_seconds: float = 12.0
    ) -> None:
        self._base = settings.registry_url.rstrip("/") + settings.registry_path
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._patience_seconds = patience_seconds
        self._session: aiohttp.ClientSession | None = None
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, codec.AvroSchema] = {}

    async def __aenter__(self) -> "Registry":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    async def register(self, names: Collection[str] | None = None) -> dict[str, int]:
        """Register our contracts, all by default, and set both kinds of compatibility; the ids. May be repeated.

        Raises: Refused, when a contract would make older records unreadable.
        """
        await self._put_compatibility("/config", FOREIGN_COMPATIBILITY)
        for name in contracts() if names is None else names:
            subject = subject_of(name)
            rule = f"/config/{subject}"
            # A new version must be judged by the rule; a subject can have one only once it exists.
            existed = await self._found("GET", f"/subjects/{subject}/versions")
            if existed is not None:
                await self._put_compatibility(rule, OWN_COMPATIBILITY)
            answer = await self._ask("POST", f"/subjects/{subject}/versions", _schema_body(name))
            if existed is None:
                await self._put_compatibility(rule, OWN_COMPATIBILITY)
            self._ids[name] = int(answer["id"])
        return dict(self._ids)

    async def unregistered(self) -> list[str]:
        """The contracts whose present text the registry does not know. Changes nothing."""
        return [
            name
            for name in contracts()
            if await self._found("POST", f"/subjects/{subject_of(name)}", _schema_body(name)) is None
        ]

    async def id_of(self, contract: str) -> int:
        """The id under which values of that contract are written. Raises: Misconfigured, when it is not registered."""
        known = self._ids.get(contract)
        if known is None:
            answer = await self._found("POST", f"/subjects/{subject_of(contract)}", _schema_body(contract))
            if answer is None:
                raise Misconfigured(
                    f"the registry does not know contract {contract} as this program writes it; nothing was written:"
                    " run `verteiler provision`"
                )
            known = self._ids[contract] = int(answer["id"])
        return known

    async def writer_schema(self, schema_id: int) -> codec.AvroSchema:
        """The schema with which a value was written.

        An id that is not found is asked for again for `patience_seconds`: after a restart the registry answers before
        it has read all of its own journal, and a record must not be parked for that.
        Raises: MalformedInput, when no schema has that id; Misconfigured, when the registry has lost its contents.
        """
        known = self._schemas.get(schema_id)
        if known is None:
            answer = await self._eventually(f"/schemas/ids/{schema_id}")
            if answer is None:
                # An emptied registry would have every record of every topic parked.
                if not await self._found("GET", f"/subjects/{subject_of('dead-letter')}/versions"):
                    raise Misconfigured(
                        "the registry knows none of our contracts: its storage was lost or never provisioned. No record"
                        " was passed over; restore its storage, or run `verteiler provision` if it is new"
                    )
                raise MalformedInput(f"the registry knows no schema {schema_id}")
            known = self._schemas[schema_id] = codec.parse_schema(answer["schema"])
        return known

    def known_schema(self, schema_id: int) -> codec.AvroSchema | None:
        """The schema, if it has been read before. Never waits."""
        return self._schemas.get(schema_id)

    async def compatibility(self, contract: str | None = None) -> str | None:
        """The rule of a contract's subject, or that of everybody else. Changes nothing."""
        path = "/config" if contract is None else f"/config/{subject_of(contract)}"
        answer = await self._found("GET", path)
        return None if answer is None else str(answer.get("compatibilityLevel"))

    async def _eventually(self, path: str) -> Any:
        deadline = monotonic() + self._patience_seconds
        while (answer := await self._found("GET", path)) is None and monotonic() < deadline:  # noqa: ASYNC110 # far side
            await asyncio.sleep(_LOOK_SECONDS)
        return answer

    async def _put_compatibility(self, path: str, level: str) -> None:
        await self._ask("PUT", path, {"compatibility": level})

    async def _found(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer, or None when there is no such thing."""
        try:
            return await self._ask(method, path, body)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.request(
                method, self._base + path, json=body, headers={"Content-Type": _MEDIA_TYPE}
            ) as response:
                text = await response.text()
                if failure := failure_of(response.status, text):
                    raise failure
                return json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise Unavailable(
                f"the schema registry does not answer: {type(error).__name__}; nothing was lost"
            ) from error
        except ValueError as error:
            raise Misconfigured("what answers as schema registry speaks another language than its API") from error


def failure_of(status: int, text: str = "") -> PipelineError | None:
    """What a status of the registry means. `text` is its body, which names schemas and never data."""
    if 200 <= status < 300:
        return None
    if status in (401, 403):
        return Misconfigured(f"the schema registry refuses our access ({status})")
    if status in (408, 429) or status >= 500:
        return Unavailable(f"the schema registry cannot do it now ({status}); nothing was lost")
    return Refused(f"the schema registry refused ({status}): {text[:300]}", status=status)


class Decoder:
    """Reads any Avro record of any topic with its writer's schema.

    Order: `prepare` a batch, which alone may wait, then `decode` each of its values.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._unknown: set[int] = set()

    async def prepare(self, values: Iterable[bytes | None]) -> None:
        """Read the schemas of these values that are not known yet. Values that are none are left to `decode`.

        Raises: Unavailable and Misconfigured, as the registry.
        """
        for schema_id in {found for value in values if value and (found := _framed_id(value)) is not None}:
            if self._registry.known_schema(schema_id) is None:
                try:
                    await self._registry.writer_schema(schema_id)
                    self._unknown.discard(schema_id)
                except MalformedInput:
                    self._unknown.add(schema_id)

    def decode(self, value: bytes) -> dict[str, Any]:
        """The record. Raises: MalformedInput, also when no schema has its id; LookupError, when not prepared."""
        schema_id = codec.schema_id_of(value)
        schema = self._registry.known_schema(schema_id)
        if schema is None:
            if schema_id in self._unknown:
                raise MalformedInput(f"the registry knows no schema {schema_id}")
            raise LookupError(f"schema {schema_id} was not prepared")
        return codec.unframe(value, schema)

    def decode_as(self, value: bytes, kind: type[Struct]) -> Struct:
        """The record as `kind`. Raises: as `decode`, and MalformedInput when it does not fit."""
        return codec.read(self.decode(value), kind)


def _framed_id(value: bytes) -> int | None:
    try:
        return codec.schema_id_of(value)
    except MalformedInput:
        return None


def _schema_body(contract: str) -> dict[str, str]:
    # One spelling for ever: whitespace in the file must not make a new version.
    return {"schema": json.dumps(json.loads(codec.contract_text(contract)), separators=(",", ":"))}
