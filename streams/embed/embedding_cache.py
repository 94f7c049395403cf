"""From a URL to an embedding: memory, then disk, then made anew (`making`). One flight for each URL, failures remembered.

What comes out are `model.quantization`'s bytes, the same wherever they were found.
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

ENTRY_OVERHEAD = 256  # bytes of Python objects around one entry of the memory cache, roughly
MEMORY_AGE = 3600.0  # seconds after which the disk is asked again
MAX_FAILURES = 10_000


class Memory:
    """The embeddings used last, at most `max_bytes` of them, each for at most `max_age` seconds; then the disk knows better."""

    def __init__(self, max_bytes: int, max_age: float = MEMORY_AGE, clock: Callable[[], float] = time) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def get(self, url: str) -> bytes | None:
        until, embedding = self._entries.get(url, (0.0, None))
        if embedding is None:
            return None
        if self._clock() > until:
            self._drop(url)
            return None
        self._entries.move_to_end(url)
        return embedding

    def put(self, url: str, embedding: bytes) -> None:
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
    return len(url) + len(embedding) + ENTRY_OVERHEAD


class _Failure(NamedTuple):
    """Why a picture could not be had. Not the exception: its traceback would keep the picture's bytes."""

    until: float
    reason: str
    message: str
    transient: bool


class EmbeddingCache:
    """Where embeddings come from."""

    def __init__(
        self,
        maker: EmbeddingPipeline,
        disk: DiskCache,
        *,
        memory: int,
        failure_age: float,
        clock: Callable[[], float] = time,
    ) -> None:
        """memory: bytes. failure_age: seconds a failure is remembered."""
        self._maker = maker
        self._disk = disk
        self._memory = Memory(memory, min(MEMORY_AGE, disk.max_age), clock)
        self._failure_age = failure_age
        self._clock = clock
        self._flights: dict[str, asyncio.Task[bytes]] = {}
        self._failures: OrderedDict[str, _Failure] = OrderedDict()

    @property
    def full(self) -> bool:
        """Whether new embeddings cost old ones their place on the disk."""
        return self._disk.full

    @property
    def unwritten(self) -> str:
        """Why an embedding is not on the disk; "" when all are."""
        return self._disk.unwritten

    def cached(self, url: str) -> bytes | None:
        """The embedding of the picture at `url` if it is here already."""
        found = self._memory.get(url)
        if found is not None:
            metrics.pictures.labels("memory").inc()
            return found
        found = self._disk.get(url, now=self._clock())
        if found is not None:
            metrics.pictures.labels("disk").inc()
            self._memory.put(url, found)
        return found

    async def embedding(self, url: str) -> bytes:
        """The embedding of the picture at `url`. Raises EventError when it cannot be had."""
        found = self.cached(url)
        if found is not None:
            return found
        self._raise_remembered(url)
        flight = self._flights.get(url)
        if flight is None:
            flight = self._flights[url] = asyncio.create_task(self._make(url))
            flight.add_done_callback(lambda _: self._flights.pop(url, None))
        return await asyncio.shield(flight)

    async def close(self) -> None:
        """Give up the flights that are under way: nobody waits for them any more."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _make(self, url: str) -> bytes:
        try:
            embedding = quantize(await self._maker.embedding(url))
        except FetchError as error:
            self._remember(url, error)
            raise
        self._memory.put(url, embedding)
        self._disk.put(url, embedding, now=self._clock())
        metrics.pictures.labels("fetch").inc()
        return embedding

    def _remember(self, url: str, error: FetchError) -> None:
        metrics.pictures.labels("failure").inc()
        until = self._clock() + self._failure_age
        self._failures[url] = _Failure(until, error.reason, str(error), error.transient)
        if len(self._failures) > MAX_FAILURES:
            self._failures.popitem(last=False)

    def _raise_remembered(self, url: str) -> None:
        failure = self._failures.get(url)
        if failure is None:
            return
        if self._clock() < failure.until:
            raise FetchError(failure.reason, failure.message, transient=failure.transient)
        del self._failures[url]
