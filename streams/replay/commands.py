"""What `tastestream replay` does: opens the run's folder, plays what is not played yet, measures, checks, and reports."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track

from model.bundle import Bundle
from streams.process import configure_logging, stop_event
from streams.replay import report
from streams.replay.answers import Answers, Journal
from streams.replay.exceptions import ReplayError
from streams.replay.expected import Comparison, compare, embedded_pictures, expected_answers
from streams.replay.messages import Naming
from streams.replay.pacing import Pace
from streams.replay.player import Player
from streams.replay.prequential import Measured, Rules, ages, counts_of, measure, percentiles, summaries
from streams.replay.serving import served_pictures
from streams.replay.source import DataSet, Event, Overview, Selection
from streams.settings import Settings

logger = logging.getLogger(__name__)

JOURNAL, RUN = "answers.jsonl", "run.json"
STOPPED = 130  # as a shell says it of Ctrl-C
DIFFERS = 1
LOG_EVERY = 30.0  # seconds, where there is no terminal for a bar


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    dataset: Path
    out: Path
    selection: Selection
    rules: Rules
    pace: Pace
    lead: int
    host: str
    port: int
    tag: str
    check: bool
    delay: str = ""
    """As it was written."""


@dataclass
class _Run:
    """All that is known before anything is played."""

    options: Options
    settings: Settings
    bundle: Bundle
    data: DataSet
    overview: Overview
    naming: Naming
    answers: Answers
    now: int = 0
    """Events that were played by this very process, and how long it took."""
    seconds: float = 0.0


def run_replay(settings: Settings, options: Options, console: Console) -> int:
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
    measured = _measured(run, run.answers, "measuring")
    comparison = _checked(run, measured) if options.check else None
    with Console(stderr=True).status("95 % intervals"):
        results = _results(run, measured, comparison)
    report.write(results, options.out)
    if results.groups:
        console.print(report.terminal(results))
    for name, text in report.facts(results):
        _say(console, f"{name + ':':<27}{text}")
    _say(console, f"{'written:':<27}{options.out / report.RESULTS}, {options.out / report.REPORT}")
    return 0 if comparison is None or comparison.identical else DIFFERS


def _opened(settings: Settings, options: Options) -> _Run:
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
    _claim(options.out, _identity(settings, options, bundle, naming))
    return _Run(options, settings, bundle, data, overview, naming, Answers(overview.events, top))


def _identity(settings: Settings, options: Options, bundle: Bundle, naming: Naming) -> dict[str, Any]:
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


async def _play(run: _Run, journal: Journal) -> bool:
    """Whether all events have their answer now."""
    options = run.options
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


async def _show(run: _Run, player: Player) -> None:
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
                time=report.day(player.event_time)[:10] if player.event_time else "",
                rate="-" if speed is None else f"{speed:,.0f}",
                lead=player.lead,
            )
            await asyncio.sleep(0.2 if console.is_terminal else LOG_EVERY)
            if not console.is_terminal:
                logger.info(
                    "%d of %d events, at %s; %d without answer yet",
                    before + player.played, total, report.day(player.event_time), player.lead,
                )  # fmt: skip


def _events(run: _Run, title: str) -> Iterable[Event]:
    """All of them, with a bar on a terminal."""
    console = Console(stderr=True)
    return track(
        run.data.events(run.options.selection),
        title,
        run.overview.events,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _measured(run: _Run, answers: Answers, title: str) -> Measured:
    numbers = {category: number for number, category in enumerate(run.bundle.categories)}
    labels = {
        name: [numbers[category] for category in item.categories if category in numbers]
        for name, item in run.data.items.items()
    }
    return measure(
        _events(run, title),
        answers,
        labels,
        prior=run.bundle.prior,
        activity=run.overview.of_user,
        rules=run.options.rules,
    )


def _checked(run: _Run, measured: Measured) -> Comparison:
    """The same from the events alone."""
    pictures = list(
        dict.fromkeys(run.data.items[event.item].picture for event in run.data.events(run.options.selection))
    )
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("checking: pictures", total=len(pictures))
        embedder = run.bundle.embedder(run.settings.model_threads)
        embedded = embedded_pictures(run.settings, embedder, pictures, lambda: progress.advance(bar))
    offline = Answers(run.overview.events, run.answers.top)
    events = _events(run, "checking: events")
    for one in expected_answers(
        events, run.data.items, embedded, run.bundle, run.settings, naming=run.naming, dead=run.answers.reasons
    ):
        offline.add(one)
    comparison = compare(run.answers, offline)
    comparison.same_figures = same(measured, _measured(run, offline, "checking: figures"))
    return comparison


def same(one: Measured, other: Measured) -> bool:
    """Whether all figures of all targets, and what they are grouped by, are the same numbers."""
    if one.coverage != other.coverage or len(one.users) != len(other.users):
        return False
    return all(
        (getattr(one, name) == getattr(other, name)).all()
        for name in ("users", "times", "bag_sizes", "ages", "recommended", "popularity")
    )


def _results(run: _Run, measured: Measured, comparison: Comparison | None) -> report.Results:
    options, overview, answers = run.options, run.overview, run.answers
    return report.Results(
        dataset=options.dataset.name,
        bundle=f"{run.bundle.name} {run.bundle.version}",
        options={
            **asdict(options.selection),
            "lead": options.lead,
            "speed": options.pace.speed,
            "rate": options.pace.rate,
            "delay": options.delay,
            "tag": options.tag,
        },
        played={
            "events": overview.events,
            "users": len(overview.of_user),
            "from": overview.first,
            "to": overview.last,
            "answered": int(answers.given.sum()),
            "now": run.now,
            "seconds": round(run.seconds, 1),
            "without_recommendation": counts_of(answers.reasons.values()),
            "left_out": dict(overview.left_out.most_common()),
            "left_out_before": run.data.left_out,
        },
        rules=options.rules,
        groups=summaries(measured, options.rules),
        without_known_category=measured.without_known_category,
        coverage=measured.coverage,
        latency=percentiles(answers.latency),
        ages=ages(measured),
        check=None if comparison is None else comparison.told(),
        notes=_notes(run),
    )


def _notes(run: _Run) -> list[str]:
    """What a reader of the figures has to know."""
    played: Counter[str] = Counter()
    larger = 0
    for event in _events(run, "looking for other bags"):
        played[event.user] += 1
        larger += int(run.answers.bag_size[event.place]) > played[event.user]
    if not larger:
        return []
    return [
        f"{larger:,} bags held more than was played: these users have earlier events on the same topics, which the figures "
        "profit from; --tag calls them by other names"
    ]


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
