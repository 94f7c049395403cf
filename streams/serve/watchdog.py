"""Ends a serve worker that hangs, so that its supervisor restarts it.

A worker that cannot follow the bags goes on answering, and says how old its answers are: an outage of the broker is no stall. A
reader that neither gets on nor gives up has a defect, or waits for a disk that hangs.
"""

import asyncio
import faulthandler
from collections.abc import Callable

from streams.exceptions import StallError

CHECKS = 6  # per stall time-out, at least
INTERVAL = 10.0  # seconds between two checks, at most


class ServeWatchdog:
    """Checks for as long as `run` runs.

    Args:
        still: seconds since the readers came round (`streams.kafka.following.Following.still`).
        timeout: seconds that a stall may last.
    """

    def __init__(self, still: Callable[[], float], timeout: float) -> None:
        self._still = still
        self._timeout = timeout

    @property
    def seconds(self) -> float:
        """Of the stall, so far."""
        return self._still()

    @property
    def live(self) -> bool:
        """Whether the stall, if there is one, is younger than half of the time-out."""
        return self.seconds < self._timeout / 2

    async def run(self) -> None:
        """Check until the worker stalls.

        If the event loop itself is blocked for `timeout` seconds, Python prints the stacks of all threads, and the process ends
        with code 1.

        Raises:
            StallError: it stalled for `timeout` seconds.
        """
        try:
            while True:
                faulthandler.dump_traceback_later(max(self._timeout, 1.0), exit=True)
                if (seconds := self.seconds) >= self._timeout:
                    raise StallError(f"stalled: neither read the bags nor gave up for {seconds:.0f} s")
                await asyncio.sleep(min(self._timeout / CHECKS, INTERVAL))
        finally:
            faulthandler.cancel_dump_traceback_later()
