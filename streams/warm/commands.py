"""Runs `tastestream warm` under the embed worker's lock, with a progress bar on standard error, until the end or a signal."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from streams.bundles import load_bundles
from streams.console import PlainConsole, say
from streams.embed.opening import open_embedding_cache
from streams.exceptions import BrokerUnreachable, ListError
from streams.features.producer import FeaturesProducer
from streams.kafka.topics import ensure_topics
from streams.runtime.process import configure_logging, locked_folder, stop_event, unless_stopped
from streams.settings import Settings
from streams.warm.job import EmbeddingJob
from streams.warm.read_ahead import ReadAhead
from streams.warm.url_list import Entry, UrlList

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT = 4.0  # seconds that a stopped run waits for the pictures in flight
STOPPED = 130  # exit code after Ctrl-C, as a shell reports it
MAX_URL_LENGTH = 4096  # characters of a URL in the file of failures; a longer text is not a URL
BAR_INTERVAL, LOG_INTERVAL = 0.2, 30.0  # seconds between two updates of the progress bar, and between two log lines

OnFailure = Callable[[Entry], object]


def run_warm(
    settings: Settings,
    url_list: UrlList,
    console: Console,
    *,
    limit: int | None,
    rate: float | None,
    share: bool,
    on_failure: OnFailure,
) -> int:
    """Fill the picture cache from a list, and print a summary, however the run ends.

    Args:
        settings: those of the embed worker.
        url_list: the open list.
        console: where the summary goes.
        limit: entries to read; None for all.
        rate: pictures started a second; None for no limit.
        share: whether features are shared with the embed workers, if the settings say so too.
        on_failure: called with each entry that has no embedding.

    Returns:
        The exit code: 0 if all pictures have an embedding, 1 if some do not, 130 after a signal.

    Raises:
        BrokerUnreachable: there is no broker to share features by.
        DataFolderError: the embed worker, or another run, uses the folder.
        TastestreamError: the bundle, the cache or the list cannot be used.
    """
    configure_logging(settings)
    with locked_folder(settings.state_dir, "embed") as folder:
        return asyncio.run(
            _warm(settings, folder, url_list, console, limit=limit, rate=rate, share=share, on_failure=on_failure)
        )


async def _warm(
    settings: Settings,
    folder: Path,
    url_list: UrlList,
    console: Console,
    *,
    limit: int | None,
    rate: float | None,
    share: bool,
    on_failure: OnFailure,
) -> int:
    stop = stop_event(with_parent=False)
    bundles = load_bundles(settings)
    # Within one run a failure is final, so that a repeated URL costs nothing. The next run tries all failed URLs again.
    settings = settings.model_copy(update={"cache_failure_age": math.inf})
    async with AsyncExitStack() as stack:
        send = None
        if share and settings.share_features:
            producer = await unless_stopped(_opened_producer(settings, stack), stop)
            if producer is None:
                return STOPPED
            send = producer.send
        cache = await stack.enter_async_context(open_embedding_cache(settings, bundles, folder, send=send))
        if send is not None:
            logger.info("reading topic %s first, for the pictures that other workers have", settings.features_topic)
            await unless_stopped(cache.caught_up(), stop)
        in_flight = min(settings.embed_in_flight, settings.fetch_connections)  # more would only wait
        job = EmbeddingJob(cache, in_flight=in_flight, rate=rate, on_failure=on_failure)
        ahead = ReadAhead(_first(url_list.entries, limit))
        progress = asyncio.create_task(_show_progress(url_list, limit, ahead, job))
        started, complete = monotonic(), False
        try:
            await unless_stopped(job.run(ahead.items()), stop)
            complete = not stop.is_set()
        finally:
            await job.drain(DRAIN_TIMEOUT)
            progress.cancel()
            with suppress(asyncio.CancelledError):
                await progress
            say(console, summary(job, monotonic() - started, complete=complete))
            if job.failed:
                say(console, f"  failed: {_by_reason(job.failed)}")
            if job.new and cache.full:
                say(
                    console,
                    "  the cache is full, so new embeddings displace old ones; "
                    f"TASTESTREAM_CACHE_DISK is {settings.cache_disk:,} bytes",
                )
    if not complete:
        return STOPPED
    return 1 if job.failed else 0


async def _opened_producer(settings: Settings, stack: AsyncExitStack) -> FeaturesProducer:
    try:
        await ensure_topics(settings)
        return await stack.enter_async_context(FeaturesProducer(settings))
    except BrokerUnreachable as error:
        raise BrokerUnreachable(f"{error}; use --local to fill the cache of this machine alone") from error


def summary(job: EmbeddingJob, seconds: float, *, complete: bool) -> str:
    """The results of a run in one line, with its speed."""
    rate = job.done / seconds if seconds else 0.0
    return (
        f"{'' if complete else 'stopped: '}{job.done:,} picture{'' if job.done == 1 else 's'}: {job.new:,} new, "
        f"{job.found:,} already cached, {job.failed.total():,} failed, in {seconds:.1f} s ({rate:,.1f}/s)"
    )


@contextmanager
def failures_file(path: Path | None, source: str) -> Generator[OnFailure]:
    """Write entries to a file, as JSON lines that `warm` can read again; discard them if `path` is None.

    Raises:
        ListError: the file cannot be opened, or is the list itself.
    """
    if path is None:
        yield lambda _: None
        return
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise ListError(f"--failures {path} is the list itself and would be overwritten; choose another file")
    try:
        file = path.open("w", encoding="utf-8", buffering=1)  # line by line, so that a kill loses no line
    except OSError as error:
        raise ListError(f"--failures {path} cannot be written: {error.strerror}") from error
    with file:
        yield lambda entry: _write(file, entry)


def _write(file: TextIO, entry: Entry) -> None:
    url = entry.url[:MAX_URL_LENGTH].encode(errors="replace").decode() or None
    row = {"url": url, "reason": entry.reason, "error": entry.error, "line": entry.line}
    file.write(msgspec.json.encode(row).decode() + "\n")


def _first(entries: Generator[Entry], limit: int | None) -> Generator[Entry]:
    try:
        yield from islice(entries, limit)
    finally:
        entries.close()


async def _show_progress(url_list: UrlList, limit: int | None, ahead: ReadAhead[Entry], job: EmbeddingJob) -> None:
    """Update a progress bar on a terminal; otherwise log the progress now and then."""
    console = PlainConsole(stderr=True)
    on_terminal = console.is_terminal
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,}{task.fields[of]}"),
        TextColumn("{task.fields[rate]}/s  cached {task.fields[found]:,}  failed {task.fields[failed]:,}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # rich would redirect it to standard error
        redirect_stderr=False,
        disable=not on_terminal,
    ) as progress:
        bar = progress.add_task(f"warming from {url_list.name}", total=None, of="", rate="-", found=0, failed=0)
        while True:
            total = _total(url_list, limit, ahead)
            speed = progress.tasks[0].speed
            progress.update(
                bar,
                total=max(total, job.done) if total is not None else None,
                completed=job.done,
                of="" if total is None else f"/{max(total, job.done):,}",
                rate="-" if speed is None else f"{speed:,.1f}",
                found=job.found,
                failed=job.failed.total(),
            )
            await asyncio.sleep(BAR_INTERVAL if on_terminal else LOG_INTERVAL)
            if not on_terminal:
                logger.info(
                    "%d%s pictures: %d new, %d already cached, %d failed",
                    job.done, "" if total is None else f" of about {total}", job.new, job.found, job.failed.total(),
                )  # fmt: skip


def _total(url_list: UrlList, limit: int | None, ahead: ReadAhead[Entry]) -> int | None:
    if ahead.ended:
        return ahead.read
    total = url_list.expected_total(ahead.read)
    return total if limit is None or total is None else min(total, limit)


def _by_reason(failed: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in failed.most_common())
