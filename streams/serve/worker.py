"""The serve worker: follows the bags into a replica, keeps what scores them, and answers over HTTP.

It joins no group and creates nothing. With bags on disk it answers at once, whether there is a broker or not. Without any it
waits for a broker, and answers /live meanwhile.

Exit codes:  0   stopped by SIGTERM or SIGINT
             1   the disk failed; a restart goes on from the changelog
             69  there are no bags on disk, and no broker answered within `broker_timeout`
             78  settings, bundle or data folder are wrong; a restart would not help
"""

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from model.bundle import Bundle
from model.item_search.index import CodeIndex
from streams.bundles import Bundles
from streams.kafka.topics import connect
from streams.profile.scoring import Recommender, ScoringOptions
from streams.runtime.bundle_reload import BundleReload
from streams.runtime.process import first_error, on_hangup, run_in_folder, stop_event, stopping_in_time
from streams.serve.api.app import make_app
from streams.serve.api.server import Connections, open_server
from streams.serve.catalogue.catalogue import ItemCatalogue
from streams.serve.catalogue.held import HeldItems
from streams.serve.catalogue.opening import open_catalogue
from streams.serve.interface import Scorer
from streams.serve.replica.replica import Replica
from streams.serve.sending import EventSender
from streams.serve.tasting import PictureTaster, open_taster
from streams.settings import Settings
from streams.trend.follower import TrendFollower
from streams.trend.trend import Trend

logger = logging.getLogger(__name__)


def run_serve_worker(settings: Settings, *, with_parent: bool = False) -> int:
    """Run a serve worker until a signal or, with `with_parent`, the end of standard input. Returns the exit code."""
    return run_in_folder(settings, "serve", partial(_run, settings, with_parent=with_parent))


async def _run(settings: Settings, folder: Path, *, with_parent: bool) -> int:
    stop = stop_event(with_parent=with_parent)
    reload = BundleReload(settings, "serve")
    on_hangup(reload.ask, stop)
    worker = ServeWorker(settings, reload, folder)
    async with worker.running() as work:
        app, connections = make_app(worker, settings), Connections.of(settings)
        async with open_server(app, settings.serve_host, settings.serve_port, connections) as port:
            logger.info(
                "serve worker: %s, broker %s, data in %s, http://%s:%d",
                reload.bundles, settings.broker, folder, settings.serve_host, port,
            )  # fmt: skip
            signalled = asyncio.create_task(stop.wait())
            await asyncio.wait({signalled, work}, return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
        if work.done() and (failure := first_error(work.exception())):
            raise failure
        logger.info("stopping")
    return 0


class ServeWorker:
    """What the API answers from.

    Attributes:
        bags: the replica of the bags.
        catalogue: the items, while it runs.
        taster: makes codes of pictures, while it runs.
        sender: writes events, while it runs.
    """

    bags: Replica
    catalogue: ItemCatalogue
    taster: PictureTaster
    sender: EventSender

    def __init__(self, settings: Settings, reload: BundleReload, folder: Path) -> None:
        """Open nothing yet.

        Args:
            settings: of the worker.
            reload: the bundles.
            folder: of its files.
        """
        self._settings = settings
        self._reload = reload
        self._folder = folder
        self._recommender = self._new_recommender(reload.bundles.served)
        self._trend: TrendFollower | None = None  # once a bundle has labels, and the number of partitions is known
        self._group: asyncio.TaskGroup | None = None
        self.bags = Replica(settings, reload.bundles.row_bytes, folder / "bags")

    @property
    def bundles(self) -> Bundles:
        """The bundles in use."""
        return self._reload.bundles

    def scorer(self) -> Scorer:
        """What scores bags now."""
        bundle = self._recommender.bundle
        if self._trend is None:
            return Scorer(self._recommender, Trend(None, {}, len(bundle.categories)))
        return Scorer(self._recommender, self._trend.trend(bundle.labels_version, len(bundle.categories)))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[asyncio.Task[None]]:
        """Answer from what is on disk, and follow, while this is open. Yields the work, which ends only if it fails."""
        settings, bundle = self._settings, self.bundles.served
        async with AsyncExitStack() as stack:
            self.taster = await stack.enter_async_context(open_taster(settings, bundle))
            self.sender = await stack.enter_async_context(EventSender(settings))
            opened = await stack.enter_async_context(
                open_catalogue(settings, bundle, self._folder / "catalogue", CodeIndex, self.bags.users_after)
            )
            self.catalogue = opened.catalogue
            self.bags.watch(opened.held)
            self.bags.open()
            work = asyncio.create_task(self._work(opened.held))
            try:
                yield work
            finally:
                with stopping_in_time():
                    work.cancel()
                    await asyncio.gather(work, return_exceptions=True)
                    self.bags.close()

    async def _work(self, held: HeldItems) -> None:
        if not self.bags.known.is_set():
            await (await connect(self._settings)).close()  # only so that a wrong address is an error
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self.bags.run())
            self._group.create_task(held.run())
            self._group.create_task(self._reload.run(self._swap))
            self._group.create_task(self._settle())
            await self.bags.known.wait()
            self._follow_trend()

    async def _settle(self) -> None:
        """Freeze the long-lived objects once the bags are there: a full garbage collection would pause the worker."""
        await self.bags.caught_up.wait()
        gc.collect()
        gc.freeze()

    # -- the bundle

    def _new_recommender(self, bundle: Bundle) -> Recommender:
        settings = self._settings
        recommender = Recommender(bundle, bundle.aggregator(settings.model_threads), ScoringOptions.of(settings))
        _ = recommender.labels, recommender.ranking  # read once, and not by the first request
        return recommender

    async def _swap(self, bundles: Bundles) -> None:
        """Score by another bundle of the same embedder from now on. Raises TastestreamError if it does not work."""
        if bundles.served is self._recommender.bundle:
            return
        recommender = await asyncio.to_thread(self._new_recommender, bundles.served)
        await asyncio.to_thread(recommender.try_out)
        self._recommender = recommender
        self._follow_trend()

    def _follow_trend(self) -> None:
        """Follow the trend if the bundle has labels."""
        bundle = self._recommender.bundle
        if self._trend is not None:
            self._trend.use(bundle.labels_version, len(bundle.categories))
        elif bundle.labels_version and self.bags.partitions and self._group is not None:
            self._trend = TrendFollower(
                self._settings, self.bags.partitions, bundle.labels_version, len(bundle.categories)
            )
            self._group.create_task(self._trend.run())
