"""Ends a profile worker that stood still for longer than its session."""

import asyncio
from collections.abc import Callable
from time import monotonic

from streams.runtime.process import end_at_once


class FreezeGuard:
    """Ends this process once it has stood still (stopped, swapped out, paused with its machine) for longer than `limit` seconds.

    Others have its partitions then, and it does not know yet: whatever it holds or has buffered must not be written. So it
    ends at once, with nothing flushed, and what it had not committed is delivered again.
    """

    def __init__(
        self, limit: float, clock: Callable[[], float] = monotonic, end: Callable[[str], object] = end_at_once
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._end = end
        self._beat: float | None = None

    async def keep(self) -> None:
        """Run for as long as the event loop does, and look several times in `limit` seconds."""
        while True:
            self._beat = self._clock()
            await asyncio.sleep(self.limit / 6)
            self.check()

    def check(self) -> None:
        """To be called right before anything is sent, too."""
        if self._beat is None:
            return
        stood_still = self._clock() - self._beat
        if stood_still > self.limit:
            self._end(f"this process stood still for {stood_still:.1f} s, and somebody else may have its partitions")
