"""Single calls or an import: whichever is done sooner. Pure."""

from collections.abc import Callable
from typing import Final

import msgspec

_WINDOW_SECONDS: Final = 60.0
_IMPORT_REQUESTS: Final = 5
"""What an import costs: sending it, reading its state, its files, its errors, the new recipients."""


class Means(msgspec.Struct, frozen=True):
    """What decides between single calls and an import, as measured.

    requests_left: of the window, for this; seconds_left: until the next one, which has window_requests. queued: calls
    that are waiting already. at_once: calls side by side. import_seconds: gives those of an import by its rows. most:
    single calls are not made for more mailboxes than these, however slow imports are.
    """

    requests_left: int
    seconds_left: float
    window_requests: int
    queued: int
    call_seconds: float
    at_once: int
    import_seconds: Callable[[int], float]
    most: int


def write_singly(mailboxes: int, means: Means) -> bool:
    """Whether single calls for so many mailboxes are done before an import for them would be, or cost no more."""
    if mailboxes > means.most:
        return False
    if means.queued + mailboxes <= _IMPORT_REQUESTS:
        return True
    return _seconds_singly(means.queued + mailboxes, means) <= _seconds_by_import(mailboxes, means)


def _seconds_singly(calls: int, means: Means) -> float:
    later = calls - means.requests_left
    for_each = means.call_seconds / means.at_once
    if later <= 0:
        return calls * for_each
    in_this_window = max(means.seconds_left, means.requests_left * for_each)
    return in_this_window + later * max(for_each, _WINDOW_SECONDS / means.window_requests)


def _seconds_by_import(rows: int, means: Means) -> float:
    begins = 0.0 if means.requests_left >= _IMPORT_REQUESTS else means.seconds_left
    return begins + _IMPORT_REQUESTS * means.call_seconds + means.import_seconds(rows)
