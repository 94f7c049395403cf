"""From a URL to the codes of its picture: memory, then the features on disk, then the pipeline.

Memory holds codes, and the disk holds the features that they are made from. Concurrent requests for one URL share one
computation, and failures are remembered for a while. A code is the bytes of `model.quantization`, the same wherever it is found.
"""

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import NamedTuple

from model.quantization import NOT_STORABLE, is_finite
from streams import metrics
from streams.embed.batcher import Batcher
from streams.embed.disk_cache import DiskCache
from streams.embed.networks import Coder
from streams.embed.pipeline import PicturePipeline
from streams.exceptions import FetchError
from streams.features.sharing import Sharing
from streams.kafka.remarks import Circuit
from streams.text import memory_of, visible
from streams.web.addresses import display_url, host_and_port

ENTRY_OVERHEAD = 300  # bytes of Python objects around one entry of the memory cache, measured: 274 to 288
MEMORY_AGE = 3600.0  # seconds after which the disk is read again, so that its age limit holds
FAILURE_OVERHEAD = 600  # bytes of Python objects around one remembered failure, measured: 430
FAILURE_MEMORY = 8 * 1024**2  # bytes of remembered failures: some 10,000, or 800 with the longest URLs


class Codes(NamedTuple):
    """The codes of a picture."""

    served: bytes
    next: bytes = (
        b""  # b"" where there is none: no next bundle, one with the same embedder, or a picture that cannot be had
    )


class CodeBatcher(NamedTuple):
    """A coder, and what calls it; None where the features are the codes."""

    coder: Coder
    batcher: Batcher[bytes, bytes] | None

    async def code(self, row: bytes) -> bytes:
        """The code of a row of features; b"" if it is not finite."""
        code = row if self.batcher is None else await self.batcher.made(row)
        return code if is_finite(code) else b""


class MemoryCache:
    """The codes used last, at most `max_bytes` bytes of them, each for at most `max_age` seconds.

    An entry is the code of the served bundle and that of the next one, joined: one object takes less memory than two.
    """

    def __init__(self, max_bytes: int, max_age: float = MEMORY_AGE, clock: Callable[[], float] = time) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # expiry and codes

    @property
    def size(self) -> int:
        """The memory that the entries take, bytes."""
        return self._bytes

    def get(self, url: str) -> bytes | None:
        """The codes, or None."""
        expiry, codes = self._entries.get(url, (0.0, None))
        if codes is None:
            return None
        if self._clock() > expiry:
            self.drop(url)
            return None
        self._entries.move_to_end(url)
        return codes

    def put(self, url: str, codes: bytes) -> None:
        """Keep codes. Drops the ones used longest ago when there is no room."""
        self.drop(url)
        self._entries[url] = (self._clock() + self._max_age, codes)
        self._bytes += _size(url, codes)
        while self._bytes > self._max_bytes:
            self.drop(next(iter(self._entries)))

    def drop(self, url: str) -> None:
        """Forget the codes of a picture."""
        _, codes = self._entries.pop(url, (0.0, None))
        if codes is not None:
            self._bytes -= _size(url, codes)


def _size(url: str, codes: bytes) -> int:
    return memory_of(url) + len(codes) + ENTRY_OVERHEAD


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
    """Gives the codes of the picture at a URL, and makes them if no cache has them."""

    def __init__(
        self,
        pipeline: PicturePipeline[bytes],
        coders: Sequence[CodeBatcher],
        disk: DiskCache,
        *,
        memory: int,
        failure_age: float,
        sharing: Sharing | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        """Create a cache.

        Args:
            pipeline: makes features of pictures.
            coders: make codes of features: that of the served bundle, and that of the next one if its embedder is another.
            disk: keeps features over restarts.
            memory: bytes of codes kept in memory.
            failure_age: seconds for which a failure is remembered.
            sharing: shares features with other workers; None where each worker has its own.
            clock: seconds since the epoch.
        """
        self._pipeline = pipeline
        self._coders = coders
        self._versions = tuple(dict.fromkeys(one.coder.features for one in coders))  # of the features
        self._served_bytes = coders[0].coder.code_bytes
        self._disk = disk
        self._memory = MemoryCache(memory, min(MEMORY_AGE, disk.max_age), clock)
        metrics.cache_bytes.watch("memory", lambda: [(["memory"], self._memory.size)])
        self._failures = Failures(failure_age, clock)
        self._sharing = sharing
        self._clock = clock
        self._in_flight: dict[str, tuple[asyncio.Task[Codes], _Flight]] = {}  # by URL

    @property
    def full(self) -> bool:
        """Whether new features displace old ones on disk."""
        return self._disk.full

    @property
    def write_error(self) -> str:
        """Why features could not be written to disk; "" if all were written."""
        return self._disk.write_error

    @property
    def computing(self) -> int:
        """Number of pictures whose codes are being made."""
        return len(self._in_flight)

    async def caught_up(self) -> None:
        """Wait until the features of other workers are on disk, however long it takes."""
        if self._sharing is not None:
            await self._sharing.caught_up(math.inf)

    def cached(self, url: str) -> bool:
        """Whether no request is needed for the codes of the picture."""
        return self._memory.get(url) is not None or len(self._rows(url)) == len(self._versions)

    async def codes(self, url: str, crowded: Callable[[], bool] = lambda: False) -> Codes:
        """The codes of the picture at `url`.

        Cancelling one caller does not cancel the computation that others wait for. A failure counts only where there is no code
        of the served bundle: the next one must not cost an event.

        Args:
            url: where the picture is.
            crowded: whether so many events wait behind this one that a failure is not retried for it. A failure is retried
                as long as one of the callers that wait for this picture is not crowded.

        Raises:
            EventError: there is no code of the served bundle; usually a FetchError.
            DeliveryError: the broker did not take the features.
        """
        kept = self._memory.get(url)
        if kept is not None:
            metrics.pictures.labels("memory").inc()
            return Codes(kept[: self._served_bytes], kept[self._served_bytes :])
        found = await self._from_disk(url)
        if all(found[: len(self._coders)]):
            metrics.pictures.labels("disk").inc()
            return found
        try:
            self._failures.check(url, crowded)
            return await self._made(url, crowded)
        except FetchError as error:
            found = await self._from_disk(url)  # what the served bundle needs may have been made
            if not found.served:
                if error.transient:
                    self._pipeline.refuse(url)
                raise
            return found

    def circuits(self, most: int) -> tuple[Circuit, ...]:
        """The hosts whose circuit breakers are open, at most `most` of them, those first that cost most events."""
        found = self._pipeline.open_circuits()[:most]
        if not found:
            return ()
        waiting: Counter[str] = Counter()
        for url, (_, flight) in self._in_flight.items():
            waiting[host_and_port(url)] += len(flight.waiting)
        now = self._clock()
        return tuple(
            Circuit(visible(one.name), round((now - one.seconds) * 1000), waiting[one.name], one.refused)
            for one in found
        )

    def forget(self, url: str) -> None:
        """Drop the codes of a picture from memory."""
        self._memory.drop(url)

    async def close(self) -> None:
        """Cancel the computations in flight. Call it when no caller waits any more."""
        tasks = [task for task, _ in self._in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _made(self, url: str, crowded: Callable[[], bool]) -> Codes:
        """Make the codes, or wait for whoever does."""
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

    async def _compute(self, url: str, flight: _Flight) -> Codes:
        try:
            if self._sharing is not None:
                await self._sharing.caught_up()  # perhaps another worker has made them
            rows = self._rows(url)
            missing = [version for version in self._versions if version not in rows]
            if missing:
                rows |= await self._fetched(url, missing, flight)
                metrics.pictures.labels("fetch").inc()
            codes = await self._coded(url, rows)
            self._check(url, codes)
        except FetchError as error:
            metrics.pictures.labels("failure").inc()
            self._failures.add(url, error, hurried=flight.hurried)
            raise
        return codes

    def _check(self, url: str, codes: Codes) -> None:
        if not all(codes[: len(self._coders)]):
            raise FetchError("invalid_embedding", f"image_url {display_url(url)}: {NOT_STORABLE}")

    async def _fetched(self, url: str, versions: Sequence[str], flight: _Flight) -> dict[str, bytes]:
        """Make features of the picture, share them, and keep them.

        In this order: after a crash in between, an event that finds them on disk would not share them.
        """
        made = await self._pipeline.made(url, versions, flight.crowded)
        rows = {version: row for version, row in made.items() if is_finite(row)}
        now = self._clock()
        if self._sharing is not None:
            await self._sharing.publish(url, rows, now=now)
        for version, row in rows.items():
            self._disk.put(version, url, row, now=now)
        return rows

    async def _from_disk(self, url: str) -> Codes:
        """The codes, as far as their features are on disk."""
        return await self._coded(url, self._rows(url))

    def _rows(self, url: str) -> dict[str, bytes]:
        """The features on disk, by version."""
        now = self._clock()
        found = ((version, self._disk.get(version, url, now=now)) for version in self._versions)
        return {version: row for version, row in found if row is not None}

    async def _coded(self, url: str, rows: Mapping[str, bytes]) -> Codes:
        """The codes of features. Kept in memory if none is missing."""
        found = [(one, rows.get(one.coder.features)) for one in self._coders]
        made = [b"" if row is None else await one.code(row) for one, row in found]
        codes = Codes(*made)
        if all(made):
            self._memory.put(url, codes.served + codes.next)
        return codes
