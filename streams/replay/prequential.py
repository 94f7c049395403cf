"""The prequential evaluation: first predict, then learn. Which recommendation counted at which purchase, and how good it was.

At an event whose type counts (a *target*) the newest recommendation of its user counts that came of an event of an earlier time,
and at least `delay` before. Events of one time never answer for each other. Where there is none, the user is answered as the
workers would answer an empty bag: by the bundle's prior. Beside it stands what was popular: the categories of all targets before,
under the same delay.

Pure: no Kafka, no clock. Events come one by one, memory grows with the targets only. The figures are `model.metrics`' own; a
recommendation names its best categories only, so that the reciprocal rank is 0 where none of those is right.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model import metrics
from streams.replay.answers import Answers
from streams.replay.source import Event

ROWS = 512  # targets measured in one step
RESAMPLES, MANY_USERS = 1000, 10_000  # for an interval; of many users, whose intervals are narrow, a fifth
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


@dataclass
class Measured:
    """One row a target, in the order of the stream."""

    users: NDArray[np.int32]
    """By number, in the order in which they come."""
    times: NDArray[np.int64]
    bag_sizes: NDArray[np.int32]
    """0 where the user had no recommendation, or one of an empty bag."""
    ages: NDArray[np.int64]
    """Milliseconds of event time since the event that the recommendation came of; -1 where there was none."""
    activity: NDArray[np.int32]
    """Events of the user in the whole stream."""
    labels: NDArray[np.int32]
    """How many of the item's categories the bundle knows."""
    recommended: NDArray[np.float32]
    """Figures [targets, figures] of the recommendations."""
    popularity: NDArray[np.float32]
    """Figures [targets, figures] of what was popular."""
    coverage: dict[str, dict[int, float]]
    """By method and k: the share of all categories that were among the best k at any target."""
    without_known_category: int
    """Targets that are not rows: no category of the item is the bundle's."""


def measure(
    events: Iterable[Event],
    answers: Answers,
    labels: Mapping[str, Sequence[int]],
    *,
    prior: NDArray[np.float32],
    activity: Mapping[str, int],
    rules: Rules,
) -> Measured:
    """Hold each target against what was known before it.

    Args:
        events: in the order of time.
        answers: by the events' places.
        labels: numbers of the categories of each item that the bundle knows.
        prior: [D], the bundle's.
        activity: events of each user.
    """
    known = _Known(answers, rules.delay)
    popular = _Popular(prior, answers.top, rules.delay)
    of_prior = _best(prior, answers.top)
    recommended, popularity = (_Figures(len(prior), rules) for _ in range(2))
    users: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, int, int]] = []
    unknown = 0
    for event in events:
        if event.type in rules.targets:
            wanted = labels.get(event.item, ())
            if wanted:
                found = known.at(event)
                age, place = (-1, -1) if found is None else (event.time - found[0], found[1])
                recommended.add(*(of_prior if place < 0 else answers.scores(place)), wanted)
                popularity.add(*popular.at(event.time), wanted)
                popular.add(event.time, wanted)
                bag_size = 0 if place < 0 else int(answers.bag_size[place])
                user = users.setdefault(event.user, len(users))
                rows.append((user, event.time, bag_size, age, activity[event.user], len(wanted)))
            else:
                unknown += 1
        known.add(event)
    columns = np.array(rows, np.int64).reshape(len(rows), 6).T
    return Measured(
        users=columns[0].astype(np.int32),
        times=columns[1],
        bag_sizes=columns[2].astype(np.int32),
        ages=columns[3],
        activity=columns[4].astype(np.int32),
        labels=columns[5].astype(np.int32),
        recommended=recommended.rows(),
        popularity=popularity.rows(),
        coverage={"recommended": recommended.coverage(), "popularity": popularity.coverage()},
        without_known_category=unknown,
    )


class _Known:
    """The newest recommendation of each user at a moment."""

    def __init__(self, answers: Answers, delay: int) -> None:
        self._answers = answers
        self._delay = delay
        self._waiting: dict[str, deque[tuple[int, int]]] = {}  # time and place, of those that are not old enough
        self._newest: dict[str, tuple[int, int]] = {}

    def add(self, event: Event) -> None:
        if self._answers.recommended[event.place]:
            waiting = self._waiting.setdefault(event.user, deque())
            waiting.append((event.time, event.place))
            self._settle(event.user, event.time)  # so that those of users who buy nothing do not add up

    def at(self, event: Event) -> tuple[int, int] | None:
        """Time and place of the event that it came of."""
        self._settle(event.user, event.time)
        return self._newest.get(event.user)

    def _settle(self, user: str, time: int) -> None:
        waiting = self._waiting.get(user)
        while waiting and _is_before(waiting[0][0], time, self._delay):
            self._newest[user] = waiting.popleft()


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
        return np.concatenate(self._rows) if self._rows else np.zeros((0, len(self._rules.figures)), np.float32)

    def coverage(self) -> dict[int, float]:
        return {k: float(shown.mean()) for k, shown in self._shown.items()}

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


@dataclass(frozen=True)
class Group:
    """Targets that are told of together."""

    kind: str
    name: str
    rows: NDArray[np.bool_]
    intervals: bool = False
    """Whether it is worth intervals."""


@dataclass
class Summary:
    """Means over the targets of a group, and 95 % intervals over the choice of users where they are asked for."""

    kind: str
    name: str
    targets: int
    users: int
    recommended: dict[str, float]
    popularity: dict[str, float]
    ceiling: dict[str, float]
    """The highest recall that k categories can have."""
    intervals: dict[str, dict[str, metrics.Interval]] = field(default_factory=dict[str, dict[str, metrics.Interval]])
    """By `recommended`, `popularity` and `difference`, and the figure's name."""


def groups(measured: Measured) -> list[Group]:
    """All targets; warm and cold; by size of the bag, by events of the user, by month."""
    warm = measured.bag_sizes > 0
    found = [
        Group("all", "all", np.ones(len(warm), bool), intervals=True),
        Group("start", "warm", warm, intervals=True),
    ]
    found.append(Group("start", "cold", ~warm))
    for kind, values in (("bag size", measured.bag_sizes), ("events of the user", measured.activity)):
        for low, high in ((1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 2**31 - 1)):
            name = str(low) if low == high else f"{low}-{high}" if high < 2**31 - 1 else f"{low} or more"
            found.append(Group(kind, name, (values >= low) & (values <= high)))
    months = measured.times.astype("datetime64[ms]").astype("datetime64[M]")
    found += [Group("month", str(month), months == month) for month in np.unique(months)]
    return [group for group in found if group.rows.any()]


def summaries(measured: Measured, rules: Rules) -> list[Summary]:
    """The figures of each group; none where there is no target."""
    return [_summary(measured, group, rules) for group in groups(measured)]


def _summary(measured: Measured, group: Group, rules: Rules) -> Summary:
    rows = group.rows
    both = {"recommended": measured.recommended[rows], "popularity": measured.popularity[rows]}
    means = {
        method: dict(zip(rules.figures, values.mean(axis=0, dtype=np.float64).tolist(), strict=True))
        for method, values in both.items()
    }
    users, of = np.unique(measured.users[rows], return_inverse=True)
    relevant = measured.labels[rows]
    summary = Summary(
        kind=group.kind,
        name=group.name,
        targets=int(rows.sum()),
        users=len(users),
        recommended=means["recommended"],
        popularity=means["popularity"],
        ceiling={f"recall@{k}": float((np.minimum(relevant, k) / relevant).mean()) for k in rules.ks},
    )
    if group.intervals:
        both["difference"] = both["recommended"] - both["popularity"]
        counts = np.bincount(of, minlength=len(users))
        for method, values in both.items():
            summary.intervals[method] = {
                name: metrics.bootstrap(
                    np.stack([np.bincount(of, values[:, column], len(users)), counts], axis=1),
                    _mean_of_sums,
                    resamples=RESAMPLES if len(users) <= MANY_USERS else RESAMPLES // 5,
                )
                for column, name in enumerate(rules.figures)
            }
    return summary


def _mean_of_sums(rows: NDArray[np.float64]) -> float:
    """Of users' sums and numbers of targets [users, 2]: users are drawn, their targets stay together."""
    total, count = rows.sum(axis=0)
    return float(total / count)


def ages(measured: Measured) -> dict[str, float]:
    """How old the recommendations were at their targets, in days of event time."""
    old = measured.ages[measured.ages >= 0] / 86_400_000
    return percentiles(old)


def percentiles(values: NDArray[np.float64] | NDArray[np.float32]) -> dict[str, float]:
    """p50, p95 and p99; nothing where there is no value."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return {}
    return {f"p{share}": float(np.percentile(kept, share)) for share in (50, 95, 99)}


def counts_of(reasons: Iterable[str]) -> dict[str, int]:
    """How often each reason comes, the most frequent first."""
    return dict(Counter(reasons).most_common())
