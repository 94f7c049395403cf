"""Opens the catalogue with what fills it: the followers of `items` and of `picture-features`."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.bundles import Bundles
from streams.embed.networks import open_networks
from streams.features.follower import Follower
from streams.features.taking import Own
from streams.profile.bag import Embedder
from streams.serve.catalogue.catalogue import ItemCatalogue
from streams.serve.catalogue.features import ItemFeatures
from streams.serve.catalogue.follower import ItemFollower
from streams.serve.catalogue.held import HeldItems, UsersAfter
from streams.serve.catalogue.store import ItemStore
from streams.serve.catalogue.update import CodeIndex
from streams.settings import Settings

logger = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A catalogue that is being filled."""

    catalogue: ItemCatalogue
    held: HeldItems
    items: ItemFollower
    features: Follower
    work: asyncio.Task[None]
    """Reads the items from disk, and then follows the topic. It ends only if it fails."""

    async def caught_up(self) -> None:
        """Wait until both topics were read to their ends once, or cannot be read."""
        await self.items.caught_up.wait()
        await self.features.caught_up.wait()


@asynccontextmanager
async def open_catalogue(
    settings: Settings, bundle: Bundle, folder: Path, codes: Callable[[int], CodeIndex], users_after: UsersAfter
) -> AsyncGenerator[Opened]:
    """Open the catalogue, and follow both topics while it is open. What the bags hold comes by `Opened.held`, while that runs.

    It is open at once, and `ready` once the items on disk are in memory.

    Args:
        settings: where the broker and the topics are, and how many bytes the features may take (`CACHE_DISK`).
        bundle: the one that is served.
        folder: of the catalogue, in that of the worker, which the caller has locked.
        codes: makes an empty index of codes for embeddings of so many numbers.
        users_after: reads the bags.

    Raises:
        StateError: the disk fails.
    """
    embedder = Embedder(bundle.embedder_version, HEADER_BYTES + bundle.embedding_size)
    networks = await asyncio.to_thread(open_networks, Bundles(bundle), settings.model_threads)
    [coder] = networks.coders
    async with AsyncExitStack() as stack:
        store = await asyncio.to_thread(ItemStore, folder)
        stack.callback(store.close)
        catalogue = ItemCatalogue(store, codes(bundle.embedding_size), embedder)
        features = ItemFeatures(
            folder / "features", coder, networks.row_bytes[coder.features], settings.cache_disk, catalogue
        )
        stack.callback(features.close)
        thread = stack.enter_context(ThreadPoolExecutor(1, "catalogue"))  # ends before the disk is closed
        stack.callback(catalogue.stop)
        follower = Follower(settings, features, networks.row_bytes, folder / "features.json", own=Own())
        items = ItemFollower(settings, store, catalogue, features, thread)

        async def fill() -> None:
            # What changes an item has to find it in memory, so both topics wait.
            await asyncio.get_running_loop().run_in_executor(thread, catalogue.load)
            follower.start(lambda _: None, lambda: None)
            async with asyncio.TaskGroup() as group:
                group.create_task(items.run())
                group.create_task(_recode(catalogue, features, thread))

        work = asyncio.create_task(fill())
        stack.push_async_callback(follower.stop)
        stack.push_async_callback(_end, work)
        if not settings.share_features:
            logger.warning(
                "SHARE_FEATURES is off: items of topic %s get no codes, and only those that bags hold are recommended",
                settings.items_topic,
            )
        yield Opened(catalogue, HeldItems([catalogue], thread, users_after), items, follower, work)


async def _recode(catalogue: ItemCatalogue, features: ItemFeatures, thread: Executor) -> None:
    """Make the codes of items that have none of this embedder, such as after another bundle."""
    loop, groups = asyncio.get_running_loop(), catalogue.without_code()
    while (urls := await loop.run_in_executor(thread, next, groups, None)) is not None:
        await loop.run_in_executor(thread, features.fill, urls)


async def _end(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
