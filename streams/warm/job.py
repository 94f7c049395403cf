"""Embeds the pictures of all entries of a URL list concurrently, and counts the results."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from time import monotonic
from typing import Protocol

from streams.exceptions import DeliveryError, EventError, StateError
from streams.warm.url_list import Entry
from streams.web.addresses import display_url

logger = logging.getLogger(__name__)

YIELD_EVERY = 64  # entries after which other tasks of the event loop get a turn, even if all were cached


class EmbeddingSource(Protocol):
    """Where embeddings come from: `EmbeddingCache`, or a pipeline whose embeddings are kept elsewhere."""

    @property
    def write_error(self) -> str:
        """Why an embedding could not be written; "" if all were written."""
        ...

    def cached(self, url: str) -> bool:
        """Whether the embedding is cached."""
        ...

    async def codes(self, url: str) -> object:
        """The embedding. Raises EventError if there is none, and DeliveryError if it cannot be shared."""
        ...


class EmbeddingJob:
    """Embeds a list: at most `in_flight` pictures at a time, and at most `rate` new ones a second.

    Attributes:
        new: entries whose embedding was computed.
        found: entries that were cached, or repeat an earlier entry.
        failed: entries without an embedding, by reason.
    """

    def __init__(
        self, source: EmbeddingSource, *, in_flight: int, rate: float | None, on_failure: Callable[[Entry], object]
    ) -> None:
        """Create a job.

        Args:
            source: where embeddings come from.
            in_flight: pictures in flight at a time.
            rate: pictures started a second; None for no limit.
            on_failure: called with each entry that has no embedding, and why.
        """
        self._source = source
        self._slots = asyncio.Semaphore(in_flight)
        self._interval = 1 / rate if rate else 0.0  # seconds between two starts
        self._next_start = 0.0  # monotonic seconds
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()
        self._urls: set[str] = set()  # in flight
        self._undelivered: DeliveryError | None = None
        self.new = 0
        self.found = 0
        self.failed: Counter[str] = Counter()

    @property
    def done(self) -> int:
        """Entries that are finished, with or without an embedding."""
        return self.new + self.found + self.failed.total()

    async def run(self, entries: AsyncGenerator[Entry]) -> None:
        """Embed all entries.

        Raises:
            StateError: an embedding could not be written.
            DeliveryError: an embedding could not be shared.
            Exception: whatever `entries` raises.
        """
        seen = 0
        async with aclosing(entries):
            async for entry in entries:
                self._check_written()
                if entry.reason:
                    self._fail(entry)
                elif self._source.cached(entry.url):
                    self.found += 1
                else:
                    await self._start(entry)
                seen += 1
                if seen % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._check_written()

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the pictures in flight, then cancel the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _start(self, entry: Entry) -> None:
        await self._slots.acquire()
        repeated = entry.url in self._urls
        if not repeated and self._interval:
            await asyncio.sleep(self._next_start - monotonic())
            self._next_start = max(self._next_start, monotonic()) + self._interval
        self._urls.add(entry.url)
        task = asyncio.create_task(self._embed(entry, repeated=repeated))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _embed(self, entry: Entry, *, repeated: bool) -> None:
        # An earlier entry may have been embedded while this one waited for its slot.
        found = repeated or self._source.cached(entry.url)
        try:
            await self._source.codes(entry.url)
        except EventError as error:
            self._fail(entry._replace(reason=error.reason, error=str(error)))
        except DeliveryError as error:  # it would fail for all others, too
            self._undelivered = self._undelivered or error
        except Exception as error:  # a defect of ours must not end the whole job
            logger.exception("unexpected error for the picture at %s", display_url(entry.url))
            self._fail(entry._replace(reason="internal_error", error=repr(error)))
        else:
            self.found += found
            self.new += not found
        finally:
            if not repeated:
                self._urls.discard(entry.url)

    def _fail(self, entry: Entry) -> None:
        self.failed[entry.reason] += 1
        self._on_failure(entry)

    def _check_written(self) -> None:
        if self._source.write_error:
            raise StateError(f"cannot write to the picture cache: {self._source.write_error}")
        if self._undelivered is not None:
            raise self._undelivered
