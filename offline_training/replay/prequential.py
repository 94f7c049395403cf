"""The prequential evaluation: first predict, then learn. Which recommendation counted at which purchase, and how good it was.

At an event whose type counts (a *target*) the newest recommendation of its user counts that came of an event of an earlier time,
and at least `delay` before. Events of one time never answer for each other. Where there is none, the user is answered as the
workers would answer an empty bag: by the bundle's prior. Beside it stand other methods, at the same targets: other bundles, and
what was popular, which is the categories of all targets before, under the same delay.

Pure: no Kafka, no clock. Events come one by one, memory grows with the targets only. The figures are `model.metrics`' own; a
recommendation names its best categories only, so that the reciprocal rank is 0 where none of those is right.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import metrics
from offline_training.replay.answers import Answers
from offline_training.replay.source import Event

SERVED, POPULARITY = "recommended", "popularity"
"""Names of two methods: what the workers said, and what was popular."""

ROWS = 512  # targets measured in one step
NOWHERE = -1.0  # the score of a category that is not named: below any


@dataclass(frozen=True)
class Rules:
    """What is asked."""

    targets: frozenset[str] = frozenset({"purchase"})
    """Types of events that count."""
    delay: int = 0
    """Milliseconds of event time that a recommendation is older at least."""
    ks: tuple[int, ...] = (1, 5, 10)
    """How many of the best categories are looked at; none above the categories of a recommendation."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures of a target."""
        at = ("hit", "recall", "precision", "rounded precision", "NDCG")
        return (*(f"{name}@{k}" for name in at for k in self.ks), "MRR")

    @property
    def k(self) -> int:
        """The one that stands for all where there is place for one: in the middle."""
        return self.ks[len(self.ks) // 2]


class Method(NamedTuple):
    """What recommends. prior: [D], the answer where `answers` have none."""

    answers: Answers
    prior: NDArray[np.float32]


@dataclass
class Measured:
    """One row a target, in the order of the stream. What is said of recommendations is said of the served ones."""

    names: list[str]
    """Of the users who have a target, in the order in which they come."""
    users: NDArray[np.int32]
    """Numbers of names."""
    places: NDArray[np.int32]
    """Of the targets among the events that are played."""
    origins: NDArray[np.int32]
    """Places of the events that the recommendations came of; -1 where there was none."""
    times: NDArray[np.int64]
    bag_sizes: NDArray[np.int32]
    """0 where the user had no recommendation, or one of an empty bag."""
    ages: NDArray[np.int64]
    """Milliseconds of event time since the event that the recommendation came of; -1 where there was none."""
    activity: NDArray[np.int32]
    """Events of the user in the whole stream."""
    labels: NDArray[np.int32]
    """How many of the item's categories the bundle knows."""
    figures: dict[str, NDArray[np.float32]]
    """[targets, figures] by method: `SERVED`, `POPULARITY`, and others beside them."""
    coverage: dict[str, dict[str, float]]
    """By method and `coverage@k`: the share of all categories that were among the best k at any target."""
    without_known_category: int
    """Targets that are not rows: no category of the item is the bundle's."""


def measure(
    events: Iterable[Event],
    methods: Mapping[str, Method],
    labels: Mapping[str, Sequence[int]],
    *,
    activity: Mapping[str, int],
    rules: Rules,
) -> Measured:
    """Hold each target against what was known before it.

    Args:
        events: in the order of time.
        methods: by name; `SERVED` is one of them. Popularity is none: it comes of the targets, and begins with the served prior.
        labels: numbers of the categories of each item that the bundle knows.
        activity: events of each user.
    """
    served = methods[SERVED]
    asked = {name: _Asked(method, rules) for name, method in methods.items()}
    popular = _Popular(served.prior, served.answers.top, rules.delay)
    popularity = _Figures(len(served.prior), rules)
    users: dict[str, int] = {}
    rows = array("q")  # eight numbers a target, without an object for each
    unknown = 0
    for event in events:
        if event.type in rules.targets:
            wanted = labels.get(event.item, ())
            if wanted:
                age, origin = asked[SERVED].known.at(event) or (-1, -1)
                for one in asked.values():
                    one.answer(event, wanted)
                popularity.add(*popular.at(event.time), wanted)
                popular.add(event.time, wanted)
                bag_size = 0 if origin < 0 else int(served.answers.bag_size[origin])
                user = users.setdefault(event.user, len(users))
                rows.extend((user, event.place, origin, event.time, bag_size, age, activity[event.user], len(wanted)))
            else:
                unknown += 1
        for one in asked.values():
            one.known.add(event)
    columns = np.array(rows, np.int64).reshape(-1, 8).T
    by_method = {SERVED: asked[SERVED].figures, POPULARITY: popularity}
    by_method |= {name: one.figures for name, one in asked.items()}
    return Measured(
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


class _Asked:
    """A method, and what it said at the targets so far."""

    def __init__(self, method: Method, rules: Rules) -> None:
        self._answers = method.answers
        self._prior = _best(method.prior, method.answers.top)
        self.known = _Known(method.answers, rules.delay)
        self.figures = _Figures(len(method.prior), rules)

    def answer(self, event: Event, wanted: Sequence[int]) -> None:
        _, origin = self.known.at(event) or (-1, -1)
        self.figures.add(*(self._prior if origin < 0 else self._answers.scores(origin)), wanted)


class _Known:
    """The newest recommendation of each user at a moment."""

    def __init__(self, answers: Answers, delay: int) -> None:
        self._answers = answers
        self._delay = delay
        # Time and place, of those that are not old enough. Few for each of many users: a deque would be ten times a list.
        self._waiting: dict[str, list[tuple[int, int]]] = {}
        self._newest: dict[str, tuple[int, int]] = {}

    def add(self, event: Event) -> None:
        if self._answers.recommended[event.place]:
            waiting = self._waiting.setdefault(event.user, [])
            waiting.append((event.time, event.place))
            self._settle(event.user, event.time)  # so that those of users who buy nothing do not add up

    def at(self, event: Event) -> tuple[int, int] | None:
        """How much older than `event`, in milliseconds, the event is that it came of, and that one's place."""
        self._settle(event.user, event.time)
        newest = self._newest.get(event.user)
        return None if newest is None else (event.time - newest[0], newest[1])

    def _settle(self, user: str, time: int) -> None:
        waiting = self._waiting.get(user)
        while waiting and _is_before(waiting[0][0], time, self._delay):
            self._newest[user] = waiting.pop(0)


class _Popular:
    """How often each category was a target's, at a moment."""

    def __init__(self, prior: NDArray[np.float32], top: int, delay: int) -> None:
        self._prior, self._top, self._delay = prior, top, delay
        self._counts = np.zeros(len(prior), np.int64)
        self._targets = 0
        self._waiting: deque[tuple[int, tuple[int, ...]]] = deque()
        self._best = _best(prior, top)

    def add(self, time: int, labels: Sequence[int]) -> None:
        self._waiting.append((time, tuple(labels)))

    def at(self, time: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The most frequent categories and their shares of the targets; the prior's before there is any."""
        changed = False
        while self._waiting and _is_before(self._waiting[0][0], time, self._delay):
            self._counts[list(self._waiting.popleft()[1])] += 1
            self._targets += 1
            changed = True
        if changed:
            self._best = _best((self._counts / self._targets).astype(np.float32), self._top)
        return self._best


class _Figures:
    """The figures of one method, a block of targets at a time."""

    def __init__(self, categories: int, rules: Rules) -> None:
        self._rules = rules
        self._scores = np.full((ROWS, categories), NOWHERE, np.float32)
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
        named = np.take_along_axis(scores, ranked.order, axis=1) > NOWHERE
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
        self._scores[:], self._labels[:], self._filled = NOWHERE, False, 0


def _best(scores: NDArray[np.float32], top: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    places = np.argsort(-scores, kind="stable")[:top].astype(np.int32)
    return places, scores[places]


def _is_before(time: int, now: int, delay: int) -> bool:
    return time < now and time <= now - delay
