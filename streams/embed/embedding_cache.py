"""From a URL to an embedding: memory, then disk, then the pipeline.

Concurrent requests for one URL share one computation, and failures are remembered for a while. The result is the bytes of
`model.quantization`, the same wherever they are found.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import time
from typing import NamedTuple

from model.quantization import quantize
from streams import metrics
from streams.embed.disk_cache import DiskCache
from streams.embed.pipeline import EmbeddingPipeline
from streams.exceptions import FetchError
from streams.text import memory_of

ENTRY_OVERHEAD = 300  # bytes of Python objects around one entry of the memory cache, measured: 274 to 288
MEMORY_AGE = 3600.0  # seconds after which the disk is read again, so that its age limit holds
FAILURE_OVERHEAD = 600  # bytes of Python objects around one remembered failure, measured: 430
FAILURE_MEMORY = 8 * 1024**2  # bytes of remembered failures: some 10,000, or 800 with the longest URLs


class MemoryCache:
    """The embeddings used last: at most `max_bytes` bytes, each for at most `max_age` seconds."""

    def __init__(self, max_bytes: int, max_age: float = MEMORY_AGE, clock: Callable[[], float] = time) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # expiry and embedding

    def get(self, url: str) -> bytes | None:
        """The embedding, or None."""
        expiry, embedding = self._entries.get(url, (0.0, None))
        if embedding is None:
            return None
        if self._clock() > expiry:
            self._drop(url)
            return None
        self._entries.move_to_end(url)
        return embedding

    def put(self, url: str, embedding: bytes) -> None:
        """Keep an embedding. Drops the ones used longest ago when there is no room."""
        self._drop(url)
        self._entries[url] = (self._clock() + self._max_age, embedding)
        self._bytes += _size(url, embedding)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, url: str) -> None:
        _, embedding = self._entries.pop(url, (0.0, None))
        if embedding is not None:
            self._bytes -= _size(url, embedding)


def _size(url: str, embedding: bytes) -> int:
    return memory_of(url) + len(embedding) + ENTRY_OVERHEAD


class _Failure(NamedTuple):
    """Why there is no embedding. Not the exception itself, whose traceback would keep the bytes of the picture."""

    expiry: float
    reason: str
    message: str
    transient: bool
    hurried: bool  # it would have been retried, but too many events waited


class _Flight:
    """A computation, and those who wait for it."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], bool]] = []  # for each: whether it would rather fail now than wait for a retry
        self.hurried = False

    def crowded(self) -> bool:
        """Whether nobody would wait for a retry."""
        self.hurried = all(crowded() for crowded in self.waiting)
        return self.hurried


class Failures:
    """The failures of the last seconds, at most `max_bytes` bytes of them. The oldest are forgotten first."""

    def __init__(self, age: float, clock: Callable[[], float] = time, max_bytes: int = FAILURE_MEMORY) -> None:
        self._age = age
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, _Failure] = OrderedDict()  # by URL, oldest first

    def add(self, url: str, error: FetchError, *, hurried: bool = False) -> None:
        """Remember why there is no embedding. hurried: whether a retry was given up because too many events waited."""
        self._drop(url)
        expiry = self._clock() + self._age
        self._entries[url] = failure = _Failure(expiry, error.reason, str(error), error.transient, hurried)
        self._bytes += self._size(url, failure)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def check(self, url: str, crowded: Callable[[], bool] = lambda: False) -> None:
        """Raise FetchError if a failure of `url` is remembered that holds for this caller, too. crowded: as in `embedding`."""
        failure = self._entries.get(url)
        if failure is None or (failure.hurried and not crowded()):
            return
        if self._clock() < failure.expiry:
            raise FetchError(failure.reason, failure.message, transient=failure.transient)
        self._drop(url)

    def _drop(self, url: str) -> None:
        failure = self._entries.pop(url, None)
        if failure is not None:
            self._bytes -= self._size(url, failure)

    @staticmethod
    def _size(url: str, failure: _Failure) -> int:
        return memory_of(url) + memory_of(failure.message) + FAILURE_OVERHEAD


class EmbeddingCache:
    """Gives the embedding of the picture at a URL, and computes it if no cache has it."""

    def __init__(
        self,
        pipeline: EmbeddingPipeline,
        disk: DiskCache,
        *,
        memory: int,
        failure_age: float,
        clock: Callable[[], float] = time,
    ) -> None:
        """Create a cache.

        Args:
            pipeline: computes embeddings.
            disk: keeps them over restarts.
            memory: bytes of embeddings kept in memory.
            failure_age: seconds for which a failure is remembered.
            clock: seconds since the epoch.
        """
        self._pipeline = pipeline
        self._disk = disk
        self._memory = MemoryCache(memory, min(MEMORY_AGE, disk.max_age), clock)
        self._failures = Failures(failure_age, clock)
        self._clock = clock
        self._in_flight: dict[str, tuple[asyncio.Task[bytes], _Flight]] = {}  # by URL

    @property
    def full(self) -> bool:
        """Whether new embeddings displace old ones on disk."""
        return self._disk.full

    @property
    def write_error(self) -> str:
        """Why an embedding could not be written to disk; "" if all were written."""
        return self._disk.write_error

    def cached(self, url: str) -> bytes | None:
        """The embedding if it is in memory or on disk, else None."""
        found = self._memory.get(url)
        if found is not None:
            metrics.pictures.labels("memory").inc()
            return found
        found = self._disk.get(url, now=self._clock())
        if found is not None:
            metrics.pictures.labels("disk").inc()
            self._memory.put(url, found)
        return found

    async def embedding(self, url: str, crowded: Callable[[], bool] = lambda: False) -> bytes:
        """The embedding of the picture at `url`.

        Cancelling one caller does not cancel the computation that others wait for.

        Args:
            url: where the picture is.
            crowded: whether so many events wait behind this one that a failure is not retried for it. A failure is retried
                as long as one of the callers that wait for this picture is not crowded.

        Raises:
            EventError: there is no embedding; usually a FetchError.
        """
        found = self.cached(url)
        if found is not None:
            return found
        self._failures.check(url, crowded)
        if url not in self._in_flight:
            flight = _Flight()
            task = asyncio.create_task(self._compute(url, flight))
            task.add_done_callback(lambda _: self._in_flight.pop(url, None))
            self._in_flight[url] = task, flight
        task, flight = self._in_flight[url]
        flight.waiting.append(crowded)
        try:
            return await asyncio.shield(task)
        finally:
            flight.waiting.remove(crowded)

    async def close(self) -> None:
        """Cancel the computations in flight. Call it when no caller waits any more."""
        tasks = [task for task, _ in self._in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compute(self, url: str, flight: _Flight) -> bytes:
        try:
            embedding = quantize(await self._pipeline.embedding(url, flight.crowded))
        except FetchError as error:
            metrics.pictures.labels("failure").inc()
            self._failures.add(url, error, hurried=flight.hurried)
            raise
        self._memory.put(url, embedding)
        self._disk.put(url, embedding, now=self._clock())
        metrics.pictures.labels("fetch").inc()
        return embedding
