"""What was asked of the simulator, without a word about a person."""

from collections import Counter, deque
from collections.abc import Iterable
from itertools import islice

import msgspec

_SAFE = frozenset(
    {
        "pageSize",
        "afterId",
        "listId",
        "listIds",
        "subscribedTo",
        "subscribedToAny",
        "unsubscribedFromAny",
        "resubscribe",
        "truncate",
        "types",
        "embedded",
        "startDate",
        "endDate",
        "lastModifiedSince",
        "trackingPermissionsForLists",
        "subscriptionDatesForLists",
        "unsubscriptionDatesForLists",
        "allAttributes",
        "importConflictMode",
        "trackingPermissionConflictMode",
        "recipientIds",
        "createdAfter",
        "createdBefore",
        "modifiedAfter",
        "modifiedBefore",
        "sentAfter",
        "sentBefore",
        "mailingStates",
        "readyToSend",
        "isApproved",
        "hasSending",
        "mailingId",
        "mailingIds",
        "sendingId",
        "sendingIds",
        "sendingsFinishedAfterDate",
        "sendingsFinishedBeforeDate",
        "bounceCategory",
        "trackedOnly",
    }
)


class Entry(msgspec.Struct, gc=False):
    """One request. Addresses in the path read `{email}`; query values are kept only where they cannot be personal."""

    id: int
    at: float
    method: str
    path: str
    route: str
    query: dict[str, str | None]
    status: int
    milliseconds: float
    credential: str | None
    write: bool
    fault: str | None


def masked(segments: Iterable[str]) -> str:
    """The path as it may be logged."""
    return "/" + "/".join("{email}" if "@" in part else part for part in segments)


def route(segments: Iterable[str]) -> str:
    """The path with every id and address replaced: few enough to count by."""
    return "/" + "/".join("{id}" if "@" in part or part.isdigit() else part for part in segments)


class RequestLog:
    def __init__(self, entries: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=entries)
        self._next_id = 1
        self.requests = 0
        self.writes = 0
        """Requests that were carried out and may have changed something: no GET, answered below 400."""
        self.by_route: Counter[str] = Counter()
        self.by_status: Counter[str] = Counter()
        self.by_credential: Counter[str] = Counter()

    def note(
        self,
        *,
        at: float,
        method: str,
        segments: tuple[str, ...],
        query: tuple[tuple[str, str], ...],
        status: int,
        milliseconds: float,
        credential: str | None,
        carried_out: bool,
        fault: str | None,
    ) -> None:
        """`status` 0: no answer was sent. `carried_out`: the request took effect, whatever the client saw."""
        write = carried_out and method not in ("GET", "HEAD", "OPTIONS")
        pattern = f"{method} {route(segments)}"
        self._entries.append(
            Entry(
                self._next_id,
                at,
                method,
                masked(segments),
                pattern,
                {
                    name if "." not in name else "attributes.*": value if name in _SAFE else None
                    for name, value in query
                },
                status,
                round(milliseconds, 3),
                credential,
                write,
                fault,
            )
        )
        self._next_id += 1
        self.requests += 1
        self.writes += write
        self.by_route[pattern] += 1
        self.by_status[str(status)] += 1
        if credential is not None:
            self.by_credential[credential] += 1

    def since(self, id_: int) -> Iterable[Entry]:
        """Entries with a higher id."""
        offset = id_ + 1 - self._entries[0].id if self._entries else 0
        return islice(self._entries, max(offset, 0), None)

    @property
    def last_id(self) -> int:
        return self._next_id - 1
