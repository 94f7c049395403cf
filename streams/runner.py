"""Runs one worker in this process: checks its surroundings, starts it, waits for a signal or a crash, stops it cleanly.

Exit codes:  0   stopped by SIGTERM or SIGINT
             1   crashed; a restart continues at the last commit
             69  no broker answered within `broker_timeout`
             78  settings, bundle, topics or data folder are wrong; a restart would not help
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

from streams.bundles import Bundles, category_changes
from streams.embed.worker import EmbedWorker
from streams.engine.app import App
from streams.exceptions import (
    BagsMoved,
    BrokerUnreachable,
    DeliveryError,
    StartupError,
    StateError,
)
from streams.kafka.fleet import MemberBundles
from streams.kafka.generations import Layout, follow_layout, read_layout
from streams.kafka.groups import group_uses
from streams.kafka.remarks import Circuit, Remarks, Said, silent
from streams.kafka.topics import ensure_topics
from streams.monitoring.health import Health, not_ready
from streams.monitoring.vitals import showing_vitals
from streams.monitoring.watchdog import Watchdog
from streams.profile.databases import remove_other_generations
from streams.profile.spread import partitions_of_bags
from streams.profile.worker import ProfileWorker
from streams.runtime.bundle_reload import BundleReload
from streams.runtime.crash_journal import CrashJournal
from streams.runtime.process import (
    CRASHED,
    MISCONFIGURED,
    collect_seldom,
    end_at_once,
    first_error,
    on_hangup,
    run_in_folder,
    stop_event,
    stopping_in_time,
    tell_address,
    unless_stopped,
)
from streams.settings import Settings
from streams.tracing import Tracing, open_tracing

logger = logging.getLogger(__name__)

StreamWorkerKind = Literal["embed", "profile"]  # the workers that process events

DRAIN_TIMEOUT = 4.0  # seconds for the events in flight

SURROUNDINGS = (StartupError, BrokerUnreachable, DeliveryError, StateError)  # failures that no event has caused


class Worker(Protocol):
    """What the embed worker and the profile worker have in common: a Faust app with an agent."""

    name: str  # "embed" or "profile"
    app: App
    tracing: Tracing | None  # set before the start
    gc_allocations: int  # garbage collection threshold of generation 0, once the worker has started

    def circuits(self) -> tuple[Circuit, ...]:
        """The hosts that are not asked for pictures now."""
        ...

    async def swap(self, bundles: Bundles) -> None:
        """Use other bundles of the same embedders from now on. Raises TastestreamError if they cannot be used."""


def run_worker(kind: StreamWorkerKind, settings: Settings, *, with_parent: bool = False) -> int:
    """Run a worker until a signal or, with `with_parent`, the end of standard input. Returns the exit code."""
    settings = settings.of_worker(kind)
    run = partial(_run, kind, settings, with_parent=with_parent)
    return run_in_folder(settings, kind, run, supervised=with_parent)


async def _run(kind: StreamWorkerKind, settings: Settings, folder: Path, *, with_parent: bool) -> int:
    stop = stop_event(with_parent=with_parent)
    reload = BundleReload(settings, kind)
    on_hangup(reload.ask, stop)
    if line := category_changes(reload.bundles):
        logger.info("%s", line)
    while (code := await _run_generation(kind, settings, folder, reload, stop)) is None:
        logger.info("starting again: the bags have moved to other topics")
    return code


async def _run_generation(
    kind: StreamWorkerKind, settings: Settings, folder: Path, reload: BundleReload, stop: asyncio.Event
) -> int | None:
    """Run a worker on the generation of the internal topics that is in use. Returns the exit code; None if another one serves now."""
    bundles = reload.bundles
    checked = await unless_stopped(_checked_topics(settings, kind, bundles), stop)
    if checked is None:
        logger.info("stopping")
        return 0
    layout, settings, partitions = checked
    remove_other_generations(folder, layout.in_use)
    port = settings.embed_port if kind == "embed" else settings.profile_port
    async with _opened(kind, settings, bundles, folder, partitions) as worker:
        worker.app.crash_journal = journal = CrashJournal(folder)
        worker.app.bundles = get_bundles = lambda: reload.bundles
        worker.app.remark = Remarks(_sayer(worker, reload), settings.commit_interval)
        watchdog = Watchdog(
            worker.app, name=kind, timeout=settings.stall_timeout, kafka=settings.aiokafka(), not_ready=not_ready
        )
        async with (
            Health(worker.app, watchdog, get_bundles, settings.web_host, port) as health,
            _reloading(reload, worker),
            _tracing(settings, worker),
            showing_vitals(kind, folder, lambda: not health.problem),
        ):
            tell_address(folder, settings.web_host, health.port)
            logger.info(
                "%s worker: %s, broker %s, data in %s, http://%s:%d/ready",
                kind, bundles, settings.broker, folder, settings.web_host, health.port,
            )  # fmt: skip

            async def changed(layout: Layout) -> None:
                remove_other_generations(folder, layout.in_use)
                same = generation_of(kind, layout) == worker.app.topics_generation
                if isinstance(worker, ProfileWorker):
                    if not same:
                        raise BagsMoved(f"the bags are in generation {layout.serving} of the internal topics now")
                    if layout.copied or not layout.target:  # before that, the topic may not exist
                        await worker.follow_target(layout.target, layout.partitions.get(layout.target, 0))
                if same or not isinstance(worker, EmbedWorker):
                    return
                _, used, number = await _checked_topics(settings, kind, bundles, layout)
                await worker.send_over(used, number)

            if kind == "embed":
                # A resize asks which members of the group send to the topic before, so no event may be read until this one has
                # looked again.
                async def look_again() -> None:
                    await changed(await _layout_now(settings))

                worker.app.before_reading = look_again

            async def follow() -> None:
                await changed(layout)
                await follow_layout(settings, layout, changed)

            return await _serve(worker, watchdog, stop, journal, follow)


def _sayer(worker: Worker, reload: BundleReload) -> Callable[[], Said]:
    """What a worker says beside its commits: what its group does not know by its joining."""
    at_start = MemberBundles.of(reload.bundles)

    def say() -> Said:
        bundles = MemberBundles.of(reload.bundles)
        return Said(worker.circuits(), None if bundles == at_start else bundles)

    return say


async def _layout_now(settings: Settings) -> Layout:
    """The layout, once a broker answers. Raises TopicsError."""
    while True:
        try:
            return await read_layout(settings)
        except BrokerUnreachable as error:
            logger.warning("%s; trying on", error)


def generation_of(kind: StreamWorkerKind, layout: Layout) -> int:
    """The generation of the internal topics that a worker uses: the embed worker sends to one, the profile worker owns one."""
    return layout.events if kind == "embed" else layout.serving


async def _checked_topics(
    settings: Settings, kind: StreamWorkerKind, bundles: Bundles, layout: Layout | None = None
) -> tuple[Layout, Settings, int]:
    """Create missing topics and check the others.

    Returns:
        Which generation is in use, the settings with its names, and the number of partitions of its bags.
    """
    layout = layout or await read_layout(settings)
    used = settings.of_generation(generation_of(kind, layout))
    trend = kind == "profile" and bool(bundles.served.labels_version)
    states = await ensure_topics(used, group_uses(used, kind), trend=trend)
    number = await partitions_of_bags(used, {name: state.partitions for name, (state, _) in states.items()})
    return layout, used, number


@asynccontextmanager
async def _reloading(reload: BundleReload, worker: Worker) -> AsyncGenerator[None]:
    """Load bundles again while this is open."""
    watching = asyncio.create_task(reload.run(worker.swap))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@asynccontextmanager
async def _tracing(settings: Settings, worker: Worker) -> AsyncGenerator[None]:
    """Trace the events of a worker while this is open, if the settings say so. Raises StartupError."""
    kind = worker.name
    worker.tracing = open_tracing(
        settings.trace_endpoint,
        settings.trace_share,
        worker=kind,
        name=settings.worker_name(kind),
        version=version("tastestream"),
        begins=kind == "embed",
    )
    try:
        yield
    finally:
        if worker.tracing is not None:
            await asyncio.to_thread(worker.tracing.close)


@asynccontextmanager
async def _opened(
    kind: StreamWorkerKind, settings: Settings, bundles: Bundles, folder: Path, partitions: int
) -> AsyncGenerator[Worker]:
    if kind == "embed":
        async with EmbedWorker(settings, bundles, folder, partitions) as worker:
            yield worker
    else:
        worker = ProfileWorker(settings, bundles, folder, partitions)
        try:
            yield worker
        finally:
            await worker.follow_target(0, 0)


async def _serve(
    worker: Worker,
    watchdog: Watchdog,
    stop: asyncio.Event,
    journal: CrashJournal,
    follow: Callable[[], Coroutine[Any, Any, None]],
) -> int | None:
    """Run a worker until it has to end. `follow`: follows the layout. Returns the exit code; None if another generation serves."""
    app = worker.app
    starting = asyncio.create_task(app.start())
    signalled = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(app.wait_until_stopped())
    watching = asyncio.create_task(watchdog.run())
    await asyncio.wait({starting, signalled, ended, watching}, return_when=asyncio.FIRST_COMPLETED)
    tasks = [starting, watching]
    if starting.done() and not starting.exception():
        logger.info("started")
        collect_seldom(worker.gc_allocations)
        tasks.append(asyncio.create_task(follow()))
        await asyncio.wait({signalled, ended, *tasks[1:]}, return_when=asyncio.FIRST_COMPLETED)
    failure = first_error(app.crash_reason) or next(
        (error for task in tasks if task.done() and (error := task.exception())), None
    )
    moved = isinstance(failure, BagsMoved)
    if moved:
        logger.info("%s", failure)
        failure = None
    elif failure is None and not signalled.done():
        failure = RuntimeError("the app stopped by itself")
    if failure is None or isinstance(failure, SURROUNDINGS):
        journal.acquit()
    if failure is not None:
        logger.error("crashed: %s", failure, exc_info=failure if logger.isEnabledFor(logging.DEBUG) else None)
    else:
        logger.info("stopping")
    # Nothing can be sent or committed then, and each part would wait for it.
    if failure is None and watchdog.is_broker_silent:
        journal.close()
        end_at_once("stopped while the broker does not answer", 0)
    with stopping_in_time(0 if failure is None else CRASHED):
        if failure is None and starting.done():
            await _finish(worker)
        await asyncio.gather(app.stop(), return_exceptions=True)
        for task in (signalled, ended, *tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is None:
        journal.close()
        return None if moved else 0
    return MISCONFIGURED if isinstance(failure, StartupError) else CRASHED


async def _finish(worker: Worker) -> None:
    """Take no more events, finish those in flight, commit."""
    app = worker.app
    app.remark = silent  # the last commit takes back what was said
    app.consumer.stop_flow()
    app.in_flight.stop()
    try:
        await asyncio.wait_for(app.in_flight.idle(), DRAIN_TIMEOUT)
    except TimeoutError:
        logger.warning("some events are still in flight after %.0f s; they will be delivered again", DRAIN_TIMEOUT)
    try:
        await app.consumer.force_commit()  # Faust's `commit` does nothing while another commit runs
    except DeliveryError as error:
        logger.warning("%s; uncommitted events will be delivered again", error)
    app.in_flight.forget()
