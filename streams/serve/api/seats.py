"""How many streams of server-sent events may be open, in all and of one token, and whether each of them may go on.

One task looks at all open streams, so that a stream without messages costs next to nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

from streams import metrics
from streams.serve.api.problems import Problem

LOOK = 1.0  # seconds between two looks at whether the clients are still there, and their tokens
TURN = 100  # streams that are looked at without a pause


class Seats:
    """The open streams of all kinds."""

    def __init__(self, limit: int, limit_each: int) -> None:
        """`limit`: streams that may be open; `limit_each`: of one token."""
        self._limit = limit
        self._limit_each = limit_each
        self._taken: Counter[str] = Counter()  # by name of the token
        self._watched: dict[int, tuple[Callable[[], bool], Callable[[], None]]] = {}
        self._number = 0
        self._watcher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return self._taken.total()

    def take(self, caller: str) -> None:
        """Open a stream. Raises Problem if there are too many.

        Args:
            caller: name of the token.
        """
        if self._taken[caller] >= self._limit_each:
            raise Problem(
                "too_many_token_streams",
                f"the token has {self._limit_each} open streams (SERVE_TOKEN_STREAMS)",
                retry_after=10,
            )
        if len(self) >= self._limit:
            raise Problem("too_many_streams", f"{self._limit} streams are open (SERVE_STREAMS)", retry_after=10)
        self._taken[caller] += 1
        metrics.serve_streams.set(len(self))

    def leave(self, caller: str) -> None:
        """Close a stream."""
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]
        metrics.serve_streams.set(len(self))

    @contextmanager
    def watched(self, may_go_on: Callable[[], bool], end: Callable[[], None]) -> Generator[None]:
        """Call `end` once a stream may not go on, while this is open."""
        self._number = number = self._number + 1
        self._watched[number] = may_go_on, end
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            del self._watched[number]
            if not self._watched:
                self._watcher.cancel()
                self._watcher = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for turn, (may_go_on, end) in enumerate(list(self._watched.values()), start=1):
                if not may_go_on():
                    end()
                if not turn % TURN:
                    await asyncio.sleep(0)
