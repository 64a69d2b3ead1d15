"""An event loop whose time passes by itself: whatever waits for a time has waited for it at once."""

import asyncio
import selectors


class _Instant(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """For `asyncio.Runner(loop_factory=...)`. Nothing outside of it may be waited for."""

    def __init__(self) -> None:
        self._instant = _Instant()
        super().__init__(self._instant)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._instant.now
