"""Means of the figures over groups of targets, with bootstrap intervals over users. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.metrics import Interval
from offline_training.replay.evaluation.baselines import BASELINES, MONTH, POPULARITY, WEEK
from offline_training.replay.evaluation.prequential import SERVED, MeasuredTargets, Rules

RESAMPLES = 1000  # bootstrap samples of an interval
MANY_USERS = 10_000  # above, a fifth of the samples is enough: the intervals are narrow
DAY = 86_400_000  # milliseconds
MONTHS, WEEKS = 180, 21  # minimum length of a stream, in days, to be grouped by month or by week
SIZES = (
    (1, 1),
    (2, 3),
    (4, 7),
    (8, 15),
    (16, 31),
    (32, None),
)  # ranges of bag sizes and of events per user; None: no upper end

Pair = tuple[str, str]
"""Two methods; the difference is the first minus the second."""


@dataclass(frozen=True)
class TargetGroup:
    """Targets that are summarised together.

    Attributes:
        kind: what the targets are grouped by.
        name: of the group.
        rows: bool [targets].
        whole: whether every figure gets an interval.
    """

    kind: str
    name: str
    rows: NDArray[np.bool_]
    whole: bool = False


@dataclass
class Difference:
    """The difference between the figures of two methods at the same targets: `one` minus `other`.

    Attributes:
        intervals: 95 % intervals, by figure; empty when the figures of single targets are unknown.
    """

    one: str
    other: str
    intervals: dict[str, Interval] = field(default_factory=dict[str, Interval])


@dataclass
class MetricSummary:
    """Means over the targets of a group.

    Attributes:
        kind: what the targets are grouped by.
        name: of the group.
        targets: number of targets.
        users: number of users.
        figures: means, by method and figure.
        ceiling: the highest possible recall, by figure: k categories may be fewer than the item has.
        intervals: 95 % intervals over users, by method and figure; some figures have none.
        differences: between pairs of methods.
    """

    kind: str
    name: str
    targets: int
    users: int
    figures: dict[str, dict[str, float]]
    ceiling: dict[str, float]
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict[str, dict[str, Interval]])
    differences: list[Difference] = field(default_factory=list[Difference])


def pairs_of(measured: MeasuredTargets) -> list[Pair]:
    """Pair the served method with every other one, the 28-day trend first."""
    others = [name for name in measured.figures if name not in {SERVED, *BASELINES}]
    return [(SERVED, other) for other in (MONTH, WEEK, POPULARITY, *others)]


def summaries(measured: MeasuredTargets, rules: Rules, pairs: Sequence[Pair]) -> list[MetricSummary]:
    """Summarise each group, with the differences of `pairs`. Without targets there are no groups."""
    return [_summary(measured, group, rules, pairs) for group in groups(measured)]


def groups(measured: MeasuredTargets) -> list[TargetGroup]:
    """Group the targets: all; warm and cold; owned or not; by bag size; by events of the user; by month, week or day."""
    warm = measured.bag_sizes > 0
    found = [
        TargetGroup("all", "all", np.ones(len(warm), bool), whole=True),
        TargetGroup("start", "warm", warm, whole=True),
        TargetGroup("start", "cold", ~warm),
    ]
    if measured.owned.any():
        found += [
            TargetGroup("ownership", "not owned yet", ~measured.owned),
            TargetGroup("ownership", "owned", measured.owned),
        ]
    for kind, values in (("bag size", measured.bag_sizes), ("events of the user", measured.activity)):
        for low, high in SIZES:
            name = f"{low} or more" if high is None else str(low) if low == high else f"{low}-{high}"
            found.append(TargetGroup(kind, name, (values >= low) & (True if high is None else values <= high)))
    kind, spans = spans_of(measured.times)
    found += [TargetGroup(kind, str(span), spans == span) for span in np.unique(spans)]
    return [group for group in found if group.rows.any()]


def spans_of(times: NDArray[np.int64]) -> tuple[str, NDArray[np.datetime64]]:
    """Choose month, week or day by the length of the stream; and the start of that span for each time. Weeks start on Monday."""
    if not len(times):
        return "day", np.zeros(0, "datetime64[D]")
    days = times // DAY
    length = int(days.max() - days.min())
    if length >= MONTHS:
        return "month", times.astype("datetime64[ms]").astype("datetime64[M]")
    if length >= WEEKS:
        days = days - (days + 3) % 7  # day 0 was a Thursday
    return "week" if length >= WEEKS else "day", days.astype("datetime64[D]")


def _summary(measured: MeasuredTargets, group: TargetGroup, rules: Rules, pairs: Sequence[Pair]) -> MetricSummary:
    rows = group.rows
    by_method = {name: values[rows] for name, values in measured.figures.items()}
    users, user_of = np.unique(measured.users[rows], return_inverse=True)
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
    sums = {name: _sums(values[:, columns], user_of, len(users)) for name, values in by_method.items()}
    parts = [*sums.values(), *(sums[one] - sums[other] for one, other in pairs)]
    found = metrics.bootstrap_ratios(
        np.concatenate(parts, axis=1),
        np.bincount(user_of, minlength=len(users)).astype(np.float64),
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


def _sums(values: NDArray[np.float32], user_of: NDArray[np.intp], users: int) -> NDArray[np.float64]:
    """Sum over the targets of each user: [targets, figures] -> [users, figures]."""
    return np.stack([np.bincount(user_of, column, users) for column in values.T], axis=1).astype(np.float64)


def ages(measured: MeasuredTargets) -> dict[str, float]:
    """Percentiles of the age of recommendations at their targets, days of event time."""
    return percentiles(measured.ages[measured.ages >= 0] / DAY)


def percentiles(values: NDArray[np.float64] | NDArray[np.float32]) -> dict[str, float]:
    """Compute p50, p95 and p99; empty without values."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return {}
    return {f"p{share}": float(np.percentile(kept, share)) for share in (50, 95, 99)}


def counts_of(reasons: Iterable[str]) -> dict[str, int]:
    """Count the reasons, the most frequent first."""
    return dict(Counter(reasons).most_common())
