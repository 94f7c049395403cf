"""Prequential evaluation: predict first, learn after. Measures the recommendation that was there before each purchase.

An event of a target type is a *target*. The recommendation that counts there is the newest one of the user that an event of an
earlier time caused, at least `delay` before. Events of the same time never count for each other. Without such a recommendation
the bundle's prior counts, which is what the workers answer for an empty bag. Other methods are measured at the same targets:
other bundles, and the baselines, which are made of the categories of earlier targets, with the same delay.

Pure: no Kafka, no clock. Events come one at a time; memory grows with the number of targets only. `model.metrics` defines the
figures. A recommendation lists only its best categories, so the reciprocal rank is 0 when none of these is right.
"""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.bundle.manifest import Field
from offline_training.replay.answers.bags import is_before
from offline_training.replay.answers.table import Answers, Listed
from offline_training.replay.evaluation.baselines import BASELINES, POPULARITY, Form, Popularity, Trends
from offline_training.replay.evaluation.fields import FieldFigures, FieldLayout, FieldMeter, layout_of
from offline_training.replay.play.events import PlayedEvent

SERVED, READ = "recommended", "read"
"""The names of methods: the recommendations of the workers, and what they would answer to a read at the time of the target."""

ROWS = 512  # targets measured per batch
NOT_LISTED = -1.0  # score of a category that a recommendation does not list: below every other


@dataclass(frozen=True)
class Rules:
    """What is measured.

    Attributes:
        targets: event types of the targets.
        delay: minimum age of a recommendation at its target, milliseconds of event time.
        ks: numbers of best categories that the figures look at, each at most the number of categories in a recommendation.
        since: time of the first targets, milliseconds since the epoch. Earlier events of these types only count for popularity.
            None: all are targets.
        paper: whether rounded precision is measured, which the public code of the paper calls precision.
    """

    targets: frozenset[str] = frozenset({"purchase"})
    delay: int = 0
    ks: tuple[int, ...] = (1, 5, 10)
    since: int | None = None
    paper: bool = False

    def measures(self, event: PlayedEvent) -> bool:
        """Whether an event is a target, if the bundle knows a category of its item."""
        return event.type in self.targets and (self.since is None or event.time >= self.since)

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures of a target."""
        at = ("hit", "recall", "precision", *(["rounded precision"] if self.paper else []), "NDCG")
        return (*(f"{name}@{k}" for name in at for k in self.ks), "MRR")

    @property
    def k(self) -> int:
        """The middle one, which is shown where there is room for one only."""
        return self.ks[len(self.ks) // 2]


class MethodAnswers(NamedTuple):
    """The answers of a method. `prior`, float32 [D], counts where there is no answer."""

    answers: Answers
    prior: NDArray[np.float32]
    at_targets: bool = False
    """Whether the answers are those to the targets themselves, and not those to the events before."""


@dataclass
class MeasuredTargets:
    """The targets of a run and their figures, one row per target in the order of the stream.

    `origins`, `bag_sizes` and `ages` are those of the served recommendations.

    Attributes:
        names: users who have a target, in the order of their first target.
        users: [targets], indices in `names`.
        places: [targets], indices among the events that are played.
        origins: [targets], places of the events that caused the recommendations; -1: no recommendation.
        times: [targets], milliseconds since the epoch.
        bag_sizes: [targets], 0: no recommendation, or one for an empty bag.
        ages: [targets], event time since the event that caused the recommendation, milliseconds; -1: no recommendation.
        activity: [targets], number of events of the user in the whole stream.
        labels: [targets], number of categories of the item that the bundle knows.
        owned: [targets], whether the user bought the item at an earlier time, and has not returned it since.
        figures: [targets, figures] by method: `SERVED`, the baselines, and the other bundles.
        by_field: figures by field, of the same methods.
        coverage: by method and `coverage@k`, the share of all categories that were among the best k at any target.
        without_known_category: number of events of a target type that are no targets: the bundle knows no category of the item.
    """

    names: list[str]
    users: NDArray[np.int32]
    places: NDArray[np.int32]
    origins: NDArray[np.int32]
    times: NDArray[np.int64]
    bag_sizes: NDArray[np.int32]
    ages: NDArray[np.int64]
    activity: NDArray[np.int32]
    labels: NDArray[np.int32]
    owned: NDArray[np.bool_]
    figures: dict[str, NDArray[np.float32]]
    by_field: FieldFigures
    coverage: dict[str, dict[str, float]]
    without_known_category: int


def measure(
    events: Iterable[PlayedEvent],
    methods: Mapping[str, MethodAnswers],
    labels: Mapping[str, Sequence[int]],
    *,
    activity: Mapping[str, int],
    rules: Rules,
    fields: Sequence[Field] = (),
    at: Collection[str] | None = None,
) -> MeasuredTargets:
    """Measure what each method recommended before each target.

    Args:
        events: in time order.
        methods: by name, including `SERVED`. The baselines are not among them: they are computed from the targets, say as much as
            the served recommendations, and start with the prior of the served bundle.
        labels: by item, the numbers of its categories that the bundle knows.
        activity: number of events of each user.
        rules: what is measured.
        fields: categories that exclude each other. Without any, all categories are one field.
        at: the users whose targets are measured. Those of other users only count for the baselines. None: all.
    """
    served = methods[SERVED]
    layout = layout_of(fields, served.prior, labels)
    forms = {
        name: Form(method.answers.top, layout, method.answers.names_any_of(layout.categories))
        for name, method in methods.items()
    }
    form = forms[SERVED]
    measuring = {name: _MethodAtTargets(method, rules, forms[name]) for name, method in methods.items()}
    popular, trends = Popularity(served.prior, form, rules.delay), Trends(served.prior, form, rules.delay)
    baselines = {name: _Meters(len(served.prior), rules, layout) for name in BASELINES}
    bought = _Bought()
    users: dict[str, int] = {}
    rows = array("q")  # nine numbers per target, to save an object for each
    unknown = 0
    for event in events:
        if event.type in rules.targets:
            wanted = labels.get(event.item, ())
            measured = (rules.since is None or event.time >= rules.since) and (at is None or event.user in at)
            if wanted and measured:
                age, origin = measuring[SERVED].newest.at(event) or (-1, -1)
                for one in measuring.values():
                    one.answer(event, wanted)
                for name, listed in {POPULARITY: popular.at(event.time), **trends.at(event.time)}.items():
                    baselines[name].add(listed, wanted)
                bag_size = 0 if origin < 0 else int(served.answers.bag_size[origin])
                user = users.setdefault(event.user, len(users))
                rows.extend((user, event.place, origin, event.time, bag_size, age, activity[event.user], len(wanted)))
                rows.append(bought.before(event))
            elif measured:
                unknown += 1
            if wanted:
                popular.add(event.time, wanted)
                trends.add(event.time, wanted)
        bought.add(event)
        for one in measuring.values():
            one.newest.add(event)
    columns = np.array(rows, np.int64).reshape(-1, 9).T
    meters = {SERVED: measuring[SERVED].meters, **baselines}
    meters |= {name: one.meters for name, one in measuring.items()}
    derived = [name for name, told in forms.items() if not told.with_values]
    return MeasuredTargets(
        names=list(users),
        users=columns[0].astype(np.int32),
        places=columns[1].astype(np.int32),
        origins=columns[2].astype(np.int32),
        times=columns[3],
        bag_sizes=columns[4].astype(np.int32),
        ages=columns[5],
        activity=columns[6].astype(np.int32),
        labels=columns[7].astype(np.int32),
        owned=columns[8].astype(bool),
        figures={name: one.figures.rows() for name, one in meters.items()},
        by_field=FieldFigures(
            layout.figures,
            {name: one.fields.rows() for name, one in meters.items()},
            [*derived, *(BASELINES if SERVED in derived else ())],
            [layout.names[number] for number in layout.fine],
        ),
        coverage={name: one.figures.coverage() for name, one in meters.items()},
        without_known_category=unknown,
    )


class _Meters:
    """The figures of one method."""

    def __init__(self, categories: int, rules: Rules, layout: FieldLayout) -> None:
        self.figures = _Figures(categories, rules)
        self.fields = FieldMeter(layout)

    def add(self, listed: Listed, labels: Sequence[int]) -> None:
        self.figures.add(listed.categories, listed.scores, labels)
        self.fields.add(listed, labels)


class _MethodAtTargets:
    """A method, and its figures at the targets so far."""

    def __init__(self, method: MethodAnswers, rules: Rules, form: Form) -> None:
        self._answers = method.answers
        self._at_targets = method.at_targets
        self._prior = form.of_prior(method.prior)
        self.newest = _NewestRecommendations(method.answers, rules.delay)
        self.meters = _Meters(len(method.prior), rules, form.layout)

    def answer(self, event: PlayedEvent, wanted: Sequence[int]) -> None:
        _, origin = self.newest.at(event) or (-1, -1)
        if self._at_targets:
            origin = event.place if self._answers.recommended[event.place] else -1
        self.meters.add(self._prior if origin < 0 else self._answers.listed(origin), wanted)


class _Bought:
    """Which items each user has bought and not returned."""

    def __init__(self) -> None:
        self._owned: set[int] = set()  # hashes of users and items: there are as many as targets
        self._now: list[tuple[int, bool]] = []  # of the current time
        self._time: int | None = None

    def add(self, event: PlayedEvent) -> None:
        self._settle(event.time)
        if event.type in {"purchase", "return"}:
            self._now.append((hash((event.user, event.item)), event.type == "purchase"))

    def before(self, event: PlayedEvent) -> bool:
        """Whether the user has the item from an earlier time."""
        self._settle(event.time)
        return hash((event.user, event.item)) in self._owned

    def _settle(self, time: int) -> None:
        if time == self._time:
            return
        for one, owned in self._now:
            (self._owned.add if owned else self._owned.discard)(one)
        self._now, self._time = [], time


class _NewestRecommendations:
    """The newest recommendation of each user, as of the current event."""

    def __init__(self, answers: Answers, delay: int) -> None:
        self._answers = answers
        self._delay = delay
        # Time and place of recommendations that are too new. There are many users with few each: a deque takes ten times a list.
        self._waiting: dict[str, list[tuple[int, int]]] = {}
        self._newest: dict[str, tuple[int, int]] = {}

    def add(self, event: PlayedEvent) -> None:
        if self._answers.recommended[event.place]:
            waiting = self._waiting.setdefault(event.user, [])
            waiting.append((event.time, event.place))
            self._settle(event.user, event.time)  # keeps the lists of users without targets short

    def at(self, event: PlayedEvent) -> tuple[int, int] | None:
        """The recommendation that counts at `event`: its age in milliseconds, and the place of the event that caused it."""
        self._settle(event.user, event.time)
        newest = self._newest.get(event.user)
        return None if newest is None else (event.time - newest[0], newest[1])

    def _settle(self, user: str, time: int) -> None:
        waiting = self._waiting.get(user)
        while waiting and is_before(waiting[0][0], time, self._delay):
            self._newest[user] = waiting.pop(0)


class _Figures:
    """The figures of one method, computed in batches of targets."""

    def __init__(self, categories: int, rules: Rules) -> None:
        self._rules = rules
        self._scores = np.full((ROWS, categories), NOT_LISTED, np.float32)
        self._labels = np.zeros((ROWS, categories), bool)
        self._filled = 0
        self._rows: list[NDArray[np.float32]] = []
        self._shown = {k: np.zeros(categories, bool) for k in rules.ks}

    def add(self, categories: NDArray[np.int32], scores: NDArray[np.float32], labels: Sequence[int]) -> None:
        self._scores[self._filled, categories] = scores
        self._labels[self._filled, list(labels)] = True
        self._filled += 1
        if self._filled == ROWS:
            self._measure()

    def rows(self) -> NDArray[np.float32]:
        """[targets, figures]"""
        if self._filled:
            self._measure()
        self._rows = (
            [np.concatenate(self._rows)] if self._rows else [np.zeros((0, len(self._rules.figures)), np.float32)]
        )
        return self._rows[0]

    def coverage(self) -> dict[str, float]:
        return {f"coverage@{k}": float(shown.mean()) for k, shown in self._shown.items()}

    def _measure(self) -> None:
        scores, labels = self._scores[: self._filled], self._labels[: self._filled]
        ranked = metrics.rank(scores, labels)
        named = np.take_along_axis(scores, ranked.order, axis=1) > NOT_LISTED
        ks = self._rules.ks
        found = (ranked.relevance & named).any(axis=1)
        columns = [
            *((ranked.recall_at(k) > 0).astype(float) for k in ks),
            *(ranked.recall_at(k) for k in ks),
            *(ranked.precision_at(k) for k in ks),
            *(ranked.precision_of_rounded_at(k) for k in ks if self._rules.paper),
            *(ranked.ndcg_at(k) for k in ks),
            np.where(found, ranked.reciprocal_rank(), 0.0),
        ]
        self._rows.append(np.stack(columns, axis=1).astype(np.float32))
        for k, shown in self._shown.items():
            shown[np.unique(ranked.order[:, :k])] = True
        self._scores[:], self._labels[:], self._filled = NOT_LISTED, False, 0
