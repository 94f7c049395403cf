"""Features of pictures that are not on `picture-features`: fetched, decoded and run through the backbone as in the embed worker."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from streams.embed.opening import open_pipeline
from streams.rollout.coder import Coder
from streams.settings import Settings

Fetch = Callable[[str], Awaitable[bytes]]
"""Gives the features of the picture at a URL. Raises FetchError."""


@asynccontextmanager
async def open_fetching(settings: Settings, coder: Coder) -> AsyncGenerator[Fetch]:
    """Open what fetches pictures, without a cache, under the settings of the embed worker.

    Raises:
        DecoderError: the decoder processes do not start.
    """
    network = coder.network
    async with open_pipeline(settings, {network.version: (network.image_size, network.run)}) as pipeline:

        async def features(url: str) -> bytes:
            return (await pipeline.made(url))[network.version]

        yield features
