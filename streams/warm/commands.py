"""What `tastestream warm` does: under the embed worker's lock, with a progress bar on standard error, until a signal or the end."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.bundle import Bundle
from streams.embed.opening import open_embedding_cache
from streams.exceptions import ListError
from streams.runtime.process import configure_logging, locked_folder, stop_event, unless_stopped
from streams.settings import Settings
from streams.warm.ahead import ReadAhead
from streams.warm.lists import Entry, UrlList
from streams.warm.warming import DRAIN_TIMEOUT, Warming

logger = logging.getLogger(__name__)

STOPPED = 130  # as a shell says it of Ctrl-C
MAX_SHOWN_URL = 4096  # characters; what is longer is no URL

Report = Callable[[Entry], object]


def run_warm(
    settings: Settings, listed: UrlList, console: Console, *, limit: int | None, rate: float | None, report: Report
) -> int:
    """Have all pictures of a list in the cache, and print what came of it, whatever ends it.

    report: called with each entry that could not be had. Gives the exit code: 0 when all could be had, 1 when some could not, 130
    when a signal ended it. Raises TastestreamError: DataFolderError above all, when the embed worker runs.
    """
    configure_logging(settings)
    with locked_folder(settings.data_dir, "embed") as folder:
        return asyncio.run(_warm(settings, folder, listed, console, limit=limit, rate=rate, report=report))


async def _warm(
    settings: Settings,
    folder: Path,
    listed: UrlList,
    console: Console,
    *,
    limit: int | None,
    rate: float | None,
    report: Report,
) -> int:
    stop = stop_event(with_parent=False)
    bundle = Bundle.load(settings.bundle)
    # Within one run a failure is final, so that a URL that comes again costs nothing; the next run tries all of them again.
    settings = settings.model_copy(update={"cache_failure_age": math.inf})
    async with open_embedding_cache(settings, bundle, folder) as pictures:
        in_flight = min(settings.embed_in_flight, settings.fetch_connections)  # more would only wait
        warming = Warming(pictures, in_flight=in_flight, rate=rate, failed=report)
        ahead = ReadAhead(_first(listed.entries, limit))
        showing = asyncio.create_task(_show(listed, limit, ahead, warming))
        started, complete = monotonic(), False
        try:
            await unless_stopped(warming.run(ahead.items()), stop)
            complete = not stop.is_set()
        finally:
            await warming.finish(DRAIN_TIMEOUT)
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing
            _say(console, summary(warming, monotonic() - started, complete=complete))
            if warming.failed:
                _say(console, f"  failed: {_counts(warming.failed)}")
            if warming.new and pictures.full:
                _say(
                    console,
                    f"  the cache is full, and the oldest go: TASTESTREAM_CACHE_DISK is {settings.cache_disk:,} bytes",
                )
    if not complete:
        return STOPPED
    return 1 if warming.failed else 0


def summary(warming: Warming, seconds: float, *, complete: bool) -> str:
    """One line: what there is now, and how fast it came."""
    rate = warming.done / seconds if seconds else 0.0
    return (
        f"{'' if complete else 'stopped: '}{warming.done:,} picture{'' if warming.done == 1 else 's'}: {warming.new:,} new, "
        f"{warming.found:,} already there, {warming.failed.total():,} failed, in {seconds:.1f} s ({rate:,.1f} a second)"
    )


@contextmanager
def failures_file(path: Path | None, source: str) -> Generator[Report]:
    """Writes entries to a file, as JSON lines that `warm` can read again; nowhere for None.

    Raises ListError when it cannot be opened, or is the list itself.
    """
    if path is None:
        yield lambda _: None
        return
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise ListError(f"--failures {path} is the list itself; it would be overwritten")
    try:
        file = path.open("w", encoding="utf-8", buffering=1)  # by lines: they stay when the process is killed
    except OSError as error:
        raise ListError(f"--failures {path} cannot be written: {error.strerror}") from error
    with file:
        yield lambda entry: _write(file, entry)


def _write(file: TextIO, entry: Entry) -> None:
    url = entry.url[:MAX_SHOWN_URL].encode(errors="replace").decode() or None
    row = {"url": url, "reason": entry.reason, "error": entry.error, "line": entry.line}
    file.write(msgspec.json.encode(row).decode() + "\n")


def _first(entries: Generator[Entry], limit: int | None) -> Generator[Entry]:
    try:
        yield from islice(entries, limit)
    finally:
        entries.close()


async def _show(listed: UrlList, limit: int | None, ahead: ReadAhead[Entry], warming: Warming) -> None:
    """Keep a bar up to date, on a terminal; else say in the log how far it is."""
    console = Console(stderr=True)
    on_terminal = console.is_terminal
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}{task.fields[of]}"),
        TextColumn("{task.fields[rate]}/s  in the cache {task.fields[found]:,}  failed {task.fields[failed]:,}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # to standard error it would be
        redirect_stderr=False,
        disable=not on_terminal,
    ) as progress:
        bar = progress.add_task(f"warming from {listed.name}", total=None, of="", rate="-", found=0, failed=0)
        while True:
            total = _total(listed, limit, ahead)
            speed = progress.tasks[0].speed
            progress.update(
                bar,
                total=max(total, warming.done) if total is not None else None,
                completed=warming.done,
                of="" if total is None else f"/{max(total, warming.done):,}",
                rate="-" if speed is None else f"{speed:,.1f}",
                found=warming.found,
                failed=warming.failed.total(),
            )
            await asyncio.sleep(0.2 if on_terminal else 30.0)
            if not on_terminal:
                logger.info(
                    "%d%s pictures: %d new, %d already there, %d failed",
                    warming.done, "" if total is None else f" of about {total}", warming.new, warming.found, warming.failed.total(),
                )  # fmt: skip


def _total(listed: UrlList, limit: int | None, ahead: ReadAhead[Entry]) -> int | None:
    if ahead.ended:
        return ahead.read
    total = listed.expected(ahead.read)
    return total if limit is None or total is None else min(total, limit)


def _counts(failed: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in failed.most_common())


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
