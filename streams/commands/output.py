"""Where a command's words go: its result to standard output, all else to standard error."""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console

errors = Console(stderr=True, highlight=False)
"""For progress and remarks. Nothing a program would read."""


_WIDTH = 160
"""Columns where the output goes to a file or another program, which has none of its own."""


def tell(document: Any, *, as_json: bool, human: Callable[[Console], None]) -> None:
    """Print the result: as one JSON document, or as `human` shows it."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
        sys.stdout.flush()
    else:
        human(Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH))
