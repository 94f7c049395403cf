"""Embeddings of pictures by their URLs, without a cache, for callers that keep the embeddings themselves.

Pictures are fetched, decoded and embedded as in the embed worker, under the same settings, as many at a time as in
`tastestream warm`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder
from model.quantization import NOT_STORABLE, storable
from streams.embed.opening import open_pipeline
from streams.embed.pipeline import PicturePipeline
from streams.exceptions import FetchError
from streams.runtime.process import unless_stopped
from streams.settings import Settings
from streams.warm.job import EmbeddingJob
from streams.warm.url_list import Entry
from streams.web.addresses import display_url

Outcome = tuple[str, NDArray[np.float32] | tuple[str, str]]
"""A URL and its embedding, float32 [d], or the reason and the message of a failure."""


def embed_urls(settings: Settings, embedder: Embedder, urls: Sequence[str]) -> Generator[Outcome]:
    """Embed the pictures at some URLs.

    The event loop runs in a thread of its own, so the caller may be slow. Closing the generator cancels the pictures in flight.

    Args:
        settings: limits of fetching.
        embedder: the model.
        urls: each URL once.

    Yields:
        One outcome for each URL, in any order.
    """
    outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
    stop = asyncio.Event()

    async def work() -> None:
        try:
            await unless_stopped(_embed_all(settings, embedder, urls, outcomes.put), stop)
        finally:
            outcomes.put(None)

    with closing(asyncio.new_event_loop()) as loop, ThreadPoolExecutor(1, "embed-urls") as thread:
        working = thread.submit(loop.run_until_complete, work())
        try:
            while (outcome := outcomes.get()) is not None:
                yield outcome
        finally:
            loop.call_soon_threadsafe(stop.set)
        working.result()  # raises what the thread raised


async def _embed_all(
    settings: Settings, embedder: Embedder, urls: Sequence[str], emit: Callable[[Outcome], object]
) -> None:
    in_flight = min(settings.embed_in_flight, settings.fetch_connections)  # more would only wait

    def run(pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        return list(embedder.embed(np.stack(pictures)))

    async with open_pipeline(settings, {embedder.version: (embedder.image_size, run)}) as pipeline:
        job = EmbeddingJob(
            _Uncached(pipeline, embedder.version, emit),
            in_flight=in_flight,
            rate=None,
            on_failure=lambda entry: emit((entry.url, (entry.reason, entry.error))),
        )
        try:
            await job.run(_entries(urls))
        finally:
            await job.drain(0)


async def _entries(urls: Sequence[str]) -> AsyncGenerator[Entry]:
    for line, url in enumerate(urls, 1):
        yield Entry(line, url)


class _Uncached:
    """Emits each embedding instead of keeping it."""

    write_error = ""

    def __init__(
        self, pipeline: PicturePipeline[NDArray[np.float32]], version: str, emit: Callable[[Outcome], object]
    ) -> None:
        self._pipeline = pipeline
        self._version = version
        self._emit = emit

    def cached(self, url: str) -> bool:
        del url
        return False

    async def codes(self, url: str) -> None:
        embedding = (await self._pipeline.made(url))[self._version]
        if not storable(embedding):
            raise FetchError("invalid_embedding", f"image_url {display_url(url)}: {NOT_STORABLE}")
        self._emit((url, embedding))
