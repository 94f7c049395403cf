"""Runs the picture at a URL through networks: fetch, decode, run. Transient failures are retried.

A picture is fetched once for all networks, and decoded once for all that take the same size. Nothing is kept here:
`EmbeddingCache` keeps what the networks make for the embed worker and `tastestream warm`; `tastestream train embed` keeps it in a
file of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from itertools import count
from random import uniform
from time import monotonic, perf_counter
from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.exceptions import PictureError
from streams import metrics
from streams.embed.batcher import Batcher, Made
from streams.embed.decoding.pool import DecoderPool
from streams.exceptions import FetchError
from streams.web.addresses import display_url, host_and_port
from streams.web.fetch import Fetcher
from streams.web.host_limiter import HostLimiter, OpenCircuit
from streams.web.large_places import LargePlaces

RETRY_TIMEOUT = 60.0  # seconds after which no other attempt at a picture begins
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts; doubled with each
SENT = ""  # stands for the host of pictures that were sent and not fetched
JITTER = 0.25  # share of a pause, so that pictures that wait for one host do not all come back at once


class Sized(NamedTuple, Generic[Made]):
    """A network, and the size of the pictures that it takes."""

    image_size: int  # side of the square, pixels
    batcher: Batcher[NDArray[np.uint8], Made]


class PicturePipeline(Generic[Made]):
    """Runs many pictures through networks concurrently. Each picture succeeds or fails on its own."""

    def __init__(
        self,
        fetcher: Fetcher,
        networks: Mapping[str, Sized[Made]],
        *,
        max_pixels: int,
        host_limiter: HostLimiter,
        max_in_flight: int,
        max_large: int,
        attempts: int,
        decoders: DecoderPool,
        worker: str = "embed",
        attempted: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Create a pipeline.

        Args:
            fetcher: fetches the pictures.
            networks: the networks, by the version of what they make.
            max_pixels: width x height over which a picture is refused.
            host_limiter: limits the requests to each host.
            max_in_flight: pictures in flight at a time, from the request to the end of its networks.
            max_large: of these, pictures over `LARGE_PICTURE_BYTES` that are read and decoded at a time. Bounds memory.
            attempts: attempts at a picture, for transient failures.
            decoders: decode in processes of their own.
            worker: whose pictures they are, in the metrics.
            attempted: called at the end of each attempt.
            sleep: waits between attempts, seconds.
        """
        self._fetcher = fetcher
        self._networks = networks
        self._max_pixels = max_pixels
        self._host_limiter = host_limiter
        self._in_flight = asyncio.Semaphore(max_in_flight)
        self._large = LargePlaces(max_large)
        self._attempts = attempts
        self._decoders = decoders
        self._attempted = attempted
        self._sleep = sleep
        self._fetch, self._decode = (metrics.stage_seconds.labels(worker, stage) for stage in ("fetch", "decode"))

    async def made(
        self, url: str, versions: Collection[str] | None = None, crowded: Callable[[], bool] = lambda: False
    ) -> dict[str, Made]:
        """What networks make of the picture at `url`, by their versions.

        Args:
            url: where the picture is.
            versions: which networks; all if None.
            crowded: asked after a failure that could be retried: whether so many events wait that it is not.

        Raises:
            FetchError: the picture cannot be fetched or decoded; the error of the last attempt.
        """
        networks = {version: self._networks[version] for version in versions or self._networks}
        host, deadline = host_and_port(url), monotonic() + RETRY_TIMEOUT
        answered = False  # whether the host has answered with a status that is no success
        for number in count(1):
            try:
                return await self._attempt(url, host, networks, answered=answered)
            except PictureError as error:
                raise FetchError(error.reason, f"image_url {display_url(url)}: {error}") from error
            except FetchError as error:
                pause = _pause(number, error.retry_after)
                if not error.transient or number >= self._attempts or monotonic() + pause > deadline or crowded():
                    raise
                answered = answered or error.status > 0
            finally:
                self._attempted()
            await self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def open_circuits(self) -> list[OpenCircuit]:
        """As `HostLimiter.open_circuits`."""
        return self._host_limiter.open_circuits()

    def refuse(self, url: str) -> None:
        """Count an event that does without the picture at `url` (`HostLimiter.refuse`)."""
        self._host_limiter.refuse(host_and_port(url))

    async def made_of(self, data: bytes, versions: Collection[str] | None = None) -> dict[str, Made]:
        """What networks make of a picture that somebody has sent, by their versions. All senders together count as one host.

        Raises:
            PictureError: the picture cannot be decoded.
        """
        networks = {version: self._networks[version] for version in versions or self._networks}
        async with self._in_flight:
            sizes = {network.image_size for network in networks.values()}
            return await _run(networks, {size: await self.decoded(data, size) for size in sizes})

    async def decoded(self, data: bytes, size: int) -> NDArray[np.uint8]:
        """The pixels of a picture that somebody has sent: uint8 [size, size, 3]. Raises PictureError."""
        async with self._decoders.room(SENT):
            return await self._timed_decode(data, size, SENT)

    async def _attempt(
        self, url: str, host: str, networks: Mapping[str, Sized[Made]], *, answered: bool
    ) -> dict[str, Made]:
        """One attempt. It counts as in flight until all is made, so that the queues of the networks are bounded, too."""
        async with AsyncExitStack() as in_flight:
            sizes = {network.image_size for network in networks.values()}
            pictures = await self._pictures(url, host, sizes, in_flight, answered=answered)
            return await _run(networks, pictures)

    async def _pictures(
        self, url: str, host: str, sizes: Collection[int], in_flight: AsyncExitStack, *, answered: bool
    ) -> dict[int, NDArray[np.uint8]]:
        """Fetch, and decode to each size.

        The slot at the host is free again as soon as the body is read and has room at the decoders.

        A host that hangs or sends a byte at a time costs one picture in flight and little memory. One whose pictures take long to
        decode gets no more of them.
        """
        async with AsyncExitStack() as decoding:
            async with self._host_limiter.slot(host, repeated=answered):
                await in_flight.enter_async_context(self._in_flight)
                started = perf_counter()
                async with self._fetcher.stream(url) as response:
                    data = await response.read(lambda: decoding.enter_async_context(self._large.place(host)))
                self._fetch.observe(perf_counter() - started)
                await decoding.enter_async_context(self._decoders.room(host))
            return {size: await self._timed_decode(data, size, host) for size in sizes}

    async def _timed_decode(self, data: bytes, size: int, host: str) -> NDArray[np.uint8]:
        """As `DecoderPool.decode`, with its time in the metrics."""
        started = perf_counter()
        picture = await self._decoders.decode(data, size, self._max_pixels, host)
        self._decode.observe(perf_counter() - started)
        return picture


async def _run(networks: Mapping[str, Sized[Made]], pictures: Mapping[int, NDArray[np.uint8]]) -> dict[str, Made]:
    """What networks make of a picture of each size."""
    return {version: await network.batcher.made(pictures[network.image_size]) for version, network in networks.items()}


def _pause(attempts: int, retry_after: float) -> float:
    """Seconds until the next attempt. `retry_after`: seconds that the host asks for; 0 if it does not ask."""
    seconds = retry_after or min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE)
    return seconds * uniform(1, 1 + JITTER)  # noqa: S311 -- not a secret
