"""The figures of targets that are told of together: means, and intervals over the choice of users. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.metrics import Interval
from offline_training.replay.prequential import POPULARITY, SERVED, Measured, Rules

RESAMPLES, MANY_USERS = 1000, 10_000  # for an interval; of many users, whose intervals are narrow, a fifth
DAY = 86_400_000  # milliseconds
MONTHS, WEEKS = 180, 21  # days of a stream from which on it is told of by month, by week
SIZES = ((1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, None))  # of bags and histories; None: or more

Pair = tuple[str, str]
"""Two methods: the one whose lead over the other is asked for."""


@dataclass(frozen=True)
class Group:
    """Targets that are told of together."""

    kind: str
    name: str
    rows: NDArray[np.bool_]
    whole: bool = False
    """Whether every figure is worth an interval."""


@dataclass
class Difference:
    """How far the figures of `one` are above those of `other`: 95 % intervals, by the figure's name, on the same targets.

    Without any where it is not known what each said at each target.
    """

    one: str
    other: str
    intervals: dict[str, Interval] = field(default_factory=dict[str, Interval])


@dataclass
class MetricSummary:
    """Means over the targets of a group, and 95 % intervals over the choice of users for the figures that have some."""

    kind: str
    name: str
    targets: int
    users: int
    figures: dict[str, dict[str, float]]
    """By method and the figure's name."""
    ceiling: dict[str, float]
    """The highest recall that k categories can have."""
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict[str, dict[str, Interval]])
    """As `figures`."""
    differences: list[Difference] = field(default_factory=list[Difference])


def pairs_of(measured: Measured) -> list[Pair]:
    """The served method beside each other one, popularity first."""
    others = [name for name in measured.figures if name not in {SERVED, POPULARITY}]
    return [(SERVED, other) for other in (POPULARITY, *others)]


def summaries(measured: Measured, rules: Rules, pairs: Sequence[Pair]) -> list[MetricSummary]:
    """The figures of each group, and the leads of `pairs`; none where there is no target."""
    return [_summary(measured, group, rules, pairs) for group in groups(measured)]


def groups(measured: Measured) -> list[Group]:
    """All targets; warm and cold; by size of the bag, by events of the user, by month, or week or day of a short stream."""
    warm = measured.bag_sizes > 0
    found = [
        Group("all", "all", np.ones(len(warm), bool), whole=True),
        Group("start", "warm", warm, whole=True),
        Group("start", "cold", ~warm),
    ]
    for kind, values in (("bag size", measured.bag_sizes), ("events of the user", measured.activity)):
        for low, high in SIZES:
            name = f"{low} or more" if high is None else str(low) if low == high else f"{low}-{high}"
            found.append(Group(kind, name, (values >= low) & (True if high is None else values <= high)))
    kind, spans = spans_of(measured.times)
    found += [Group(kind, str(span), spans == span) for span in np.unique(spans)]
    return [group for group in found if group.rows.any()]


def spans_of(times: NDArray[np.int64]) -> tuple[str, NDArray[np.datetime64]]:
    """month, week or day, and when that of each time begins; a week begins on Monday."""
    if not len(times):
        return "day", np.zeros(0, "datetime64[D]")
    days = times // DAY
    length = int(days.max() - days.min())
    if length >= MONTHS:
        return "month", times.astype("datetime64[ms]").astype("datetime64[M]")
    if length >= WEEKS:
        days = days - (days + 3) % 7  # day 0 was a Thursday
    return "week" if length >= WEEKS else "day", days.astype("datetime64[D]")


def _summary(measured: Measured, group: Group, rules: Rules, pairs: Sequence[Pair]) -> MetricSummary:
    rows = group.rows
    by_method = {name: values[rows] for name, values in measured.figures.items()}
    users, of = np.unique(measured.users[rows], return_inverse=True)
    relevant = measured.labels[rows]
    summary = MetricSummary(
        kind=group.kind,
        name=group.name,
        targets=int(rows.sum()),
        users=len(users),
        figures={
            method: dict(zip(rules.figures, values.mean(axis=0, dtype=np.float64).tolist(), strict=True))
            for method, values in by_method.items()
        },
        ceiling={f"recall@{k}": float((np.minimum(relevant, k) / relevant).mean()) for k in rules.ks},
    )
    shown = rules.figures if group.whole else (f"hit@{rules.k}", f"recall@{rules.k}", "MRR")
    columns = [rules.figures.index(name) for name in shown]
    sums = {name: _sums(values[:, columns], of, len(users)) for name, values in by_method.items()}
    parts = [*sums.values(), *(sums[one] - sums[other] for one, other in pairs)]
    found = metrics.bootstrap_ratios(
        np.concatenate(parts, axis=1),
        np.bincount(of, minlength=len(users)).astype(np.float64),
        resamples=RESAMPLES if len(users) <= MANY_USERS else RESAMPLES // 5,
    )
    blocks = [
        dict(zip(shown, found[start : start + len(shown)], strict=True)) for start in range(0, len(found), len(shown))
    ]
    summary.intervals = dict(zip(sums, blocks, strict=False))
    summary.differences = [
        Difference(one, other, block) for (one, other), block in zip(pairs, blocks[len(sums) :], strict=True)
    ]
    return summary


def _sums(values: NDArray[np.float32], of: NDArray[np.intp], users: int) -> NDArray[np.float64]:
    """Sums over the targets of each user: [targets, figures] -> [users, figures]."""
    return np.stack([np.bincount(of, column, users) for column in values.T], axis=1).astype(np.float64)


def ages(measured: Measured) -> dict[str, float]:
    """How old the recommendations were at their targets, in days of event time."""
    return percentiles(measured.ages[measured.ages >= 0] / DAY)


def percentiles(values: NDArray[np.float64] | NDArray[np.float32]) -> dict[str, float]:
    """p50, p95 and p99; nothing where there is no value."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return {}
    return {f"p{share}": float(np.percentile(kept, share)) for share in (50, 95, 99)}


def counts_of(reasons: Iterable[str]) -> dict[str, int]:
    """How often each reason comes, the most frequent first."""
    return dict(Counter(reasons).most_common())
