"""What `tastestream replay` does: opens the run's folder, plays what is not played yet, measures, checks, and reports."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.bundle import Bundle
from model.exceptions import PictureError
from offline_training.datasets.picture_files import PictureFiles
from offline_training.replay import targets
from offline_training.replay.answers import Answers, Journal
from offline_training.replay.beside import bundles_beside
from offline_training.replay.comparing import compared, read_sides
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.measuring import ReplayOptions, Run, measured, pictures_of, results_of
from offline_training.replay.messages import Naming
from offline_training.replay.player import Player
from offline_training.replay.report import markdown, results, side_by_side
from offline_training.replay.report.tables import day, facts
from offline_training.replay.serving import served_pictures
from offline_training.replay.source import PREPARE, DataSet
from streams.runtime.process import configure_logging, stop_event
from streams.settings import Settings

logger = logging.getLogger(__name__)

JOURNAL, RUN = "answers.jsonl", "run.json"
STOPPED = 130  # as a shell says it of Ctrl-C
DIFFERS = 1
LOOKED_FOR = 100  # pictures that are files
NO_PAGE = f"{'no page:':<27}it needs Jinja and Matplotlib: pip install 'tastestream[train]'"
LOG_EVERY = 30.0  # seconds, where there is no terminal for a bar


def run_replay(settings: Settings, options: ReplayOptions, console: Console) -> int:
    """Play, measure and report. Gives the exit code: 0; 1 when the check found a difference; 130 when it was stopped.

    Raises TastestreamError.
    """
    configure_logging(settings)
    with Console(stderr=True).status(f"reading {options.dataset}"):
        run = _opened(settings, options)
    begun = monotonic()
    with Journal(options.out / JOURNAL) as journal:
        for one in journal.answers():
            run.answers.add(one)
        before = int(run.answers.given.sum())
        if not run.answers.given.all() and not asyncio.run(_play(run, journal)):
            done = int(run.answers.given.sum())
            _say(
                console,
                f"stopped after {done:,} of {run.overview.events:,} events; run the same command again to go on",
            )
            return STOPPED
    run.now, run.seconds = run.overview.events - before, monotonic() - begun
    found = measured(run)
    with Console(stderr=True).status("95 % intervals, users to look at"):
        told = results_of(run, found)
    results.write(told, options.out)
    targets.write(found.measured, options.rules.figures, options.out / targets.TARGETS)
    results.write_text(markdown.markdown(told), options.out / markdown.REPORT)
    if told.groups:
        for table in markdown.terminal(told):
            console.print(table)
    for name, text in facts(told):
        _say(console, f"{name + ':':<27}{text}")
    written = [results.RESULTS, targets.TARGETS, markdown.REPORT]
    if can_draw():
        from offline_training.replay.report.page import HTML, page  # noqa: PLC0415  (an extra)

        results.write_text(page(told, pictures_of(run, told)), options.out / HTML)
        written.append(HTML)
    _say(console, f"{'written:':<27}{', '.join(str(options.out / name) for name in written)}")
    if not can_draw():
        _say(console, NO_PAGE)
    return 0 if found.comparison is None or found.comparison.identical else DIFFERS


def can_draw() -> bool:
    """Whether there is what a page needs."""
    return all(find_spec(name) is not None for name in ("jinja2", "matplotlib"))


def run_compare(paths: Sequence[Path], out: Path | None, console: Console) -> None:
    """Print finished runs side by side, and write it where it was asked for. Raises TastestreamError."""
    found = compared(read_sides(paths))
    for table in side_by_side.terminal(found):
        console.print(table)
    for sentence in side_by_side.verdict(found):
        _say(console, sentence)
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(f"--out {out}: {error.strerror}: choose another folder") from error
    results.write_json(found, out / side_by_side.JSON)
    results.write_text(side_by_side.markdown(found), out / side_by_side.MARKDOWN)
    written = [side_by_side.JSON, side_by_side.MARKDOWN]
    if can_draw():
        from offline_training.replay.report.page import compare_page  # noqa: PLC0415  (an extra)

        results.write_text(compare_page(found), out / side_by_side.HTML)
        written.append(side_by_side.HTML)
    _say(console, f"{'written:':<27}{', '.join(str(out / name) for name in written)}")
    if not can_draw():
        _say(console, NO_PAGE)


def _opened(settings: Settings, options: ReplayOptions) -> Run:
    """Read what there is. Raises ReplayError when the folder holds another run."""
    bundle = Bundle.load(settings.bundle)
    top = min(settings.top_k, len(bundle.categories))
    if max(options.rules.ks) > top:
        raise ReplayError(
            f"--k {max(options.rules.ks)}: a recommendation names {top} categories: set TASTESTREAM_TOP_K for workers and replay"
        )
    data = DataSet(options.dataset)
    naming = Naming(data.fingerprint(), options.tag)
    overview = data.overview(options.selection)
    beside = bundles_beside(bundle, options.beside)
    _claim(options.out, _identity(settings, options, bundle, naming))
    return Run(options, settings, bundle, beside, data, overview, naming, Answers(overview.events, top))


def _look_for_pictures(data: DataSet) -> None:
    """Raises ReplayError when there are pictures that are to be files here, and none of the first is."""
    local = [picture for item in data.items.values() if (picture := item.local_picture)][:LOOKED_FOR]
    if not local:
        return
    with PictureFiles() as files:
        for picture in local:
            with suppress(PictureError):
                files.read(picture)
                return
    raise ReplayError(f"{data.folder}: its pictures are not where it says: {local[0]}: {PREPARE}")


def _identity(settings: Settings, options: ReplayOptions, bundle: Bundle, naming: Naming) -> dict[str, Any]:
    """What has to be the same for a run to go on."""
    return {
        "stream": naming.stream,
        **asdict(options.selection),
        "tag": options.tag,
        "bundle": f"{bundle.name} {bundle.version} {bundle.embedder_version}",
        "top_k": settings.top_k,
    }


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    path = folder / RUN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            found = msgspec.json.decode(path.read_bytes())
            for name, value in identity.items():
                if found.get(name) != value:
                    raise ReplayError(
                        f"{folder} holds another replay: its {name} is {found.get(name)!r}, not {value!r}: choose another --out"
                    )
        else:
            path.write_bytes(msgspec.json.encode(identity) + b"\n")
    except (OSError, msgspec.DecodeError) as error:
        raise ReplayError(f"--out {folder}: {error}: choose another folder") from error


async def _play(run: Run, journal: Journal) -> bool:
    """Whether all events have their answer now."""
    options = run.options
    _look_for_pictures(run.data)
    stop = stop_event(with_parent=False)
    player = Player(run.settings, run.bundle, run.naming, run.answers, journal, lead=options.lead, pace=options.pace)
    served = served_pictures(run.data.items, options.host, options.port, max_bytes=run.settings.fetch_max_bytes)
    async with served as address, player:
        showing = asyncio.create_task(_show(run, player))
        try:
            return await player.play(run.data.events(options.selection), run.data.items, address, stop)
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing


async def _show(run: Run, player: Player) -> None:
    """Keep a bar up to date, on a terminal; else say in the log how far it is."""
    console = Console(stderr=True)
    before, total = int(run.answers.given.sum()), run.overview.events
    with Progress(
        TextColumn("replay {task.fields[time]}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}  {task.fields[rate]}/s  lead {task.fields[lead]:,}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task("", total=total, completed=before, time="", rate="-", lead=0)
        while True:
            speed = progress.tasks[0].speed
            progress.update(
                bar,
                completed=before + player.played,
                time=day(player.event_time)[:10] if player.event_time else "",
                rate="-" if speed is None else f"{speed:,.0f}",
                lead=player.lead,
            )
            await asyncio.sleep(0.2 if console.is_terminal else LOG_EVERY)
            if not console.is_terminal:
                logger.info(
                    "%d of %d events, at %s; %d without answer yet",
                    before + player.played, total, day(player.event_time), player.lead,
                )  # fmt: skip


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
