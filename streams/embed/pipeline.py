"""Makes the embedding of the picture at a URL: fetch + decode + embed, tried again where time may heal a failure.

Nothing is kept here: `Pictures` does that for the embed worker and `tastestream warm`, and `tastestream train embed` in a file
of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from random import uniform
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from model.exceptions import PictureError
from model.preprocessing import decode_picture
from streams.embed.batcher import EmbeddingBatcher
from streams.exceptions import FetchError
from streams.web.addresses import host_of, shown
from streams.web.fetch import Fetcher
from streams.web.hosts import Hosts

PATIENCE = 60.0  # seconds after which no other attempt at a picture begins
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts; doubled with each
JITTER = 0.25  # of a pause, so that those who wait for one host do not come all at once


class EmbeddingPipeline:
    """Many pictures side by side, each on its own."""

    def __init__(
        self,
        fetcher: Fetcher,
        batcher: EmbeddingBatcher,
        *,
        image_size: int,
        max_pixels: int,
        hosts: Hosts,
        places: int,
        large: int,
        attempts: int,
        decoders: ThreadPoolExecutor,
        attempted: Callable[[], None] = lambda: None,
        crowded: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """places: pictures on their way at a time, from the question to the embedding. large: those of them with more than
        `SMALL` bytes that are read and decoded. attempted: called at the end of each attempt at a picture. crowded: whether so
        much waits that a failure is final."""
        self._fetcher = fetcher
        self._batcher = batcher
        self._image_size = image_size
        self._max_pixels = max_pixels
        self._hosts = hosts
        self._places = asyncio.Semaphore(places)
        self._large = asyncio.Semaphore(large)
        self._attempts = attempts
        self._decoders = decoders
        self._attempted = attempted
        self._crowded = crowded
        self._sleep = sleep

    async def embedding(self, url: str) -> NDArray[np.float32]:
        """The embedding, float32 [d]. Raises FetchError when it cannot be had; after the last attempt where there are several."""
        host, end = host_of(url), monotonic() + PATIENCE
        for number in count(1):
            try:
                return await self._attempt(url, host)
            except PictureError as error:
                raise FetchError(error.reason, f"image_url {shown(url)}: {error}") from error
            except FetchError as error:
                pause = _pause(number, error.retry_after)
                if not error.transient or number >= self._attempts or self._crowded() or monotonic() + pause > end:
                    raise
            finally:
                self._attempted()
            await self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, url: str, host: str) -> NDArray[np.float32]:
        """A place is held until there is an embedding; what waits for the model is bounded, too."""
        async with AsyncExitStack() as place:
            picture = await self._picture(url, host, place)
            return await self._batcher.embed(picture)

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


def _pause(attempts: int, asked_for: float) -> float:
    """Seconds until the next attempt. asked_for: by the host, 0 when it said nothing."""
    seconds = asked_for or min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE)
    return seconds * uniform(1, 1 + JITTER)  # noqa: S311 -- no secret
