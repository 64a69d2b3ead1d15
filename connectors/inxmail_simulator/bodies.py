"""Reading a JSON body field by field: every problem is gathered, so that one answer names them all."""

from collections.abc import Mapping
from typing import Any

from connectors.inxmail_simulator.blacklist import is_address
from connectors.inxmail_simulator.problems import invalid_body
from connectors.inxmail_simulator.state import Attribute
from connectors.inxmail_simulator.values import Value, from_json


class Body:
    """A decoded object and the problems found in it so far."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._problems: list[tuple[str, str]] = []
        self._detail: str | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._document

    def problem(self, field: str, phrase: str) -> None:
        self._problems.append((field, phrase))

    def text(self, name: str, *, required: bool = False, longest: int = 255) -> str | None:
        value = self._document.get(name)
        if value is None:
            if required:
                self.problem(name, "must not be null")
            return None
        if not isinstance(value, str):
            self.problem(name, "must be a text")
        elif value != value.strip():
            self.problem(name, "must not contain padding whitespace characters")
        elif not 1 <= len(value) <= longest and (value or required):
            self.problem(name, f"size must be between 1 and {longest} inclusive")
        else:
            return value
        return None

    def email(self, name: str = "email", *, required: bool = True) -> str:
        """The address; empty when there is none."""
        value = self.text(name, required=required)
        if value and not is_address(value):
            self.problem(name, "must be a valid email address")
        return value or ""

    def number(self, name: str, *, required: bool = False) -> int | None:
        """A whole number, also as text, as the vendor's own connector sends list ids."""
        value = self._document.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if value is not None or required:
            self.problem(name, "must not be null" if value is None else "must be a number")
        return None

    def choice(self, name: str, allowed: Mapping[str, Any], *, required: bool = False) -> Any:
        """The member of an enumeration that the text names, or None."""
        value = self._document.get(name)
        if value is None:
            if required:
                self.problem(name, "must not be null")
            return None
        if not isinstance(value, str) or value not in allowed:
            self.problem(name, f"must be one of {', '.join(allowed)}")
            return None
        return allowed[value]

    def values(
        self, known: Mapping[str, Attribute], *, required: bool = False, coerce_text: bool = False
    ) -> dict[int, Value]:
        """`attributes`: position → value. An unknown name is told in `detail`."""
        given = self._document.get("attributes")
        if given is None:
            if required:
                self.problem("attributes", "must not be null")
            return {}
        if not isinstance(given, dict):
            self.problem("attributes", "must be an object")
            return {}
        values: dict[int, Value] = {}
        for name, value in given.items():
            attribute = known.get(name)
            if attribute is None:
                self.problem(f"attributes.{name}", "is not known")
                self._detail = f"There is no attribute '{name}'"
                continue
            try:
                values[attribute.position] = from_json(
                    attribute.type, attribute.max_length, value, coerce_text=coerce_text
                )
            except ValueError as error:
                self.problem(f"attributes.{name}", str(error))
        return values

    def check(self) -> None:
        """Raises: Problem, 400 invalid-request-body, when anything was wrong."""
        if self._problems:
            raise invalid_body(*self._problems, detail=self._detail)
