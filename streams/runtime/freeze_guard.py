"""Ends a profile worker that was paused for longer than its session: stopped, swapped out, or frozen with its machine.

Other workers own its partitions by then, but it does not know yet. Whatever it holds or has buffered must not be written, so
the process ends at once without flushing. Its uncommitted events are delivered again.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from streams.runtime.process import end_at_once


class FreezeGuard:
    """Ends this process if the event loop has not run for longer than `limit` seconds."""

    def __init__(
        self, limit: float, clock: Callable[[], float] = monotonic, end: Callable[[str], object] = end_at_once
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._end = end
        self._beat: float | None = None  # monotonic time of the last check in `keep`

    async def keep(self) -> None:
        """Check several times per `limit` seconds, for as long as the event loop runs."""
        while True:
            self._beat = self._clock()
            await asyncio.sleep(self.limit / 6)
            self.check()

    def check(self) -> None:
        """End the process if it was paused for too long. Call this right before sending anything as well."""
        if self._beat is None:
            return
        paused = self._clock() - self._beat
        if paused > self.limit:
            self._end(f"this process was paused for {paused:.1f} s, and another worker may own its partitions")
