"""The page `docs/configuration.md`, made from the fields of the settings, so that it cannot tell another story.

`python -m streams.configuration` prints it.
"""

import sys
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from connectors.inxmail.settings import InxmailSettings
from streams.settings import Settings

_HEAD = """\
# Configuration

Everything is set by environment variables. A level of a name is separated by two underscores. `verteiler up` sets all
of them for the processes it starts, and hands on those that stand in its own environment; a stack that runs in a home
is found by every command given with the same `--home`, and the environment goes before what is found there.

A wrong or missing value is named, together with every other fault, and nothing is started (exit code 2).

This page is made from the program: `python -m streams.configuration > docs/configuration.md`.
"""


def page() -> str:
    """The whole page, Markdown."""
    fields = Settings.model_fields
    own = {name: field for name, field in fields.items() if _model(field) is None and name != "inxmail"}
    lines = [_HEAD, "## All processes", "", *_table("VERTEILER_", own)]
    for name, field in fields.items():
        if (model := _model(field)) is not None:
            lines += ["", f"## {_title(model)}", "", *_table(f"VERTEILER_{name.upper()}__", model.model_fields)]
    lines += [
        "",
        f"## {_title(InxmailSettings)}",
        "",
        "`<CLIENT>` is the BAF client id in upper case. `VERTEILER_INXMAIL` may hold them all as one JSON object,",
        '`{"a": {"base_url": …}}`; single variables go before it.',
        "",
        *_table("VERTEILER_INXMAIL__<CLIENT>__", InxmailSettings.model_fields),
    ]
    return "\n".join(lines) + "\n"


def _title(model: type[BaseModel]) -> str:
    return (model.__doc__ or model.__name__).strip().splitlines()[0].rstrip(".")


def _model(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(prefix: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield "| variable | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{prefix}{name.upper()}` | {_type(field.annotation)} | {_default(field)} | {meaning} |"


def _type(annotation: Any) -> str:
    if annotation is SecretStr:
        return "secret"
    if get_origin(annotation) in (tuple, list):
        return f"JSON array of {_type(get_args(annotation)[0])}"
    if isinstance(annotation, UnionType):
        return " or ".join(_type(part) for part in get_args(annotation))
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    name = str(annotation.__name__)
    return words.get(name, name)


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "must be set"
    if isinstance(default, SecretStr) or default in ("", ()):
        return "–"
    return f"`{default}`"


if __name__ == "__main__":
    sys.stdout.write(page())
