"""Runs one worker in this process: checks its surroundings, starts it, waits for a signal or a crash, stops it cleanly.

Exit codes:  0   stopped by SIGTERM or SIGINT
             1   crashed; a restart continues at the last commit
             69  no broker answered within `broker_timeout`
             78  settings, bundle, topics or data folder are wrong; a restart would not help
"""

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from streams.bundles import Bundles, category_changes
from streams.embed.worker import EmbedWorker
from streams.engine.app import App
from streams.exceptions import (
    BrokerUnreachable,
    DeliveryError,
    StartupError,
    StateError,
)
from streams.kafka.groups import group_uses
from streams.kafka.topics import ensure_topics
from streams.monitoring.health import Health, not_ready
from streams.monitoring.watchdog import Watchdog
from streams.profile.spread import partitions_of_bags
from streams.profile.worker import ProfileWorker
from streams.runtime.bundle_reload import BundleReload
from streams.runtime.crash_journal import CrashJournal
from streams.runtime.process import (
    CRASHED,
    MISCONFIGURED,
    first_error,
    on_hangup,
    run_in_folder,
    stop_event,
    stopping_in_time,
    unless_stopped,
)
from streams.settings import Settings

logger = logging.getLogger(__name__)

StreamWorkerKind = Literal["embed", "profile"]  # the workers that process events

DRAIN_TIMEOUT = 4.0  # seconds for the events in flight

SURROUNDINGS = (StartupError, BrokerUnreachable, DeliveryError, StateError)  # failures that no event has caused


class Worker(Protocol):
    """What the embed worker and the profile worker have in common: a Faust app with an agent."""

    name: str  # "embed" or "profile"
    app: App
    gc_allocations: int  # garbage collection threshold of generation 0, once the worker has started

    async def swap(self, bundles: Bundles) -> None:
        """Use other bundles of the same embedders from now on. Raises TastestreamError if they cannot be used."""


def run_worker(kind: StreamWorkerKind, settings: Settings, *, with_parent: bool = False) -> int:
    """Run a worker until a signal or, with `with_parent`, the end of standard input. Returns the exit code."""
    return run_in_folder(settings, kind, partial(_run, kind, settings, with_parent=with_parent))


async def _run(kind: StreamWorkerKind, settings: Settings, folder: Path, *, with_parent: bool) -> int:
    stop = stop_event(with_parent=with_parent)
    reload = BundleReload(settings, kind)
    on_hangup(reload.ask, stop)
    bundles = reload.bundles
    if line := category_changes(bundles):
        logger.info("%s", line)
    partitions = await unless_stopped(_checked_topics(settings, kind, bundles), stop)
    if partitions is None:
        logger.info("stopping")
        return 0
    port = settings.embed_port if kind == "embed" else settings.profile_port
    async with _opened(kind, settings, bundles, folder, partitions) as worker:
        worker.app.crash_journal = journal = CrashJournal(folder)
        worker.app.bundles = get_bundles = lambda: reload.bundles
        watchdog = Watchdog(
            worker.app, name=kind, timeout=settings.stall_timeout, kafka=settings.aiokafka(), not_ready=not_ready
        )
        async with (
            Health(worker.app, watchdog, get_bundles, settings.web_host, port) as health,
            _reloading(reload, worker),
        ):
            logger.info(
                "%s worker: %s, broker %s, data in %s, http://%s:%d/ready",
                kind, bundles, settings.broker, folder, settings.web_host, health.port,
            )  # fmt: skip
            return await _serve(worker, watchdog, stop, journal)


async def _checked_topics(settings: Settings, kind: StreamWorkerKind, bundles: Bundles) -> int:
    """Create missing topics and check the others. Returns the number of partitions of the bags."""
    trend = kind == "profile" and bool(bundles.served.labels_version)
    states = await ensure_topics(settings, group_uses(settings, kind), trend=trend)
    return await partitions_of_bags(settings, {name: state.partitions for name, (state, _) in states.items()})


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
async def _opened(
    kind: StreamWorkerKind, settings: Settings, bundles: Bundles, folder: Path, partitions: int
) -> AsyncGenerator[Worker]:
    if kind == "embed":
        async with EmbedWorker(settings, bundles, folder, partitions) as worker:
            yield worker
    else:
        yield ProfileWorker(settings, bundles, folder, partitions)


async def _serve(worker: Worker, watchdog: Watchdog, stop: asyncio.Event, journal: CrashJournal) -> int:
    app = worker.app
    starting = asyncio.create_task(app.start())
    signalled = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(app.wait_until_stopped())
    watching = asyncio.create_task(watchdog.run())
    await asyncio.wait({starting, signalled, ended, watching}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and not starting.exception():
        logger.info("started")
        # Freeze the long-lived objects, so that a full garbage collection does not pause the worker for 100 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(worker.gc_allocations, *gc.get_threshold()[1:])
        await asyncio.wait({signalled, ended, watching}, return_when=asyncio.FIRST_COMPLETED)
    failure = first_error(app.crash_reason) or next(
        (error for task in (starting, watching) if task.done() and (error := task.exception())), None
    )
    if failure is None and not signalled.done():
        failure = RuntimeError("the app stopped by itself")
    if failure is None or isinstance(failure, SURROUNDINGS):
        journal.acquit()
    if failure is not None:
        logger.error("crashed: %s", failure, exc_info=failure if logger.isEnabledFor(logging.DEBUG) else None)
    else:
        logger.info("stopping")
    with stopping_in_time():
        if failure is None and starting.done():
            await _finish(worker)
        await asyncio.gather(app.stop(), return_exceptions=True)
        for task in (starting, signalled, ended, watching):
            task.cancel()
    if failure is None:
        journal.close()
        return 0
    return MISCONFIGURED if isinstance(failure, StartupError) else CRASHED


async def _finish(worker: Worker) -> None:
    """Take no more events, finish those in flight, commit."""
    app = worker.app
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
