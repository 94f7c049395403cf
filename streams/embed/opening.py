"""Opens what pictures need, from the fetcher to the model, as the settings say: for the embed worker, `tastestream warm`, and
`tastestream train embed`.
"""

from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from model.bundle import Bundle
from model.embedder import Embedder
from model.quantization import HEADER_BYTES
from streams.embed.addresses import AddressPolicy
from streams.embed.batcher import EmbeddingBatcher
from streams.embed.cache import DiskCache
from streams.embed.fetch import Fetcher, FetchLimits
from streams.embed.hosts import HostLimits, Hosts
from streams.embed.making import Maker
from streams.embed.pictures import Pictures
from streams.process import yield_to_others
from streams.settings import Settings

DECODERS = 2  # threads; Pillow releases the GIL. They are ahead of the model, and must not slow it down


def new_fetcher(settings: Settings) -> Fetcher:
    """A fetcher as the settings say."""
    limits = FetchLimits(
        max_bytes=settings.fetch_max_bytes,
        total_timeout=settings.fetch_timeout,
        connections=settings.fetch_connections,
        user_agent=settings.fetch_user_agent,
    )
    policy = AddressPolicy(settings.fetch_allow_networks, settings.fetch_ports, settings.fetch_allow_hosts)
    return Fetcher(limits, policy, proxy=settings.fetch_proxy or None)


@asynccontextmanager
async def opened_maker(
    settings: Settings,
    embedder: Embedder,
    *,
    attempted: Callable[[], None] = lambda: None,
    crowded: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Maker]:
    """What makes embeddings, without a cache. The rest is as Maker has it."""
    async with AsyncExitStack() as stack:
        fetcher = await stack.enter_async_context(new_fetcher(settings))
        decoders = stack.enter_context(ThreadPoolExecutor(DECODERS, "decode", initializer=yield_to_others))
        model = stack.enter_context(ThreadPoolExecutor(1, "embed"))
        yield Maker(
            fetcher,
            EmbeddingBatcher(embedder, model, settings.embed_batch),
            image_size=embedder.image_size,
            max_pixels=settings.fetch_max_pixels,
            hosts=Hosts(HostLimits(unproven=max(1, settings.fetch_connections // 2))),
            places=settings.fetch_connections,
            large=settings.fetch_large,
            attempts=settings.fetch_attempts,
            decoders=decoders,
            attempted=attempted,
            crowded=crowded,
        )


@asynccontextmanager
async def opened_pictures(
    settings: Settings,
    bundle: Bundle,
    folder: Path,
    *,
    attempted: Callable[[], None] = lambda: None,
    crowded: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Pictures]:
    """Pictures with their cache in `folder`, which is the caller's alone (`locked_folder`). The rest is as Maker has it.

    Raises StateError when there is no room for the cache.
    """
    async with AsyncExitStack() as stack:
        maker = await stack.enter_async_context(
            opened_maker(settings, bundle.embedder(settings.model_threads), attempted=attempted, crowded=crowded)
        )
        disk = DiskCache(
            folder / "cache",
            embedder=bundle.embedder_version,
            length=HEADER_BYTES + bundle.embedding_size,
            max_bytes=settings.cache_disk,
            max_age=settings.cache_max_age,
        )
        stack.callback(disk.close)
        pictures = Pictures(maker, disk, memory=settings.cache_memory, failure_age=settings.cache_failure_age)
        stack.push_async_callback(pictures.close)
        yield pictures
