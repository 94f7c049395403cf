"""`tastestream retrain`: from the interactions topic to the next bundle, and to the verdict on it."""

import asyncio
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from model.bundle import Bundle
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.prepare import DatasetSummary, prepare
from offline_training.datasets.records import DatasetError
from offline_training.replay.play.events import PreparedDataset
from offline_training.replay.progress import spinner, step
from offline_training.replay.report.tables import counts, day
from offline_training.retrain import report as reports
from offline_training.retrain import verdict
from offline_training.retrain.features import gather_features, opener
from offline_training.retrain.replaying import HeldOut, replay, rules_of, stream_of, users_with_targets
from offline_training.retrain.table import FeatureTable
from offline_training.retrain.training import read_training_data, task_for, train, write_features
from offline_training.tasks.learnt import second
from offline_training.tasks.split import TaskName
from offline_training.topic.commands import SentBetween, record
from offline_training.topic.recording import TopicRecording
from streams.console import say
from streams.messages import as_datetime
from streams.settings import Settings

WORSE = 3  # exit code when the next bundle may be worse
DAY = 86_400_000  # milliseconds
LEVELS = 1000  # of a category path: more than any shop has
TEMPORARY = "data-"  # how the folders of the events begin
RECORDING = "topic.part"  # temporary file of the events


@dataclass(frozen=True)
class RetrainOptions:
    """The options of the command.

    Attributes:
        items: table of items and their categories.
        against: folder of the current bundle.
        out: folder of the next bundle.
        work: folder that keeps features from one run to the next.
        sent: which events of the topic count.
        hold_out: number of days that are held out.
        targets: event types of the targets.
        min_users: minimum number of users with a target in the held-out days.
        margin: how far below zero the interval of a difference may begin.
        fetch: whether pictures without features are fetched; if not, they are left out.
        task: *next* or *purchases*; None: that of the current bundle.
        keep_items: whether the item network of the current bundle is kept.
        adapts: whether the next bundle gets an adapter for the embeddings of the current one.
        aggregator: which aggregator is trained; None: the best one for the task.
        categories: which categories of the table become labels; None: those of the current bundle.
        encoding: of the table, if it is CSV.
        name: name of the next bundle; None: that of the current one.
        version: version of the next bundle; None: the time now.
        seed: random seed.
        command: the command line, for the manifest.
    """

    items: Path
    against: Path
    out: Path
    work: Path
    sent: SentBetween
    hold_out: float
    targets: frozenset[str]
    min_users: int
    margin: float
    fetch: bool
    task: TaskName | None
    keep_items: bool
    adapts: bool
    aggregator: str | None
    categories: LabelRule | None
    encoding: str | None
    name: str | None
    version: str | None
    seed: int
    command: str


def run_retrain(settings: Settings, options: RetrainOptions, console: Console, now: float) -> int:
    """Train the next bundle and compare it with the current one.

    Args:
        settings: the settings of the workers.
        options: the options of the command.
        console: where the results go.
        now: the time now, seconds since the epoch.

    Returns:
        The exit code: 0 if the next bundle is not worse, else 3.

    Raises:
        TastestreamError: there is no next bundle. The message says why.
        OSError: the disk is full.
    """
    milliseconds = int(now * 1000)
    current = Bundle.load(options.against, settings.bundle_key)
    backbone = current.backbone(settings.model_threads)
    with (
        FeatureTable(_made(options.work), backbone.version) as table,
        _temporary_folder(options.work) as temporary,
        _whole_or_nothing(options.out) as out,
    ):
        # The topic becomes a data set.
        summary = _read_topic(settings, options, current, temporary, now)
        dataset = PreparedDataset(temporary)
        facts = {"events": _described(summary)}
        say(console, f"{'events:':<16}{facts['events']}")
        stream = stream_of(dataset)
        cut = min(milliseconds, summary.to_time) - int(options.hold_out * DAY)
        rules = rules_of(options.targets, cut, len(current.categories), settings.top_k)
        _check_held_out(summary, cut, users_with_targets(stream, rules), options)

        # Its pictures have features: on the topic, in the work folder, or made now.
        pictures = list(dict.fromkeys(one.picture for one in dataset.items.values() if one.picture))
        features, origins = gather_features(
            settings, backbone, pictures, dataset.folders, table, fetch=options.fetch, now=milliseconds, step=step
        )
        facts["pictures"] = origins.text(settings.features_topic)
        say(console, f"{'pictures:':<16}{facts['pictures']}")
        if origins.note:
            say(console, f"{'note:':<16}{origins.note}")
        write_features(dataset, features, backbone.feature_size)

        # Train on what was before the held-out days, and replay those with both bundles.
        labels = None if options.categories else current.categories
        data = read_training_data(temporary, labels, cut, options.task or task_for(current))
        following = train(
            current, data, name=options.name or current.name,
            version=options.version or f"{as_datetime(milliseconds):%Y.%m.%d-%H%M%S}",
            command=options.command, aggregator=options.aggregator, keep_items=options.keep_items,
            adapts=options.adapts, seed=options.seed, date=second(milliseconds), out=out, step=step,
        )  # fmt: skip
        say(console, f"{'trained:':<16}{following.name} {following.version} on {len(data.split.train.rows):,} users")
        facts["adapter"] = _adapter(following, current)
        say(console, f"{'adapter:':<16}{facts['adapter']}")
        held_out = replay(
            settings, stream, features, data, following=following, current=current, rules=rules, step=step
        )

        # The verdict, and the reports.
        comparison = compared(held_out, following, current, options.margin)
        report = reports.RetrainReport(comparison, held_out, facts)
        verdict.write(comparison, out)
        written = [verdict.COMPARISON, *reports.write(report, out)]
    reports.show(report, console)
    for sentence in report.verdict:
        say(console, sentence)
    say(console, f"{'written:':<16}{', '.join(str(options.out / name) for name in written)}")
    return 0 if comparison.passed else WORSE


def _made(work: Path) -> Path:
    """Make the work folder. Raises DatasetError when it cannot be made."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"--work {work}: {error.strerror}: choose another folder") from error
    return work


@contextmanager
def _temporary_folder(work: Path) -> Generator[Path]:
    """A folder for the events of the users, which no run leaves behind for longer than until the next one."""
    for left in work.glob(f"{TEMPORARY}*"):  # of a run that was killed: a living one would have the table open
        shutil.rmtree(left)
    with TemporaryDirectory(dir=work, prefix=TEMPORARY) as folder:
        yield Path(folder)


@contextmanager
def _whole_or_nothing(out: Path) -> Generator[Path]:
    """Give a folder beside `out` to write to, which becomes `out` at the end.

    Raises:
        DatasetError: `out` exists, or its folder cannot be written.
    """
    if out.exists():
        raise DatasetError(f"--out {out}: it exists already: remove it, or choose another folder")
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir()
    except OSError as error:
        raise DatasetError(f"--out {out}: {error.strerror}: choose another folder") from error
    try:
        yield part
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read_topic(
    settings: Settings, options: RetrainOptions, current: Bundle, folder: Path, now: float
) -> DatasetSummary:
    """Write the events of the topic as a data set. Raises TastestreamError when there are none, or none that can be used."""
    recording = TopicRecording(
        folder / RECORDING, options.items, now=now, max_future=settings.max_future, earliest=settings.earliest,
        encoding=options.encoding,
    )  # fmt: skip
    with recording:
        with ExitStack() as bars:
            opened = opener(bars, step, settings.interactions_topic)
            asyncio.run(record(settings, options.sent, recording, opened))
        rule = options.categories or LabelRule(1, LEVELS, only=frozenset(current.categories))
        summary = prepare(
            recording, settings.interactions_topic, folder, rule=rule, pictures=None, step=spinner, uncategorized=True
        )
    if not summary.labels:
        raise DatasetError(
            f"--items {options.items}: none of its categories is one of the {len(current.categories)} of {current.name} "
            f"{current.version}, such as {current.categories[0]!r}: take another table, or allow other categories with --new-categories"
        )
    return summary


def _described(summary: DatasetSummary) -> str:
    text = (
        f"{summary.events:,} of {summary.users:,} users on {summary.items:,} items, "
        f"{day(summary.from_time)} to {day(summary.to_time)}; {len(summary.labels):,} categories"
    )
    noted = {fact.replace("_", " "): count for fact, count in summary.noted.items()}
    dropped = {reason.replace("_", " "): count for reason, count in summary.dropped.items()}
    return text + (f"; kept: {counts(noted)}" if noted else "") + (f"; left out: {counts(dropped)}" if dropped else "")


def _check_held_out(summary: DatasetSummary, cut: int, users: int, options: RetrainOptions) -> None:
    """Raise DatasetError when there are too few days or users for a comparison."""
    if cut <= summary.from_time:
        raise DatasetError(
            f"the events are from {day(summary.from_time)} to {day(summary.to_time)}, and the last {options.hold_out:g} days are held "
            "out, so nothing is left to learn from: take events of more days, or lower --hold-out"
        )
    if users < options.min_users:
        kinds = " or ".join(sorted(options.targets))
        raise DatasetError(
            f"{users:,} users have a {kinds} of an item with a known category in the last {options.hold_out:g} days, expected "
            f"{options.min_users:,}: raise --hold-out, name more --targets, or lower --min-users"
        )


def _adapter(following: Bundle, current: Bundle) -> str:
    if following.embedder_version == current.embedder_version:
        return "none is needed: stored embeddings stay valid"
    adapts = following.manifest.adapts
    if adapts is None:
        return "none: pictures that are gone lose their embeddings"
    return (
        f"{adapts.method}, for embeddings of {current.name} {current.version}, fitted on {adapts.pictures:,} pictures"
    )


def compared(held_out: HeldOut, following: Bundle, current: Bundle, margin: float) -> verdict.Comparison:
    figures = held_out.figures
    return verdict.Comparison(
        passed=verdict.passes(figures, margin),
        rule=verdict.rule_text(figures, margin),
        margin=margin,
        next=verdict.name_of(following),
        against=verdict.name_of(current),
        figures=figures,
        since=day(held_out.rules.since or 0),
        until=day(held_out.last),
        users=held_out.users,
        targets=held_out.targets,
    )
