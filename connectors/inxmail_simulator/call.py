"""A request and an answer without any socket, so that the REST side can be read and tested as plain functions."""

from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote_plus

import msgspec

from connectors.inxmail_simulator.clock import instant
from connectors.inxmail_simulator.problems import Problem, invalid_body, invalid_parameter, type_mismatch

HAL = "application/hal+json;charset=UTF-8"
PROBLEM = "application/problem+json;charset=UTF-8"


class Part(msgspec.Struct, frozen=True):
    """One part of a multipart body."""

    file_name: str
    gzip: bool
    data: bytes


class Call(msgspec.Struct):
    """One request. `segments` are the decoded parts of the path below the base path, empty ones dropped.

    `base_url` is the one the client called; every link starts with it.
    """

    method: str
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    base_url: str
    now: float
    body: bytes = b""
    parts: Mapping[str, Part] | None = None

    def text(self, name: str) -> str | None:
        return next((value for key, value in self.query if key == name), None)

    def flag(self, name: str) -> bool:
        """A bare `?name` counts as true, its absence as false.  Raises: Problem."""
        return self.choice(name) or False

    def choice(self, name: str) -> bool | None:
        """True, false in any case of letters (a client in use sends `True`), or None when absent.  Raises: Problem."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("", "true", "false"):
            raise invalid_parameter(name, "must be true or false")
        return value.lower() != "false"

    def number(self, name: str) -> int | None:
        """Raises: Problem, type-mismatch."""
        value = self.text(name)
        return None if value is None else number(name, value)

    def numbers(self, name: str, *older_names: str) -> tuple[int, ...] | None:
        """Comma-separated ids under one of the names; None when all are absent.  Raises: Problem."""
        given = [(key, value) for key, value in self.query if key == name or key in older_names]
        return tuple(number(key, part) for key, value in given for part in value.split(",") if part) if given else None

    def names(self, name: str) -> tuple[str, ...] | None:
        """Comma-separated names; a parameter given several times adds up.  None when it is absent."""
        given = [value for key, value in self.query if key == name]
        return tuple(part for value in given for part in value.split(",") if part) if given else None

    def modified_since(self) -> float | None:
        """The header `If-Modified-Since`; HTTP says that an unreadable date is as if it were not there."""
        header = self.headers.get("If-Modified-Since")
        try:
            return None if header is None else parsedate_to_datetime(header).timestamp()
        except ValueError:
            return None

    def moment(self, name: str) -> float | None:
        """Raises: Problem."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return instant(value)
        except ValueError:
            raise invalid_parameter(name, "must be a timestamp such as 2018-01-16T11:42:32Z") from None

    def document(self, *media_types: str) -> dict[str, Any]:
        """The JSON object in the body.  Raises: Problem, 415 for another content type, 400 for no object."""
        sent = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if sent not in (media_types or ("application/json", "application/hal+json")):
            raise Problem(415)
        try:
            document = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise invalid_body(general=["The body is no JSON"]) from None
        if not isinstance(document, dict):
            raise invalid_body(general=["The body must be an object"])
        return document

    def href(self, **changes: int | None) -> str:
        """The address of this request with some parameters changed; the changed ones come first."""
        first = [(name, str(value)) for name, value in changes.items() if value is not None]
        rest = [(name, value) for name, value in self.query if name not in changes]
        query = "&".join(f"{_encoded(k)}={_encoded(v)}" if v else _encoded(k) for k, v in [*first, *rest])
        path = "/".join(quote(segment, safe="") for segment in self.segments)
        return f"{self.base_url}/{path}{'?' + query if query else ''}"

    def link(self, path: str) -> dict[str, str]:
        return {"href": f"{self.base_url}/{path}"}


class Answer(msgspec.Struct):
    status: int = 200
    body: object = None
    headers: Mapping[str, str] = {}
    content_type: str = HAL


def number(name: str, text: str) -> int:
    """Raises: Problem, type-mismatch."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise type_mismatch(name)
    return int(text)


def query_of(raw: str) -> tuple[tuple[str, str], ...]:
    """Decode a query string as forms do: `+` is a blank. A bare flag has an empty value."""
    return tuple(_pairs(raw))


def _pairs(raw: str) -> Iterator[tuple[str, str]]:
    for part in raw.split("&"):
        if part:
            name, _, value = part.partition("=")
            yield unquote_plus(name), unquote_plus(value)


def _encoded(text: str) -> str:
    return quote(text, safe=",:")
