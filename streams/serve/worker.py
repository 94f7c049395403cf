"""The serve worker: follows the bags into a replica, keeps what scores them, and answers over HTTP.

It joins no group and creates nothing. With bags on disk it answers at once, whether there is a broker or not. Without any it
waits for a broker, and answers /live meanwhile.

Exit codes:  0   stopped by SIGTERM or SIGINT
             1   the disk failed, or the worker stalled; a restart goes on from the changelog
             69  there are no bags on disk, and no broker answered within `broker_timeout`
             78  settings, bundle or data folder are wrong; a restart would not help
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from model.bundle import Bundle
from model.item_search.index import CodeIndex
from streams.bundles import Bundles
from streams.exceptions import BagsMoved, StateError
from streams.kafka.generations import FIRST, Layout, follow_layout
from streams.kafka.topics import connected
from streams.monitoring.vitals import showing_vitals
from streams.profile.databases import remove_other_generations
from streams.profile.scoring import Recommender, ScoringOptions
from streams.runtime.bundle_reload import BundleReload
from streams.runtime.process import (
    collect_seldom,
    first_error,
    on_hangup,
    run_in_folder,
    stop_event,
    stopping_in_time,
    tell_address,
)
from streams.serve.api.app import make_app
from streams.serve.api.server import Connections, open_server
from streams.serve.catalogue.catalogue import ItemCatalogue
from streams.serve.catalogue.held import HeldItems
from streams.serve.catalogue.opening import Opened, open_catalogue
from streams.serve.dead_letters import LetterDesk
from streams.serve.interface import Prepared, Scorer
from streams.serve.overview.watch import Watch
from streams.serve.prepared import PreparedItems
from streams.serve.replica.replica import Replica
from streams.serve.sending import EventSender
from streams.serve.tasting import PictureTaster, open_taster
from streams.serve.watchdog import ServeWatchdog
from streams.settings import Settings
from streams.trend.follower import TrendFollower
from streams.trend.trend import no_trend

logger = logging.getLogger(__name__)

GC_ALLOCATIONS = 20_000  # Python's default of 700 is a request or two
GENERATION = "generation"  # file in the folder of a serve worker: of which generation its bags are
DECODERS_IDLE = 300.0  # seconds without a picture after which the decoder processes end: most workers never see one


def run_serve_worker(settings: Settings, *, with_parent: bool = False) -> int:
    """Run a serve worker until a signal or, with `with_parent`, the end of standard input. Returns the exit code."""
    settings = settings.of_worker("serve")
    return run_in_folder(settings, "serve", partial(_run, settings, with_parent=with_parent), supervised=with_parent)


async def _run(settings: Settings, folder: Path, *, with_parent: bool) -> int:
    stop = stop_event(with_parent=with_parent)
    reload = BundleReload(settings, "serve")
    on_hangup(reload.ask, stop)
    while await _run_generation(settings, folder, reload, stop):
        logger.info("starting again: the bags have moved to other topics")
    return 0


async def _run_generation(settings: Settings, folder: Path, reload: BundleReload, stop: asyncio.Event) -> bool:
    """Serve the generation of the bags that was served last. Returns whether another one serves now."""
    layout = replace(FIRST, serving=_last_generation(folder))
    settings = settings.of_generation(layout.serving)
    remove_other_generations(folder, {layout.serving})
    worker = ServeWorker(settings, reload, folder)
    async with worker.running() as work, showing_vitals("serve", folder, lambda: worker.ready):
        app, connections = make_app(worker, settings), Connections.of(settings)
        async with open_server(app, settings.serve_host, settings.serve_port, connections) as port:
            tell_address(folder, settings.serve_host, port)
            logger.info(
                "serve worker: %s, broker %s, data in %s, http://%s:%d",
                reload.bundles, settings.broker, folder, settings.serve_host, port,
            )  # fmt: skip

            async def changed(layout: Layout) -> None:
                if layout.serving != settings.generation:
                    _note_generation(folder, layout.serving)
                    raise BagsMoved(f"the bags are in generation {layout.serving} of the internal topics now")

            signalled = asyncio.create_task(stop.wait())
            following = asyncio.create_task(follow_layout(settings, layout, changed))
            await asyncio.wait({signalled, work, following}, return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        failed = next((task for task in (work, following) if task.done() and not task.cancelled()), None)
        failure = None if failed is None else first_error(failed.exception())
        if isinstance(failure, BagsMoved):
            logger.info("%s", failure)
            return True
        if failure is not None:
            raise failure
        logger.info("stopping")
    return False


def _last_generation(folder: Path) -> int:
    """The generation of the bags in the folder of a serve worker."""
    try:
        return int((folder / GENERATION).read_text())
    except (OSError, ValueError):
        return 1


def _note_generation(folder: Path, number: int) -> None:
    """Keep the generation for the next start, which may find no broker. Raises StateError."""
    try:
        (folder / GENERATION).write_text(str(number))
    except OSError as error:
        raise StateError(f"data folder {folder} cannot be written: {error.strerror}") from error


class ServeWorker:
    """What the API answers from.

    Attributes:
        bags: the replica of the bags.
        catalogue: the items, while it runs.
        taster: makes codes of pictures, while it runs.
        sender: writes events, while it runs.
        overview: what the whole system does.
        watchdog: ends the worker when it stalls.
        letters: the dead letters.
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
        following = reload.bundles.next
        self._prepared = PreparedItems(following.embedder_version) if following else None  # it stays, unlike its bundle
        self._held: HeldItems | None = None  # once it runs
        self._trend: TrendFollower | None = None  # once a bundle has labels, and the number of partitions is known
        self._group: asyncio.TaskGroup | None = None
        self.bags = Replica(settings, reload.bundles.row_bytes, folder / settings.bags_folder)
        self._watch = Watch(settings, self.bags.states)
        self.overview = self._watch.board
        self.watchdog = ServeWatchdog(self._still, settings.stall_timeout)
        self.letters = LetterDesk(settings)

    @property
    def bundles(self) -> Bundles:
        """The bundles in use."""
        return self._reload.bundles

    @property
    def ready(self) -> bool:
        """Whether the bags, and the trend if the bundle has one, were read to their ends once. Any run counts."""
        if not self.bags.ready:
            return False
        return not self._recommender.uses_trend or (self._trend is not None and self._trend.caught_up.is_set())

    @property
    def prepared(self) -> Prepared | None:
        """How far the rollout is; None without a next bundle."""
        if self._prepared is None:
            return None
        counted = self._held is not None and self._held.counted and self.bags.ready
        return Prepared(self._prepared.states, counted, self._settings.rollout_share)

    def scorer(self) -> Scorer:
        """What scores bags now."""
        bundle = self._recommender.bundle
        if self._trend is None:
            return Scorer(self._recommender, no_trend(len(bundle.categories)))
        return Scorer(self._recommender, self._trend.trend(bundle.labels_version, len(bundle.categories)))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[asyncio.Task[None]]:
        """Answer from what is on disk, and follow, while this is open. Yields the work, which ends only if it fails."""
        settings, bundle = self._settings, self.bundles.served
        async with AsyncExitStack() as stack:
            self.taster = await stack.enter_async_context(
                open_taster(settings, bundle, worker="serve", idle=DECODERS_IDLE)
            )
            self.sender = await stack.enter_async_context(EventSender(settings))
            opened = await stack.enter_async_context(
                open_catalogue(settings, bundle, self._folder / "catalogue", CodeIndex, self.bags.users_after)
            )
            self.catalogue, self._held = opened.catalogue, opened.held
            if self._prepared is not None:
                opened.held.takers.append(self._prepared)
            self.bags.watch(opened.held)
            self.bags.open()
            work = asyncio.create_task(self._work(opened))
            try:
                yield work
            finally:
                with stopping_in_time():
                    work.cancel()
                    await asyncio.gather(work, return_exceptions=True)
                    self.bags.close()

    async def _work(self, opened: Opened) -> None:
        if not self.bags.known.is_set():
            async with connected(self._settings):  # only so that a wrong address is an error
                pass
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self.watchdog.run())
            self._group.create_task(self.bags.run())
            self._group.create_task(self._watch.run())
            self._group.create_task(opened.held.run())
            self._group.create_task(_result(opened.work))
            self._group.create_task(self._reload.run(self._swap))
            self._group.create_task(self._settle())
            await self.bags.known.wait()
            self._follow_trend()

    def _still(self) -> float:
        return max(self.bags.still, 0.0 if self._trend is None else self._trend.still)

    async def _settle(self) -> None:
        """Collect garbage seldom once the bags are there."""
        await self.bags.caught_up.wait()
        collect_seldom(GC_ALLOCATIONS)

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
                self._settings,
                self.bags.partitions,
                bundle.labels_version,
                len(bundle.categories),
                file=self._folder / "trend",
            )
            self._group.create_task(self._trend.run())


async def _result(work: asyncio.Task[None]) -> None:
    await asyncio.shield(work)  # whoever opened it ends it
