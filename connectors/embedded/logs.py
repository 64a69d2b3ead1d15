"""Log files of other programs: what they say when they die, and how they stay short."""

import os
import re
import shutil
from pathlib import Path

_MAX_BYTES = 10_000_000
_TAIL_BYTES = 200_000
_TELLING = re.compile(r"\b(FATAL|PANIC|ERROR)\b|Error\b|Exception\b|Caused by|failed to")
_TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ][\d:.,]+( UTC)?( \[\d+\])?\s+")
_TRACE = re.compile(r"^\s*(at |\.\.\. \d+ more|File \")")


def last_error(text: str) -> str:
    """The line that most likely says why, without its time: the last that looks like an error, else the last at all."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _TRACE.match(line)]
    telling = [line for line in lines if _TELLING.search(line)]
    return _TIME.sub("", (telling or lines or [""])[-1])[:400]


def since(path: Path, offset: int) -> str:
    """What was written after `offset`, in bytes; of much, the end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(min(offset, size), size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def rotate(path: Path, max_bytes: int = _MAX_BYTES) -> None:
    """Keep one older generation, `<name>.1`. Copies and truncates: the process goes on writing, and it appends.

    What is written between the two is lost. On a full disk the older generation is given up for the space.
    """
    if not path.exists() or path.stat().st_size <= max_bytes:
        return
    older = path.with_name(path.name + ".1")
    try:
        shutil.copyfile(path, older)
    except OSError:
        older.unlink(missing_ok=True)
    os.truncate(path, 0)
