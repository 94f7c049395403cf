"""Opens the picture pipeline and the cache by the settings: for the embed worker, `tastestream warm` and `tastestream train embed`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streams import metrics
from streams.bundles import Bundles
from streams.embed.batcher import Batcher
from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.pool import DecoderPool, open_decoders
from streams.embed.disk_cache import DiskCache
from streams.embed.embedding_cache import CodeBatcher, EmbeddingCache
from streams.embed.networks import open_networks
from streams.embed.pipeline import PicturePipeline, Sized
from streams.features.follower import Follower
from streams.features.sharing import Send, Sharing
from streams.features.taking import Own
from streams.settings import Settings
from streams.text import visible
from streams.web.addresses import AddressPolicy
from streams.web.fetch import Fetcher
from streams.web.host_limiter import HostLimiter, HostLimits
from streams.web.limits import FetchLimits

CACHE = "cache"  # the folder of the cache
POSITION = "features.json"  # how far the topic has been read
SHOWN_HOSTS = 10  # hosts that the metrics name
CODE_BATCH = 64  # pictures in one call of an item network

Made = TypeVar("Made")


def new_fetcher(settings: Settings) -> Fetcher:
    """A fetcher with the limits and rules of the settings."""
    limits = FetchLimits(
        max_bytes=settings.fetch_max_bytes,
        total_timeout=settings.fetch_timeout,
        connections=settings.fetch_connections,
        user_agent=settings.fetch_user_agent,
    )
    policy = AddressPolicy(settings.fetch_allow_networks, settings.fetch_ports, settings.fetch_allow_hosts)
    return Fetcher(limits, policy, proxy=settings.fetch_proxy or None)


@asynccontextmanager
async def open_pipeline(
    settings: Settings,
    networks: Mapping[str, tuple[int, Callable[[Sequence[NDArray[np.uint8]]], Sequence[Made]]]],
    *,
    worker: str = "embed",
    attempted: Callable[[], None] = lambda: None,
    heic: bool = False,
    idle: float | None = None,
) -> AsyncGenerator[PicturePipeline[Made]]:
    """Open a pipeline, without a cache.

    Args:
        settings: limits and sizes.
        networks: by the version of what each makes, the side of its pictures in pixels, and the call.
        worker: whose pictures they are, in the metrics.
        attempted: as `PicturePipeline` describes it.
        heic: as `DecoderLimits` describes it.
        idle: seconds without a picture after which the decoder processes end, until the next one; the first one starts them. None:
            they run all the time.

    Raises:
        DecoderError: the decoder processes do not start.
    """
    async with AsyncExitStack() as stack:
        fetcher = await stack.enter_async_context(new_fetcher(settings))
        limits = DecoderLimits(settings.decoder_seconds, settings.decoder_memory, heic)
        decoders = stack.enter_context(open_decoders(limits, lazy=idle is not None))
        if idle is not None:
            resting = asyncio.create_task(_rest(decoders, idle))
            stack.callback(resting.cancel)
        model = stack.enter_context(ThreadPoolExecutor(1, "embed"))
        hosts = HostLimiter(HostLimits(unproven=max(1, settings.fetch_connections // 2)))
        _show(hosts)
        took = metrics.stage_seconds.labels(worker, "model").observe
        yield PicturePipeline(
            fetcher,
            {
                version: Sized(image_size, Batcher(run, model, settings.embed_batch, took))
                for version, (image_size, run) in networks.items()
            },
            max_pixels=settings.fetch_max_pixels,
            host_limiter=hosts,
            max_in_flight=settings.fetch_connections,
            max_large=settings.fetch_large,
            attempts=settings.fetch_attempts,
            decoders=decoders,
            worker=worker,
            attempted=attempted,
        )


def _show(hosts: HostLimiter) -> None:
    """Show the hosts in the metrics. A stranger can invent any number of them, so only a few are named."""
    metrics.picture_hosts.watch("hosts", lambda: [([state.value], count) for state, count in hosts.states().items()])
    metrics.failing_hosts.watch(
        "hosts", lambda: [((visible(one.name), one.state.value), one.share) for one in hosts.worst(SHOWN_HOSTS)]
    )


async def _rest(decoders: DecoderPool, idle: float) -> None:
    """End the decoder processes whenever there was no picture for `idle` seconds."""
    while True:
        await asyncio.sleep(idle / 2)
        decoders.rest(idle)


@asynccontextmanager
async def open_embedding_cache(
    settings: Settings,
    bundles: Bundles,
    folder: Path,
    *,
    send: Send | None = None,
    attempted: Callable[[], None] = lambda: None,
) -> AsyncGenerator[EmbeddingCache]:
    """Open an embedding cache with its pipeline.

    Args:
        settings: limits and sizes.
        bundles: the models.
        folder: the worker's folder, which the caller has locked (`locked_folder`). The cache is in `cache` below it.
        send: sends records to `picture-features`; None to share nothing.
        attempted: as `PicturePipeline` describes it; also called while the features of others are read.

    Raises:
        StateError: the cache cannot be created.
    """
    networks = open_networks(bundles, settings.model_threads)
    async with AsyncExitStack() as stack:
        runs = {network.version: (network.image_size, network.run) for network in networks.pictures}
        pipeline = await stack.enter_async_context(open_pipeline(settings, runs, attempted=attempted))
        disk = DiskCache(
            folder / CACHE,
            row_bytes=networks.row_bytes,
            max_bytes=settings.cache_disk,
            max_age=settings.cache_max_age,
        )
        stack.callback(disk.close)
        codes = stack.enter_context(ThreadPoolExecutor(1, "codes"))
        own = Own()
        follower = sharing = None
        if send is not None:
            follower = Follower(
                settings,
                disk,
                networks.row_bytes,
                folder / POSITION,
                own=own,
            )
            sharing = Sharing(send, own, follower)
        cache = EmbeddingCache(
            pipeline,
            [CodeBatcher(coder, coder.run and Batcher(coder.run, codes, CODE_BATCH)) for coder in networks.coders],
            disk,
            memory=settings.cache_memory,
            failure_age=settings.cache_failure_age,
            sharing=sharing,
        )
        stack.push_async_callback(cache.close)
        if follower is not None:
            stack.push_async_callback(follower.stop)
            follower.start(cache.forget, attempted)
        yield cache
