"""The evaluation of one run: answers in, figures out."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.bundle import Bundle
from offline_training.replay.answers.agreement import Agreement, compare
from offline_training.replay.answers.expected import Offline
from offline_training.replay.answers.latency import over_time
from offline_training.replay.answers.table import Answers
from offline_training.replay.evaluation.baselines import BASELINES
from offline_training.replay.evaluation.beside import prior_of
from offline_training.replay.evaluation.field_summaries import FieldSummary, field_summaries
from offline_training.replay.evaluation.fields import BITS, FieldFigures, fields_for
from offline_training.replay.evaluation.items import ItemResults, measure_items
from offline_training.replay.evaluation.learnt import Learnt, learnt_of
from offline_training.replay.evaluation.prequential import READ, SERVED, MeasuredTargets, MethodAnswers, Rules, measure
from offline_training.replay.evaluation.results import ReplayResults
from offline_training.replay.evaluation.samples import SampleUser, choose, sample
from offline_training.replay.evaluation.summaries import (
    DAY,
    MetricSummary,
    ages,
    counts_of,
    pairs_of,
    percentiles,
    summaries,
)
from offline_training.replay.play.event_answer import category_numbers
from offline_training.replay.play.events import EventStream, PlayedEvent
from offline_training.replay.progress import spinner, track

ROUNDING = 1e-3  # of a figure of a probability: a bag's scores differ in the last digit from batch to batch


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a run found.

    Attributes:
        targets: the figures of all methods at each target.
        groups: their means over groups of targets.
        fields: the means of the figures by field.
        agreement: whether the answers of the workers equal the expected ones; None: not checked.
        learnt: what each bundle learnt from, by method; None: its manifest does not say it.
        samples: a few users.
        items: the figures of recommended items; None: not measured.
        notes: what a reader of the figures must know.
    """

    targets: MeasuredTargets
    groups: list[MetricSummary]
    fields: list[FieldSummary]
    agreement: Agreement | None
    learnt: dict[str, Learnt | None]
    samples: list[SampleUser]
    items: ItemResults | None
    notes: list[str]


def evaluate(
    stream: EventStream,
    answers: Answers,
    offline: Offline,
    *,
    served: Bundle,
    beside: Mapping[str, Bundle],
    rules: Rules,
    check: bool,
    at: Collection[str] | None = None,
    items: bool = False,
) -> Evaluation:
    """Measure the answers of a run, and those of other bundles at the same targets.

    Args:
        stream: the events.
        answers: the answers of the workers.
        offline: computes expected answers.
        served: the bundle that the workers serve.
        beside: the other bundles, by the names of their columns.
        rules: what is measured.
        check: whether the answers of the workers are compared with the expected ones.
        at: the users whose targets are measured; None: all.
        items: whether recommended items are measured, too.
    """
    expected = offline.answers(served, served.categories, answers.top, "checking", answers) if check else None
    others = _answers_beside(offline, served, beside, answers.top)
    if served.labels_version:  # else they are what was recommended after the event before
        others = {READ: _reads(offline, served, answers.top, rules=rules, at=at), **others}
    methods = {SERVED: MethodAnswers(answers, served.prior), **others}
    targets = _measure(stream, served, methods, rules=rules, at=at, title="measuring")
    agreement = None
    if expected is not None:
        agreement = compare(answers, expected)
        again = _measure(
            stream,
            served,
            {SERVED: MethodAnswers(expected, served.prior)},
            rules=rules,
            at=at,
            title="checking: figures",
        )
        agreement.same_figures = same_figures(targets, again)
    recommended = measure_items(stream, offline, served, rules=rules, at=at, title="items") if items else None
    with spinner("95 % intervals, sample users"):
        return Evaluation(
            targets=targets,
            groups=summaries(targets, rules, pairs_of(targets)),
            fields=field_summaries(targets),
            agreement=agreement,
            learnt={name: learnt_of(bundle, stream) for name, bundle in {SERVED: served, **beside}.items()},
            samples=_samples(stream, targets, offline, served, answers),
            items=recommended,
            notes=_notes(stream, answers),
        )


def same_figures(one: MeasuredTargets, other: MeasuredTargets) -> bool:
    """Whether the served method has equal figures at all targets, and the targets fall into the same groups."""
    if len(one.users) != len(other.users):
        return False
    columns = all(
        (getattr(one, name) == getattr(other, name)).all() for name in ("users", "times", "bag_sizes", "ages", "owned")
    )
    return columns and all(
        one.coverage[name] == other.coverage[name]
        and bool((one.figures[name] == other.figures[name]).all())
        and same_by_field(one.by_field, other.by_field, name)
        for name in (SERVED, *BASELINES)
    )


def same_by_field(one: FieldFigures, other: FieldFigures, method: str) -> bool:
    """Whether a method has the same figures by field at all targets, up to rounding.

    The scores of a recommendation are rounded to six digits. What the named values of a field leave for the others may be as little,
    and then the bits of another value differ, although its probability does not.
    """
    rows, others = one.rows[method], other.rows[method]
    near = np.isclose(rows, others, atol=ROUNDING, equal_nan=True)
    bits = one.figures.index(BITS)
    near[:, bits] |= np.isclose(np.exp2(-rows[:, bits]), np.exp2(-others[:, bits]), atol=ROUNDING)
    return bool(near.all())


def results_of(
    evaluation: Evaluation,
    stream: EventStream,
    answers: Answers,
    *,
    fingerprint: str,
    served: Bundle,
    beside: Mapping[str, Bundle],
    rules: Rules,
    options: dict[str, Any],
    now: int,
    seconds: float,
) -> ReplayResults:
    """Put together the results of a run.

    Args:
        evaluation: what the evaluation found.
        stream: the events.
        answers: the answers of the workers.
        fingerprint: identifies the events of the data set.
        served: the bundle that the workers serve.
        beside: the other bundles, by the names of their columns.
        rules: what was measured.
        options: options of the command that the report mentions.
        now: number of events that this process played.
        seconds: how long that took.
    """
    overview, targets = stream.overview, evaluation.targets
    return ReplayResults(
        stream=fingerprint,
        dataset=stream.dataset.folder.name,
        bundle=_title(served),
        beside={name: _title(bundle) for name, bundle in beside.items()},
        selection=asdict(stream.selection),
        options=options,
        played={
            "events": overview.events,
            "users": len(overview.of_user),
            "from": overview.first,
            "to": overview.last,
            "answered": answers.count,
            "now": now,
            "seconds": round(seconds, 1),
            "without_recommendation": counts_of(answers.reasons.values()),
            "left_out": dict(overview.left_out.most_common()),
            "left_out_before": stream.dataset.left_out,
        },
        rules=rules,
        groups=evaluation.groups,
        fields=evaluation.fields,
        learnt=evaluation.learnt,
        fine_fields=targets.by_field.fine,
        derived=targets.by_field.derived,
        without_known_category=targets.without_known_category,
        whole_days=len(targets.times) > 0 and not (targets.times % DAY).any(),
        coverage=targets.coverage,
        latency=percentiles(answers.latency),
        latency_over_time=over_time(answers.at, answers.latency),
        ages=ages(targets),
        samples=evaluation.samples,
        check=None if evaluation.agreement is None else evaluation.agreement.as_dict(),
        items=evaluation.items,
        notes=evaluation.notes,
    )


def _title(bundle: Bundle) -> str:
    return f"{bundle.name} {bundle.version}"


def _answers_beside(
    offline: Offline, served: Bundle, beside: Mapping[str, Bundle], top: int
) -> dict[str, MethodAnswers]:
    """The answers of other bundles. Bundles with the same embedder come one after the other and share its embeddings."""
    found: dict[str, MethodAnswers] = {}
    version = served.embedder_version
    by_embedder = sorted(beside.items(), key=lambda one: (one[1].embedder_version != version, one[1].embedder_version))
    for name, bundle in by_embedder:
        answers = offline.answers(bundle, served.categories, top, name)
        found[name] = MethodAnswers(answers, prior_of(bundle, served))
    return {name: found[name] for name in beside}


def _reads(offline: Offline, served: Bundle, top: int, *, rules: Rules, at: Collection[str] | None) -> MethodAnswers:
    """What the served bundle answers to reads at the times of the targets."""

    def asked(event: PlayedEvent) -> bool:
        return rules.measures(event) and (at is None or event.user in at)

    answers = offline.reads(served, served.categories, top, READ, asked=asked, delay=rules.delay)
    return MethodAnswers(answers, served.prior, at_targets=True)


def _measure(
    stream: EventStream,
    served: Bundle,
    methods: Mapping[str, MethodAnswers],
    *,
    rules: Rules,
    at: Collection[str] | None,
    title: str,
) -> MeasuredTargets:
    numbers = category_numbers(served.categories)
    labels = {
        name: [numbers[category] for category in item.categories if category in numbers]
        for name, item in stream.items.items()
    }
    events = track(stream.events(), title, len(stream))
    fields = fields_for(served.fields, served.categories, labels)
    return measure(events, methods, labels, activity=stream.overview.of_user, rules=rules, fields=fields, at=at)


def _samples(
    stream: EventStream, targets: MeasuredTargets, offline: Offline, served: Bundle, answers: Answers
) -> list[SampleUser]:
    chosen = choose(targets)
    users: Collection[str] = {targets.names[user] for user, _ in chosen}
    events = [event for event in stream.events() if event.user in users]
    origins = {int(targets.origins[rows[0]]) for _, moments in chosen for rows in moments}
    messages = {
        place: message for place, message in offline.recommendations(served, events, answers) if place in origins
    }
    by_place = {event.place: event for event in events}
    return sample(targets, chosen, by_place, messages, items=stream.items, known=frozenset(served.categories))


def _notes(stream: EventStream, answers: Answers) -> list[str]:
    played: Counter[str] = Counter()
    larger = 0
    for event in track(stream.events(), "looking for earlier bags", len(stream)):
        played[event.user] += 1
        larger += int(answers.bag_size[event.place]) > played[event.user]
    if not larger:
        return []
    return [
        f"{larger:,} bags held more items than were played: these users have earlier events on the same topics, which improve the "
        "figures; --tag gives them other names"
    ]
