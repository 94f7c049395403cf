"""From a URL to an embedding: memory, then disk, then fetch + decode + embed. One flight for each URL, failures remembered.

What comes out are `model.quantization`'s bytes, the same wherever they were found.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from random import uniform
from time import monotonic, time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.exceptions import PictureError
from model.preprocessing import decode_picture
from model.quantization import quantize
from streams import metrics
from streams.embed.addresses import host_of, shown
from streams.embed.batcher import EmbeddingBatcher
from streams.embed.cache import DiskCache
from streams.embed.fetch import Fetcher
from streams.embed.hosts import Hosts
from streams.exceptions import FetchError

logger = logging.getLogger(__name__)

ENTRY_OVERHEAD = 256  # bytes of Python objects around one entry of the memory cache, roughly
MEMORY_AGE = 3600.0  # seconds after which the disk is asked again
MAX_FAILURES = 10_000
PATIENCE = 60.0  # seconds after which no other attempt at a picture begins
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts; doubled with each
JITTER = 0.25  # of a pause, so that those who wait for one host do not come all at once


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


class Pictures:
    """Where embeddings come from."""

    def __init__(
        self,
        fetcher: Fetcher,
        batcher: EmbeddingBatcher,
        disk: DiskCache,
        *,
        memory: int,
        image_size: int,
        max_pixels: int,
        hosts: Hosts,
        places: int,
        large: int,
        attempts: int,
        failure_age: float,
        decoders: ThreadPoolExecutor,
        attempted: Callable[[], None] = lambda: None,
        crowded: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """memory: bytes. places: pictures on their way at a time, from the question to the embedding. large: those of them
        with more than `SMALL` bytes that are read and decoded. failure_age: seconds a failure is remembered.
        attempted: called at the end of each attempt at a picture. crowded: whether so much waits that a failure is final."""
        self._fetcher = fetcher
        self._batcher = batcher
        self._disk = disk
        self._memory = Memory(memory, min(MEMORY_AGE, disk.max_age), clock)
        self._image_size = image_size
        self._max_pixels = max_pixels
        self._hosts = hosts
        self._places = asyncio.Semaphore(places)
        self._large = asyncio.Semaphore(large)
        self._attempts = attempts
        self._failure_age = failure_age
        self._decoders = decoders
        self._attempted = attempted
        self._crowded = crowded
        self._clock = clock
        self._sleep = sleep
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
            embedding = await self._tried(url)
        except PictureError as error:
            failed = FetchError(error.reason, f"image_url {shown(url)}: {error}")
            self._remember(url, failed)
            raise failed from error
        except FetchError as error:
            self._remember(url, error)
            raise
        self._memory.put(url, embedding)
        self._disk.put(url, embedding, now=self._clock())
        metrics.pictures.labels("fetch").inc()
        return embedding

    async def _tried(self, url: str) -> bytes:
        """Tries again what time may heal, with growing pauses, or after what its host asks for."""
        host, end = host_of(url), monotonic() + PATIENCE
        for number in count(1):
            try:
                return await self._attempt(url, host)
            except FetchError as error:
                pause = _pause(number, error.retry_after)
                if not error.transient or number >= self._attempts or self._crowded() or monotonic() + pause > end:
                    raise
            finally:
                self._attempted()
            await self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, url: str, host: str) -> bytes:
        """A place is held until there is an embedding; what waits for the model is bounded, too."""
        async with AsyncExitStack() as place:
            picture = await self._picture(url, host, place)
            return quantize(await self._batcher.embed(picture))

    async def _picture(self, url: str, host: str, place: AsyncExitStack) -> NDArray[np.uint8]:
        """The host's turn ends with its answer. One that hangs or drips costs a place and few bytes, nothing that others need."""
        async with AsyncExitStack() as large:
            async with self._hosts.turn(host):
                await place.enter_async_context(self._places)
                async with self._fetcher.answer(url) as answer:
                    data = await answer.body(beyond=partial(large.enter_async_context, self._large))
            return await asyncio.get_running_loop().run_in_executor(
                self._decoders, decode_picture, data, self._image_size, self._max_pixels
            )

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


def _pause(attempts: int, asked_for: float) -> float:
    """Seconds until the next attempt. asked_for: by the host, 0 when it said nothing."""
    seconds = asked_for or min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE)
    return seconds * uniform(1, 1 + JITTER)  # noqa: S311 -- no secret
