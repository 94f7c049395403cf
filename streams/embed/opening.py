"""Opens what pictures need, from the fetcher to the model, as the settings say: for the embed worker, and for `tastestream warm`."""

from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.embed.addresses import AddressPolicy
from streams.embed.batcher import EmbeddingBatcher
from streams.embed.cache import DiskCache
from streams.embed.fetch import Fetcher, FetchLimits
from streams.embed.pictures import Pictures
from streams.settings import Settings

DECODERS = 2  # threads that decode pictures; Pillow releases the GIL


@asynccontextmanager
async def opened_pictures(
    settings: Settings, bundle: Bundle, folder: Path, *, attempted: Callable[[], None] = lambda: None
) -> AsyncGenerator[Pictures]:
    """Pictures with their cache in `folder`, which is the caller's alone (`locked_folder`). `attempted`: as Pictures has it.

    Raises StateError when there is no room for the cache.
    """
    async with AsyncExitStack() as stack:
        limits = FetchLimits(
            max_bytes=settings.fetch_max_bytes,
            total_timeout=settings.fetch_timeout,
            connections=settings.fetch_connections,
        )
        fetcher = await stack.enter_async_context(Fetcher(limits, AddressPolicy(settings.fetch_allow_networks)))
        decoders = stack.enter_context(ThreadPoolExecutor(DECODERS, "decode"))
        model = stack.enter_context(ThreadPoolExecutor(1, "embed"))
        disk = DiskCache(
            folder / "cache",
            embedder=bundle.embedder_version,
            length=HEADER_BYTES + bundle.embedding_size,
            max_bytes=settings.cache_disk,
            max_age=settings.cache_max_age,
        )
        stack.callback(disk.close)
        pictures = Pictures(
            fetcher,
            EmbeddingBatcher(bundle.embedder(settings.model_threads), model, settings.embed_batch),
            disk,
            memory=settings.cache_memory,
            image_size=bundle.image_size,
            max_pixels=settings.fetch_max_pixels,
            concurrency=settings.fetch_connections,
            attempts=settings.fetch_attempts,
            failure_age=settings.cache_failure_age,
            decoders=decoders,
            attempted=attempted,
        )
        stack.push_async_callback(pictures.close)
        yield pictures
