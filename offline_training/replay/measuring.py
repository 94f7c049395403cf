"""From the answers of a run to its results: measured at the same targets as other bundles, checked, and some users to look at."""

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, track

from model.bundle import Bundle
from offline_training.datasets.picture_files import PictureFiles
from offline_training.replay.answers import Answers
from offline_training.replay.beside import prior_of
from offline_training.replay.expected import Agreement, compare, expected_answers, expected_messages
from offline_training.replay.latency import over_time
from offline_training.replay.messages import Naming
from offline_training.replay.pacing import Pace
from offline_training.replay.pictures import Embeddings
from offline_training.replay.prequential import POPULARITY, SERVED, Measured, Method, Rules, measure
from offline_training.replay.report.results import Results
from offline_training.replay.samples import Sample, choose, sample
from offline_training.replay.source import DataSet, Event, Overview, Selection
from offline_training.replay.summaries import DAY, ages, counts_of, pairs_of, percentiles, summaries
from offline_training.report.thumbnails import thumbnail
from streams.messages import PICTURED, Recommendation
from streams.settings import Settings


@dataclass(frozen=True)
class ReplayOptions:
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
    beside: tuple[Path, ...] = ()
    """Folders of bundles."""


@dataclass
class Run:
    """All that is known of a run, before anything is played and after."""

    options: ReplayOptions
    settings: Settings
    bundle: Bundle
    beside: dict[str, Bundle]
    """By the names of their columns."""
    data: DataSet
    overview: Overview
    naming: Naming
    answers: Answers
    now: int = 0
    """Events that were played by this very process, and how long it took."""
    seconds: float = 0.0


@dataclass
class Found:
    """The figures of all methods, and whether the served one's are those of the events alone."""

    measured: Measured
    comparison: Agreement | None
    embeddings: Embeddings = field(repr=False)


def measured(run: Run) -> Found:
    """Everything that is asked for. Bundles with one embedder share the work on pictures."""
    embeddings = Embeddings(run.settings, _shown)
    offline = _offline(run, embeddings, run.bundle, "checking") if run.options.check else None
    methods = {SERVED: Method(run.answers, run.bundle.prior)}
    others: dict[str, Method] = {}
    served = run.bundle.embedder_version
    for name, bundle in sorted(
        run.beside.items(), key=lambda one: (one[1].embedder_version != served, one[1].embedder_version)
    ):
        others[name] = Method(_offline(run, embeddings, bundle, name), prior_of(bundle, run.bundle))
    methods |= {name: others[name] for name in run.beside}
    found = _measure(run, methods, "measuring")
    comparison = None
    if offline is not None:
        comparison = compare(run.answers, offline)
        again = _measure(run, {SERVED: Method(offline, run.bundle.prior)}, "checking: figures")
        comparison.same_figures = same(found, again)
    return Found(found, comparison, embeddings)


def same(one: Measured, other: Measured) -> bool:
    """Whether all figures of all targets of the served method, and what they are grouped by, are the same numbers."""
    if len(one.users) != len(other.users):
        return False
    columns = all(
        (getattr(one, name) == getattr(other, name)).all() for name in ("users", "times", "bag_sizes", "ages")
    )
    return columns and all(
        one.coverage[name] == other.coverage[name] and bool((one.figures[name] == other.figures[name]).all())
        for name in (SERVED, POPULARITY)
    )


def results_of(run: Run, found: Found) -> Results:
    """All that the run says."""
    options, overview, answers, of = run.options, run.overview, run.answers, found.measured
    return Results(
        stream=run.naming.stream,
        dataset=options.dataset.name,
        bundle=_called(run.bundle),
        beside={name: _called(bundle) for name, bundle in run.beside.items()},
        selection=asdict(options.selection),
        options={
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
        groups=summaries(of, options.rules, pairs_of(of)),
        without_known_category=of.without_known_category,
        whole_days=len(of.times) > 0 and not (of.times % DAY).any(),
        coverage=of.coverage,
        latency=percentiles(answers.latency),
        latency_over_time=over_time(answers.at, answers.latency),
        ages=ages(of),
        samples=_samples(run, found),
        check=None if found.comparison is None else found.comparison.told(),
        notes=_notes(run),
    )


def pictures_of(run: Run, results: Results) -> dict[str, bytes]:
    """Small JPEGs of the items of the samples whose pictures are files here, by item."""
    moments = [moment for one in results.samples for moment in one.moments]
    items = {item for moment in moments for item in (*(name for name, _ in moment.attention), *moment.bought)}
    known = run.data.items
    with PictureFiles(run.settings.fetch_max_bytes) as files:
        found = {item: thumbnail(files, known[item].local_picture) for item in sorted(items)}
    return {item: picture for item, picture in found.items() if picture is not None}


def _called(bundle: Bundle) -> str:
    return f"{bundle.name} {bundle.version}"


def _measure(run: Run, methods: dict[str, Method], title: str) -> Measured:
    numbers = {category: number for number, category in enumerate(run.bundle.categories)}
    labels = {
        name: [numbers[category] for category in item.categories if category in numbers]
        for name, item in run.data.items.items()
    }
    return measure(_events(run, title), methods, labels, activity=run.overview.of_user, rules=run.options.rules)


def _offline(run: Run, embeddings: Embeddings, bundle: Bundle, title: str) -> Answers:
    """What a bundle says of all events, in the numbers of the served one's categories."""
    found = Answers(run.overview.events, run.answers.top)
    messages = _messages(run, embeddings, bundle, lambda title: _events(run, title), title)
    for one in expected_answers(messages, run.bundle.categories):
        found.add(one)
    return found


def _messages(
    run: Run, embeddings: Embeddings, bundle: Bundle, events: Callable[[str], Iterable[Event]], title: str
) -> Iterator[tuple[int, Recommendation | str]]:
    """The recommendations after some events, which are read twice: for their pictures, and one after the other."""
    pictures = (
        picture
        for event in events(f"{title}: pictures")
        if event.type in PICTURED and (picture := run.data.items[event.item].picture)
    )
    embedded = embeddings.of(bundle, pictures)
    return expected_messages(
        events(f"{title}: events"),
        run.data.items,
        embedded,
        bundle,
        run.settings,
        naming=run.naming,
        dead=run.answers.reasons,
    )


def _samples(run: Run, found: Found) -> list[Sample]:
    chosen = choose(found.measured)
    users: Collection[str] = {found.measured.names[user] for user, _ in chosen}
    events = [event for event in run.data.events(run.options.selection) if event.user in users]
    origins = {int(found.measured.origins[rows[0]]) for _, moments in chosen for rows in moments}
    messages = {
        place: message
        for place, message in _messages(run, found.embeddings, run.bundle, lambda _: events, "samples")
        if place in origins and not isinstance(message, str)
    }
    by_place = {event.place: event for event in events}
    known = frozenset(run.bundle.categories)
    return sample(found.measured, chosen, by_place, messages, items=run.data.items, known=known)


def _notes(run: Run) -> list[str]:
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


def _events(run: Run, title: str) -> Iterable[Event]:
    """All of them, with a bar on a terminal."""
    console = Console(stderr=True)
    events = run.data.events(run.options.selection)
    return track(events, title, run.overview.events, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _shown(title: str, total: int) -> Generator[Callable[[], object]]:
    """A bar on a terminal; gives what moves it."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda: progress.advance(bar)
