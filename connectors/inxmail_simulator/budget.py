"""The request budget: fixed windows, one for each credential."""

from typing import NamedTuple

import msgspec

from connectors.inxmail_simulator.options import Behaviour


class _Window(msgspec.Struct):
    started_at: float
    used: int = 0


class Draw(NamedTuple):
    """What the three rate headers say, and whether the request may go on."""

    granted: bool
    limit: int
    remaining: int
    reset_seconds: int


class Budget:
    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def take(self, credential: str | None, now: float, behaviour: Behaviour) -> Draw:
        """Use one request of a credential's window; without a credential nothing is used."""
        limit, length = behaviour.requests_per_minute, behaviour.window_seconds
        if credential is None:
            return Draw(True, limit, limit, int(length))
        key = "" if behaviour.share_budget else credential
        window = self._windows.get(key)
        if window is None or not window.started_at <= now < window.started_at + length:
            window = self._windows[key] = _Window(now)
        window.used += 1
        reset = max(1, int(window.started_at + length - now + 0.999))
        return Draw(window.used <= limit, limit, max(limit - window.used, 0), reset)
