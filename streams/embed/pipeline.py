"""Makes the embedding of the picture at a URL: fetch, decode, embed. Transient failures are retried.

Nothing is kept here. `EmbeddingCache` keeps embeddings for the embed worker and `tastestream warm`; `tastestream train embed`
keeps them in a file of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from random import uniform
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from model.exceptions import PictureError
from model.quantization import NOT_STORABLE, storable
from streams.embed.batcher import EmbeddingBatcher
from streams.embed.decoding.pool import DecoderPool
from streams.exceptions import FetchError
from streams.web.addresses import display_url, host_and_port
from streams.web.fetch import Fetcher
from streams.web.host_limiter import HostLimiter
from streams.web.large_places import LargePlaces

RETRY_TIMEOUT = 60.0  # seconds after which no other attempt at a picture begins
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts; doubled with each
JITTER = 0.25  # share of a pause, so that pictures that wait for one host do not all come back at once


class EmbeddingPipeline:
    """Makes embeddings of many pictures concurrently. Each picture succeeds or fails on its own."""

    def __init__(
        self,
        fetcher: Fetcher,
        batcher: EmbeddingBatcher,
        *,
        image_size: int,
        max_pixels: int,
        host_limiter: HostLimiter,
        max_in_flight: int,
        max_large: int,
        attempts: int,
        decoders: DecoderPool,
        attempted: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Create a pipeline.

        Args:
            fetcher: fetches the pictures.
            batcher: calls the model.
            image_size: side of the square that the model takes, pixels.
            max_pixels: width x height over which a picture is refused.
            host_limiter: limits the requests to each host.
            max_in_flight: pictures in flight at a time, from the request to the embedding.
            max_large: of these, pictures over `LARGE_PICTURE_BYTES` that are read and decoded at a time. Bounds memory.
            attempts: attempts at a picture, for transient failures.
            decoders: decode in processes of their own.
            attempted: called at the end of each attempt.
            sleep: waits between attempts, seconds.
        """
        self._fetcher = fetcher
        self._batcher = batcher
        self._image_size = image_size
        self._max_pixels = max_pixels
        self._host_limiter = host_limiter
        self._in_flight = asyncio.Semaphore(max_in_flight)
        self._large = LargePlaces(max_large)
        self._attempts = attempts
        self._decoders = decoders
        self._attempted = attempted
        self._sleep = sleep

    async def embedding(self, url: str, crowded: Callable[[], bool] = lambda: False) -> NDArray[np.float32]:
        """The embedding of the picture at `url`, float32 [d].

        Args:
            url: where the picture is.
            crowded: asked after a failure that could be retried: whether so many events wait that it is not.

        Raises:
            FetchError: the picture cannot be fetched or decoded, or its embedding cannot be stored; the error of the last attempt.
        """
        host, deadline = host_and_port(url), monotonic() + RETRY_TIMEOUT
        answered = False  # whether the host has answered with a status that is no success
        for number in count(1):
            try:
                return await self._attempt(url, host, answered)
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

    async def _attempt(self, url: str, host: str, answered: bool) -> NDArray[np.float32]:
        """One attempt. It counts as in flight until the embedding is there, so that the queue of the model is bounded, too."""
        async with AsyncExitStack() as in_flight:
            picture = await self._picture(url, host, answered, in_flight)
            embedding = await self._batcher.embed(picture)
        if not storable(embedding):
            raise FetchError("invalid_embedding", f"image_url {display_url(url)}: {NOT_STORABLE}")
        return embedding

    async def _picture(self, url: str, host: str, answered: bool, in_flight: AsyncExitStack) -> NDArray[np.uint8]:
        """Fetch and decode. The slot at the host is free again as soon as the body is read and has room at the decoders.

        A host that hangs or sends a byte at a time costs one picture in flight and little memory. One whose pictures take long to
        decode gets no more of them.
        """
        async with AsyncExitStack() as decoding:
            async with self._host_limiter.slot(host, repeated=answered):
                await in_flight.enter_async_context(self._in_flight)
                async with self._fetcher.stream(url) as response:
                    data = await response.read(lambda: decoding.enter_async_context(self._large.place(host)))
                await decoding.enter_async_context(self._decoders.room(host))
            return await self._decoders.decode(data, self._image_size, self._max_pixels, host)


def _pause(attempts: int, retry_after: float) -> float:
    """Seconds until the next attempt. `retry_after`: seconds that the host asks for; 0 if it does not ask."""
    seconds = retry_after or min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE)
    return seconds * uniform(1, 1 + JITTER)  # noqa: S311 -- not a secret
