"""Avro in the Confluent wire format: frame = zero byte, schema id (4 bytes, big-endian), Avro body. Pure.

Contracts lie in `schemas/avro/*.avsc`; the id under which the registry knows one comes from outside.
"""

import io
import json
import struct
from collections.abc import Mapping
from datetime import datetime as _datetime
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import fastavro
import msgspec
from fastavro.schema import SchemaParseException

from schemas.errors import MalformedInput

Struct = TypeVar("Struct", bound=msgspec.Struct)
AvroSchema = Any  # fastavro's own parsed form

_FRAME = struct.Struct(">bI")


def contract_text(name: str) -> str:
    """The `.avsc` text of a contract, by file name without ending, e.g. `mutation`."""
    return (resources.files("schemas") / "avro" / f"{name}.avsc").read_text("utf-8")


@cache
def contract(name: str) -> AvroSchema:
    """The parsed contract of that name."""
    return fastavro.parse_schema(json.loads(contract_text(name)))


def parse_schema(text: str) -> AvroSchema:
    """A writer's schema as the registry gives it. Raises: MalformedInput."""
    try:
        return fastavro.parse_schema(json.loads(text))
    except (ValueError, SchemaParseException) as error:
        raise MalformedInput("the registry's schema is no Avro schema") from error


def frame(schema_id: int, name: str, record: msgspec.Struct) -> bytes:
    """The wire bytes of `record` under contract `name`, known to the registry as `schema_id`."""
    body = io.BytesIO()
    body.write(_FRAME.pack(0, schema_id))
    fastavro.schemaless_writer(body, contract(name), plain(record))
    return body.getvalue()


def plain(record: msgspec.Struct) -> dict[str, Any]:
    """The record as dicts, lists and scalars, instants and bytes kept as they are."""
    built: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(bytes, _datetime))
    return built


def schema_id_of(value: bytes) -> int:
    """The id in the frame. Raises: MalformedInput, when there is no frame."""
    if len(value) < _FRAME.size:
        raise MalformedInput("too short for an Avro frame")
    magic, schema_id = _FRAME.unpack_from(value)
    if magic != 0:
        raise MalformedInput("not an Avro frame: the first byte is not zero")
    return int(schema_id)


def unframe(value: bytes, writer: AvroSchema) -> dict[str, Any]:
    """The record in the frame, read with its writer's schema. Raises: MalformedInput."""
    body = io.BytesIO(value)
    body.seek(_FRAME.size)
    try:
        record = fastavro.schemaless_reader(body, writer, None)
    except (EOFError, ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError) as error:
        raise MalformedInput(f"the Avro body cannot be read: {type(error).__name__}") from error
    if not isinstance(record, dict):
        raise MalformedInput("the Avro body is no record")
    return record


def read(record: Mapping[str, Any], kind: type[Struct]) -> Struct:
    """The typed record. Fields it does not know are passed over. Raises: MalformedInput, telling no value."""
    try:
        return msgspec.convert(record, kind)
    except msgspec.ValidationError as error:
        raise MalformedInput(f"not a {kind.__name__}: {str(error).rpartition(' - ')[2]}") from None
