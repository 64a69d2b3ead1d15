"""Addresses: what counts as one, and which are blocked."""

import re

import msgspec

_LOCAL = r"[^\s@<>()\[\],;:\"\\]+"
_ADDRESS = re.compile(rf"{_LOCAL}@[^\s@<>()\[\],;:\"\\/]+\.[^\s@<>()\[\],;:\"\\/.]{{2,}}")


def is_address(text: str) -> bool:
    """Whether this system takes the text for an e-mail address. Umlauts are letters like any other."""
    return (
        len(text) <= 255
        and _ADDRESS.fullmatch(text) is not None
        and ".." not in text
        and not text.startswith((".", "@"))
        and ".@" not in text
        and "@." not in text
    )


class Entry(msgspec.Struct):
    id: int
    pattern: str
    description: str | None
    created_at: float
    modified_at: float


class Blacklist:
    """Patterns with `*`, upper and lower case alike. Plain addresses cost nothing to look up."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self._plain: set[str] = set()
        self._wild: re.Pattern[str] | None = None
        self._next_id = 1

    def add(self, pattern: str, description: str | None, now: float) -> Entry:
        entry = Entry(self._next_id, pattern, description, now, now)
        self._next_id += 1
        self.entries[entry.id] = entry
        self._compile()
        return entry

    def change(self, entry: Entry, pattern: str, description: str | None, now: float) -> None:
        entry.pattern, entry.description, entry.modified_at = pattern, description, now
        self._compile()

    def remove(self, id_: int) -> None:
        """Raises: KeyError. Whom the entry deleted stays deleted."""
        del self.entries[id_]
        self._compile()

    def has(self, pattern: str) -> bool:
        return any(entry.pattern.lower() == pattern.lower() for entry in self.entries.values())

    def blocks(self, email: str) -> bool:
        folded = email.lower()
        return folded in self._plain or (self._wild is not None and self._wild.fullmatch(folded) is not None)

    def _compile(self) -> None:
        patterns = [entry.pattern.lower() for entry in self.entries.values()]
        self._plain = {pattern for pattern in patterns if "*" not in pattern}
        wild = [
            "".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", p))
            for p in patterns
            if "*" in p
        ]
        self._wild = re.compile("|".join(f"(?:{pattern})" for pattern in wild), re.DOTALL) if wild else None
