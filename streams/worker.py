"""What the two workers have in common, seen by whoever runs them (`streams.runner`). The work itself is in `embed/` and `profile/`."""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import faust

from streams.delivery import InOrderAcks

logger = logging.getLogger(__name__)


class Worker(Protocol):
    """A Faust app with its own acknowledgement."""

    name: str  # "embed" or "profile"
    app: faust.App
    acks: InOrderAcks


class FreezeGuard:
    """Tells whether this process stood still (stopped, swapped out, paused with its machine) for longer than `limit` seconds.

    Others have its partitions then, and it does not know yet.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._beat = clock()

    def beat(self) -> None:
        """To be called several times in `limit` seconds."""
        self._beat = self._clock()

    @property
    def stood_still(self) -> bool:
        return self._clock() - self._beat > self.limit
