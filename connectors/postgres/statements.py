"""SQL in files: each statement stands under a line `-- name --`, the comments below it say what $1… are."""

import re
from importlib import resources

_HEADING = re.compile(r"^-- (?P<name>[a-z][a-z0-9_]*) --$", re.MULTILINE)


def load(package: str, filename: str) -> dict[str, str]:
    """The statements of `filename` in `package`, by name, in the file's order.

    Raises: ValueError, when the file names one statement twice or holds none.
    """
    text = (resources.files(package) / filename).read_text("utf-8")
    parts = _HEADING.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{package}/{filename}: no statements, or a name that stands twice")
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}
