"""Embeddings of pictures by their URLs, for whoever keeps them in a place of his own: `tastestream train embed`.

Fetched, decoded and embedded as the embed worker does it, under its settings, and side by side as `tastestream warm` does it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder
from streams.embed.opening import open_pipeline
from streams.embed.pipeline import EmbeddingPipeline
from streams.runtime.process import unless_stopped
from streams.settings import Settings
from streams.warm.lists import Entry
from streams.warm.warming import Warming

Outcome = tuple[str, NDArray[np.float32] | tuple[str, str]]
"""A URL and its embedding, float32 [d], or the reason and the message why there is none."""


def embed_urls(settings: Settings, embedder: Embedder, urls: Sequence[str]) -> Generator[Outcome]:
    """What comes of each URL, in any order; a URL stands in `urls` once.

    The event loop runs in a thread of its own, so that whoever takes the outcomes may be slow. When the generator is closed, the
    pictures that are under way are given up.
    """
    outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
    stop = asyncio.Event()

    async def work() -> None:
        try:
            await unless_stopped(_all(settings, embedder, urls, outcomes.put), stop)
        finally:
            outcomes.put(None)

    with closing(asyncio.new_event_loop()) as loop, ThreadPoolExecutor(1, "collect") as thread:
        working = thread.submit(loop.run_until_complete, work())
        try:
            while (outcome := outcomes.get()) is not None:
                yield outcome
        finally:
            loop.call_soon_threadsafe(stop.set)
        working.result()  # raises what went wrong


async def _all(settings: Settings, embedder: Embedder, urls: Sequence[str], told: Callable[[Outcome], object]) -> None:
    in_flight = min(settings.embed_in_flight, settings.fetch_connections)  # more would only wait
    async with open_pipeline(settings, embedder) as maker:
        warming = Warming(
            _Told(maker, told),
            in_flight=in_flight,
            rate=None,
            failed=lambda entry: told((entry.url, (entry.reason, entry.error))),
        )
        try:
            await warming.run(_entries(urls))
        finally:
            await warming.finish(0)


async def _entries(urls: Sequence[str]) -> AsyncGenerator[Entry]:
    for line, url in enumerate(urls, 1):
        yield Entry(line, url)


class _Told:
    """Embeddings that are told of when they are made, and not kept."""

    unwritten = ""

    def __init__(self, maker: EmbeddingPipeline, told: Callable[[Outcome], object]) -> None:
        self._maker = maker
        self._told = told

    def cached(self, url: str) -> None:
        del url

    async def embedding(self, url: str) -> None:
        self._told((url, await self._maker.embedding(url)))
