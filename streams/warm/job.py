"""Has the embedding of each entry of a list found in the cache or made, side by side, and counts what came of it."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from time import monotonic
from typing import Protocol

from streams.exceptions import EventError, StateError
from streams.warm.lists import Entry

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT = 4.0  # seconds for the pictures in flight
TURN = 64  # entries that are found without a pause, before others of the event loop have their turn


class Embeddings(Protocol):
    """Where embeddings come from: `Pictures`, or whoever keeps them elsewhere."""

    @property
    def unwritten(self) -> str:
        """Why an embedding could not be kept; "" when all could."""
        ...

    def cached(self, url: str) -> object | None:
        """The embedding if it is here already."""
        ...

    async def embedding(self, url: str) -> object:
        """The embedding. Raises EventError when it cannot be had."""
        ...


class Warming:
    """At most `in_flight` pictures are being made at a time, and at most `rate` are begun in a second."""

    def __init__(
        self, pictures: Embeddings, *, in_flight: int, rate: float | None, failed: Callable[[Entry], object]
    ) -> None:
        """failed: called with each entry that has no embedding, and why."""
        self._pictures = pictures
        self._places = asyncio.Semaphore(in_flight)
        self._pause = 1 / rate if rate else 0.0
        self._next = 0.0  # the moment of the next picture, on the monotonic clock
        self._report = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._urls: set[str] = set()  # of the pictures that are being made
        self.new = 0
        self.found = 0  # in the cache, or made for an earlier entry
        self.failed: Counter[str] = Counter()  # by reason

    @property
    def done(self) -> int:
        return self.new + self.found + self.failed.total()

    async def run(self, entries: AsyncGenerator[Entry]) -> None:
        """All entries. Raises what `entries` raises, and StateError when the cache cannot be written."""
        seen = 0
        async with aclosing(entries):
            async for entry in entries:
                self._check()
                if entry.reason:
                    self._fail(entry)
                elif self._pictures.cached(entry.url) is not None:
                    self.found += 1
                else:
                    await self._begin(entry)
                seen += 1
                if seen % TURN == 0:
                    await asyncio.sleep(0)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._check()

    async def finish(self, timeout: float) -> None:
        """Let the pictures that are being made be made, for so many seconds; give up the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _begin(self, entry: Entry) -> None:
        await self._places.acquire()
        repeated = entry.url in self._urls
        if not repeated and self._pause:
            await asyncio.sleep(self._next - monotonic())
            self._next = max(self._next, monotonic()) + self._pause
        self._urls.add(entry.url)
        task = asyncio.create_task(self._make(entry, repeated=repeated))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()

    async def _make(self, entry: Entry, *, repeated: bool) -> None:
        here = repeated or self._pictures.cached(entry.url) is not None  # made while this one waited for its place
        try:
            await self._pictures.embedding(entry.url)
        except EventError as error:
            self._fail(entry._replace(reason=error.reason, error=str(error)))
        except Exception as error:  # our defect must not end the others
            logger.exception("an unexpected error")
            self._fail(entry._replace(reason="internal_error", error=repr(error)))
        else:
            self.found += here
            self.new += not here
        finally:
            if not repeated:
                self._urls.discard(entry.url)

    def _fail(self, entry: Entry) -> None:
        self.failed[entry.reason] += 1
        self._report(entry)

    def _check(self) -> None:
        if self._pictures.unwritten:
            raise StateError(f"the cache cannot be written: {self._pictures.unwritten}")
