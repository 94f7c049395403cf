"""Opens the embedding pipeline and cache from the settings: for the embed worker, `tastestream warm` and `tastestream train embed`."""

from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from model.bundle import Bundle
from model.embedder import Embedder
from model.quantization import HEADER_BYTES
from streams.embed.batcher import EmbeddingBatcher
from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.pool import open_decoders
from streams.embed.disk_cache import DiskCache
from streams.embed.embedding_cache import EmbeddingCache
from streams.embed.pipeline import EmbeddingPipeline
from streams.settings import Settings
from streams.web.addresses import AddressPolicy
from streams.web.fetch import Fetcher
from streams.web.host_limiter import HostLimiter, HostLimits
from streams.web.limits import FetchLimits


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
    embedder: Embedder,
    *,
    attempted: Callable[[], None] = lambda: None,
) -> AsyncGenerator[EmbeddingPipeline]:
    """Open an embedding pipeline, without a cache. `EmbeddingPipeline` describes `attempted`.

    Raises:
        DecoderError: the decoder processes do not start.
    """
    async with AsyncExitStack() as stack:
        fetcher = await stack.enter_async_context(new_fetcher(settings))
        limits = DecoderLimits(settings.decoder_seconds, settings.decoder_memory)
        decoders = stack.enter_context(open_decoders(limits))
        model = stack.enter_context(ThreadPoolExecutor(1, "embed"))
        yield EmbeddingPipeline(
            fetcher,
            EmbeddingBatcher(embedder, model, settings.embed_batch),
            image_size=embedder.image_size,
            max_pixels=settings.fetch_max_pixels,
            host_limiter=HostLimiter(HostLimits(unproven=max(1, settings.fetch_connections // 2))),
            max_in_flight=settings.fetch_connections,
            max_large=settings.fetch_large,
            attempts=settings.fetch_attempts,
            decoders=decoders,
            attempted=attempted,
        )


@asynccontextmanager
async def open_embedding_cache(
    settings: Settings,
    bundle: Bundle,
    folder: Path,
    *,
    attempted: Callable[[], None] = lambda: None,
) -> AsyncGenerator[EmbeddingCache]:
    """Open an embedding cache with its pipeline. `EmbeddingPipeline` describes `attempted`.

    Args:
        settings: limits and sizes.
        bundle: the model.
        folder: the worker's folder, which the caller has locked (`locked_folder`). The cache is in `cache` below it.

    Raises:
        StateError: the cache cannot be created.
    """
    async with AsyncExitStack() as stack:
        pipeline = await stack.enter_async_context(
            open_pipeline(settings, bundle.embedder(settings.model_threads), attempted=attempted)
        )
        disk = DiskCache(
            folder / "cache",
            embedder_version=bundle.embedder_version,
            length=HEADER_BYTES + bundle.embedding_size,
            max_bytes=settings.cache_disk,
            max_age=settings.cache_max_age,
        )
        stack.callback(disk.close)
        cache = EmbeddingCache(pipeline, disk, memory=settings.cache_memory, failure_age=settings.cache_failure_age)
        stack.push_async_callback(cache.close)
        yield cache
