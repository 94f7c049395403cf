"""Both bundles over the held-out time: what each would have recommended before each target. Needs no Kafka.

hit@k     of the recommendation before each target, as `tastestream replay` measures it; the trend is what was popular so far
micro F1  of the bags at the begin of the held-out time, as `tastestream evaluate` measures it: does the score of a category say
          whether the user takes it afterwards? Each method has the threshold that is best on the validation users. The trend is
          the share of the training users who took the category

For a bundle that uses the trend, which is asked at a moment and not about a bag, macro hit@3 takes the place of micro F1: is the
item's value among the best three of its field, averaged over the fields of the item? The trend is that of 28 days.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.bundle import Bundle
from model.field_metrics import paired
from model.quantization import as_stored
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError
from offline_training.progress import Step
from offline_training.replay.answers.expected import Offline
from offline_training.replay.evaluation.baselines import MONTH, POPULARITY
from offline_training.replay.evaluation.fields import MACRO3, fields_for
from offline_training.replay.evaluation.prequential import (
    SERVED,
    MeasuredTargets,
    MethodAnswers,
    Rules,
    measure,
)
from offline_training.replay.evaluation.summaries import MetricSummary, summaries
from offline_training.replay.play.event_answer import category_numbers
from offline_training.replay.play.events import EventSelection, EventStream, PlayedEvent, PreparedDataset
from offline_training.replay.play.messages import Naming
from offline_training.replay.progress import track
from offline_training.retrain.features import FeatureEmbeddings
from offline_training.retrain.training import TrainingData
from offline_training.retrain.verdict import Figure, Lead
from offline_training.tasks.bags import Bags
from offline_training.tasks.evaluation import codes_of, scores
from streams.messages import PICTURED
from streams.settings import Settings

NEXT, CURRENT = "next", "current"
"""The names of the two bundles in tables and charts."""
F1 = "micro F1"
T = TypeVar("T")


@dataclass(frozen=True)
class HeldOut:
    """The figures of the held-out time.

    Attributes:
        rules: what was measured.
        groups: means over groups of targets, with the differences of next from current and from popularity.
        coverage: by method and `coverage@k`.
        figures: those that the rule looks at.
        users: users with a target.
        targets: number of targets.
        last: time of the last event, milliseconds since the epoch.
    """

    rules: Rules
    groups: list[MetricSummary]
    coverage: dict[str, dict[str, float]]
    figures: dict[str, Figure]
    users: int
    targets: int
    last: int


def stream_of(dataset: PreparedDataset) -> EventStream:
    """All events of a data set. Raises ReplayError when there is none with a picture."""
    selection = EventSelection()
    return EventStream(dataset, selection, dataset.overview(selection))


def rules_of(targets: frozenset[str], cut: int, categories: int, top: int) -> Rules:
    """What is measured: hit@5, or fewer where there are not six categories, or a recommendation lists fewer."""
    k = max(1, min(5, top, categories - 1))
    return Rules(targets=targets, ks=tuple(sorted({1, k, *([10] if min(top, categories) >= 10 else [])})), since=cut)


def users_with_targets(stream: EventStream, rules: Rules) -> int:
    """The number of users who have a target in the held-out time."""
    return len({event.user for event in stream.events() if _is_target(event, stream, rules)})


def _is_target(event: PlayedEvent, stream: EventStream, rules: Rules) -> bool:
    late = rules.since is None or event.time >= rules.since
    return late and event.type in rules.targets and bool(stream.items[event.item].categories)


def replay(
    settings: Settings,
    stream: EventStream,
    features: Mapping[PictureRef, bytes],
    data: TrainingData,
    *,
    following: Bundle,
    current: Bundle,
    rules: Rules,
    step: Step,
) -> HeldOut:
    """Measure both bundles.

    Args:
        settings: the settings of the workers.
        stream: the events.
        features: rows by picture, of the backbone that both bundles have.
        data: the catalogue, and the held-out bags.
        following: the next bundle.
        current: the current bundle.
        rules: what is measured.
        step: shows the progress.

    Raises:
        DatasetError: there is too little to compare.
    """
    categories = list(dict.fromkeys([*following.categories, *current.categories]))
    targets = _targets(settings, stream, features, categories, following=following, current=current, rules=rules)
    if not len(targets.users):
        raise DatasetError(f"no user has a target in the last days: {rules.since}")
    with step("95 % intervals", 2) as advance:
        groups = summaries(targets, rules, [(NEXT, CURRENT), (NEXT, POPULARITY)])
        advance(1)
        hit = f"hit@{rules.k}"
        figures = {hit: _figure(groups[0], hit)}
        if following.labels_version:
            figures[MACRO3] = macro_hit(targets)
        else:
            figures[F1] = micro_f1(data, following, current, categories)
        advance(1)
    return HeldOut(
        rules=rules,
        groups=groups,
        coverage=targets.coverage,
        figures=figures,
        users=groups[0].users,
        targets=groups[0].targets,
        last=stream.overview.last,
    )


def _targets(
    settings: Settings,
    stream: EventStream,
    features: Mapping[PictureRef, bytes],
    categories: Sequence[str],
    *,
    following: Bundle,
    current: Bundle,
    rules: Rules,
) -> MeasuredTargets:
    def answered(event: PlayedEvent) -> bool:
        return event.type not in PICTURED or stream.items[event.item].picture in features

    counting = places_that_count(stream.events(), rules, answered)
    naming = Naming(stream.dataset.fingerprint())
    offline = Offline(settings, stream, naming, (), FeatureEmbeddings(features), counting)
    top = min(settings.top_k, len(categories))
    methods = {
        name: MethodAnswers(offline.answers(bundle, categories, top, name), spread(bundle.prior, bundle, categories))
        for name, bundle in ((SERVED, following), (CURRENT, current))
    }
    numbers = category_numbers(categories)
    labels = {name: [numbers[one] for one in item.categories if one in numbers] for name, item in stream.items.items()}
    events = track(stream.events(), "measuring", len(stream))
    fields = fields_for(following.fields, categories, labels)
    measured = measure(events, methods, labels, activity=stream.overview.of_user, rules=rules, fields=fields)
    return replace(
        measured,
        figures=_renamed(measured.figures),
        by_field=replace(measured.by_field, rows=_renamed(measured.by_field.rows)),
        coverage=_renamed(measured.coverage),
    )


def _renamed(by_method: Mapping[str, T]) -> dict[str, T]:
    return {NEXT if name == SERVED else name: values for name, values in by_method.items()}


def places_that_count(
    events: Iterable[PlayedEvent], rules: Rules, answered: Callable[[PlayedEvent], bool]
) -> frozenset[int]:
    """The places of the events whose recommendations may count at a target: those of the held-out time, and the last one before
    it of each user. The others need not be scored."""
    late: list[int] = []
    last: dict[str, int] = {}
    for event in events:
        if rules.since is None or event.time >= rules.since:
            late.append(event.place)
        elif answered(event):
            last[event.user] = event.place
    return frozenset(late).union(last.values())


def spread(values: NDArray[np.float32], bundle: Bundle, categories: Sequence[str]) -> NDArray[np.float32]:
    """Values of the categories of a bundle, float32 [..., D], in the order of `categories`; 0 for those that the bundle lacks."""
    place = category_numbers(categories)
    found = np.zeros((*values.shape[:-1], len(categories)), np.float32)
    found[..., [place[category] for category in bundle.categories]] = values
    return found


def _figure(summary: MetricSummary, name: str) -> Figure:
    """A figure over all targets."""
    values = {method: round(figures[name], 5) for method, figures in summary.figures.items()}
    over = {
        pair.other: Lead.of(summary.figures[pair.one][name] - summary.figures[pair.other][name], pair.intervals[name])
        for pair in summary.differences
    }
    return Figure(values[NEXT], values[CURRENT], values[POPULARITY], over[CURRENT], over[POPULARITY])


def macro_hit(targets: MeasuredTargets) -> Figure:
    """macro hit@3 over all targets, against the current bundle and the 28-day trend."""
    column = targets.by_field.figures.index(MACRO3)
    values = [targets.by_field.rows[name][:, column].astype(np.float64) for name in (NEXT, CURRENT, MONTH)]
    one, two, three = (round(float(np.nanmean(of)), 5) for of in values)
    leads = [paired(values[0], other, targets.users) for other in values[1:]]
    return Figure(one, two, three, *(Lead(*(round(end, 5) for end in lead)) for lead in leads))


def micro_f1(data: TrainingData, following: Bundle, current: Bundle, categories: Sequence[str]) -> Figure:
    """Micro F1 of the bags at the begin of the held-out time. `following` has the categories of the catalogue, in their order.

    Raises:
        DatasetError: no user took items both before and in the held-out time.
    """
    if not len(data.later.rows):
        raise DatasetError("no user has items both before and in the held-out days: give more days, or hold out more")
    trend = spread(data.split.train.targets.mean(axis=0, dtype=np.float32), following, categories)
    bags = (data.split.validation, data.later)
    scored = {
        NEXT: _scores(following, data, bags, categories),
        CURRENT: _scores(current, data, bags, categories),
        POPULARITY: [np.tile(trend, (len(some.rows), 1)) for some in bags],
    }
    validation, later = (spread(some.targets.astype(np.float32), following, categories) for some in bags)
    counts = {
        name: metrics.decision_counts(metrics.best_threshold(first, validation), second, later)
        for name, (first, second) in scored.items()
    }
    values = {name: metrics.f1(rows) for name, rows in counts.items()}
    over = {
        other: Lead.of(
            values[NEXT] - values[other],
            metrics.bootstrap(np.concatenate([counts[NEXT], counts[other]], axis=1), _lead_in_f1),
        )
        for other in (CURRENT, POPULARITY)
    }
    one, two, three = (round(values[name], 5) for name in (NEXT, CURRENT, POPULARITY))
    return Figure(one, two, three, over[CURRENT], over[POPULARITY])


def _scores(
    bundle: Bundle, data: TrainingData, bags: Sequence[Bags], categories: Sequence[str]
) -> list[NDArray[np.float32]]:
    codes = as_stored(codes_of(bundle.split_embedder(), data.catalogue.embeddings))
    return [spread(scores(bundle, some, codes), bundle, categories) for some in bags]


def _lead_in_f1(rows: NDArray[np.int64]) -> float:
    """The difference in micro F1 of two methods, from their counts side by side [N, 6]."""
    return metrics.f1(rows[:, :3]) - metrics.f1(rows[:, 3:])
