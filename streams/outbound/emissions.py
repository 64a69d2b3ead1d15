"""What a transaction decides to produce: content decides whether a record has a new version."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from connectors.store.decisions import Decisions, EmissionRow
from schemas.crm import RecipientStatus, SuppressionRecord
from schemas.mutations import Mutation, Version

Emitted = Mutation | RecipientStatus | SuppressionRecord
CONTRACTS: dict[str, type[Emitted]] = {
    "mutation": Mutation,
    "recipient-status": RecipientStatus,
    "suppression-record": SuppressionRecord,
}
"""Contract → type of what decide produces."""

_TOMBSTONE = b"tombstone"


def digest_of(content: msgspec.Struct) -> bytes:
    """32 bytes over a record's content."""
    return hashlib.sha256(msgspec.json.encode(content)).digest()


class Emissions:
    """Compares what is decided with what was decided before, and keeps what differs."""

    def __init__(self, rebuild_epoch: int) -> None:
        self._epoch = rebuild_epoch
        self._known: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._changed: dict[tuple[str, str], EmissionRow] = {}
        self._waiting: set[tuple[str, str]] = set()

    async def know(self, store: Decisions, keys: Iterable[tuple[str, str]]) -> None:
        """Read what was decided for these (topic, key) before; their mailboxes are locked."""
        self._known = await store.emissions(list(keys))

    @property
    def changed(self) -> list[EmissionRow]:
        """The rows with a new version."""
        return [self._changed[key] for key in sorted(self._changed)]

    @property
    def to_produce(self) -> list[EmissionRow]:
        """Those of them that are to be produced at once."""
        return [self._changed[key] for key in sorted(self._changed.keys() - self._waiting)]

    def version_of(self, topics: Iterable[str], key: str) -> Version | None:
        """The newest version in any of these topics, decided now or before; None: never."""
        known = self._newest(topics, key)
        return Version(self._epoch, known[0]) if known else None

    def _newest(self, topics: Iterable[str], key: str) -> tuple[int, bytes] | None:
        """(version, digest)."""
        found = (self._known[topic, key] for topic in topics if (topic, key) in self._known)
        return max(found, key=lambda known: known[0], default=None)

    def put(
        self,
        topic: str,
        key: str,
        contract: str,
        digest: bytes,
        build: Callable[[Version], msgspec.Struct],
        caused_at: datetime,
        email_hash: bytes | None,
        among: Iterable[str] = (),
        may_wait: bool = False,
    ) -> Version:
        """Keep the record that `build` makes if `digest` is new; the version that now stands.

        among: topics that carry the records of this key by turns; one order of versions holds for all of them.
        may_wait: another version is expected in a moment; if none comes, the sweeper produces this one.
        """
        known = self._newest({topic, *among}, key)
        if known is not None and known[1] == digest:
            return Version(self._epoch, known[0])
        version = Version(self._epoch, (known[0] if known else 0) + 1)
        if may_wait:
            self._waiting.add((topic, key))
        record = build(version)
        body = msgspec.json.encode(record).decode()
        self._keep(EmissionRow(topic, key, contract, version.counter, digest, body, email_hash, caused_at, record))
        return version

    def bury(self, topic: str, key: str, contract: str, caused_at: datetime) -> None:
        """What the record was about is gone: a tombstone, if there ever was a record."""
        known = self._known.get((topic, key))
        if known is not None and known[1] != _TOMBSTONE:
            self._keep(EmissionRow(topic, key, contract, known[0] + 1, _TOMBSTONE, None, None, caused_at))

    def _keep(self, row: EmissionRow) -> None:
        self._known[row.topic, row.key] = row.version, row.hash
        self._changed[row.topic, row.key] = row
