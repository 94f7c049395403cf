"""Prequential evaluation: predict first, learn after. Measures the recommendation that was there before each purchase.

An event of a target type is a *target*. The recommendation that counts there is the newest one of the user that an event of an
earlier time caused, at least `delay` before. Events of the same time never count for each other. Without such a recommendation
the bundle's prior counts, which is what the workers answer for an empty bag. Other methods are measured at the same targets:
other bundles, and popularity, which is the categories of all targets before, with the same delay.

Pure: no Kafka, no clock. Events come one at a time; memory grows with the number of targets only. `model.metrics` defines the
figures. A recommendation lists only its best categories, so the reciprocal rank is 0 when none of these is right.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import metrics
from offline_training.replay.answers.table import Answers
from offline_training.replay.play.events import PlayedEvent

SERVED, POPULARITY = "recommended", "popularity"
"""The names of two methods: the recommendations of the workers, and the most popular categories."""

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
    """

    targets: frozenset[str] = frozenset({"purchase"})
    delay: int = 0
    ks: tuple[int, ...] = (1, 5, 10)
    since: int | None = None

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures of a target."""
        at = ("hit", "recall", "precision", "rounded precision", "NDCG")
        return (*(f"{name}@{k}" for name in at for k in self.ks), "MRR")

    @property
    def k(self) -> int:
        """The middle one, which is shown where there is room for one only."""
        return self.ks[len(self.ks) // 2]


class MethodAnswers(NamedTuple):
    """The answers of a method. `prior`, float32 [D], counts where there is no answer."""

    answers: Answers
    prior: NDArray[np.float32]


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
        figures: [targets, figures] by method: `SERVED`, `POPULARITY`, and the other bundles.
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
    figures: dict[str, NDArray[np.float32]]
    coverage: dict[str, dict[str, float]]
    without_known_category: int


def measure(
    events: Iterable[PlayedEvent],
    methods: Mapping[str, MethodAnswers],
    labels: Mapping[str, Sequence[int]],
    *,
    activity: Mapping[str, int],
    rules: Rules,
) -> MeasuredTargets:
    """Measure what each method recommended before each target.

    Args:
        events: in time order.
        methods: by name, including `SERVED`. Popularity is not among them: it is computed from the targets, and starts with the
            prior of the served bundle.
        labels: by item, the numbers of its categories that the bundle knows.
        activity: number of events of each user.
        rules: what is measured.
    """
    served = methods[SERVED]
    measuring = {name: _MethodAtTargets(method, rules) for name, method in methods.items()}
    popular = _Popularity(served.prior, served.answers.top, rules.delay)
    popularity = _Figures(len(served.prior), rules)
    users: dict[str, int] = {}
    rows = array("q")  # eight numbers per target, to save an object for each
    unknown = 0
    for event in events:
        if event.type in rules.targets:
            wanted = labels.get(event.item, ())
            measured = rules.since is None or event.time >= rules.since
            if wanted and measured:
                age, origin = measuring[SERVED].newest.at(event) or (-1, -1)
                for one in measuring.values():
                    one.answer(event, wanted)
                popularity.add(*popular.at(event.time), wanted)
                bag_size = 0 if origin < 0 else int(served.answers.bag_size[origin])
                user = users.setdefault(event.user, len(users))
                rows.extend((user, event.place, origin, event.time, bag_size, age, activity[event.user], len(wanted)))
            elif measured:
                unknown += 1
            if wanted:
                popular.add(event.time, wanted)
        for one in measuring.values():
            one.newest.add(event)
    columns = np.array(rows, np.int64).reshape(-1, 8).T
    by_method = {SERVED: measuring[SERVED].figures, POPULARITY: popularity}
    by_method |= {name: one.figures for name, one in measuring.items()}
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
        figures={name: figures.rows() for name, figures in by_method.items()},
        coverage={name: figures.coverage() for name, figures in by_method.items()},
        without_known_category=unknown,
    )


class _MethodAtTargets:
    """A method, and its figures at the targets so far."""

    def __init__(self, method: MethodAnswers, rules: Rules) -> None:
        self._answers = method.answers
        self._prior = _best(method.prior, method.answers.top)
        self.newest = _NewestRecommendations(method.answers, rules.delay)
        self.figures = _Figures(len(method.prior), rules)

    def answer(self, event: PlayedEvent, wanted: Sequence[int]) -> None:
        _, origin = self.newest.at(event) or (-1, -1)
        self.figures.add(*(self._prior if origin < 0 else self._answers.scores(origin)), wanted)


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
        while waiting and _is_before(waiting[0][0], time, self._delay):
            self._newest[user] = waiting.pop(0)


class _Popularity:
    """How many targets had each category, as of the current event."""

    def __init__(self, prior: NDArray[np.float32], top: int, delay: int) -> None:
        self._prior, self._top, self._delay = prior, top, delay
        self._counts = np.zeros(len(prior), np.int64)
        self._targets = 0
        self._waiting: deque[tuple[int, tuple[int, ...]]] = deque()
        self._best = _best(prior, top)

    def add(self, time: int, labels: Sequence[int]) -> None:
        self._waiting.append((time, tuple(labels)))

    def at(self, time: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The most frequent categories and their shares of the targets; before the first target, those of the prior."""
        changed = False
        while self._waiting and _is_before(self._waiting[0][0], time, self._delay):
            self._counts[list(self._waiting.popleft()[1])] += 1
            self._targets += 1
            changed = True
        if changed:
            self._best = _best((self._counts / self._targets).astype(np.float32), self._top)
        return self._best


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
            *(ranked.precision_of_rounded_at(k) for k in ks),
            *(ranked.ndcg_at(k) for k in ks),
            np.where(found, ranked.reciprocal_rank(), 0.0),
        ]
        self._rows.append(np.stack(columns, axis=1).astype(np.float32))
        for k, shown in self._shown.items():
            shown[np.unique(ranked.order[:, :k])] = True
        self._scores[:], self._labels[:], self._filled = NOT_LISTED, False, 0


def _best(scores: NDArray[np.float32], top: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    places = np.argsort(-scores, kind="stable")[:top].astype(np.int32)
    return places, scores[places]


def _is_before(time: int, now: int, delay: int) -> bool:
    return time < now and time <= now - delay
