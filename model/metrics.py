"""How good scores are as a ranking, as decisions and as probabilities. One definition for training, evaluation and the replay.

`scores` is float [N, D] (higher is better), `labels` is [N, D] (truthy where relevant); a row is a user, a column a
category. A score that is not a number raises ValueError, as do shapes that differ.

    ranking        `rank` sorts once; the methods of `Ranked` give a figure for each user at any k
    decisions      `micro_f1`, `macro_f1`, `best_threshold`: of `score >= threshold` over all pairs of user and category
    probabilities  `reliability`: does a score of .7 come true in 7 of 10 pairs?
    uncertainty    `bootstrap`: the interval of any figure that is a function of rows, one row a user; `bootstrap_ratios`: of many
                   means over what users have several of

A figure of one user is NaN where it has no value: recall, precision and their like without any label. `mean` leaves those
users out. Figures for each user are in the order of the users, so that the difference of two methods is a subtraction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.bool_] | NDArray[np.float32]
PerUser = NDArray[np.float64]
"""One figure for each user [N], NaN where it has no value."""

THRESHOLDS = np.arange(0.01, 1.0, 0.01)


def rank(scores: Scores, labels: Labels) -> "Ranked":
    """Order the categories of every user, best first; ties are broken by the lower category number."""
    relevance = _relevance(scores, labels)
    order = np.argsort(-scores, axis=1, kind="stable")
    return Ranked(
        order=order,
        relevance=np.take_along_axis(relevance, order, axis=1),
        relevant=relevance.sum(axis=1),
        rounded=(scores > 0.5).sum(axis=1),
    )


@dataclass(frozen=True, eq=False)
class Ranked:
    """The categories of N users, best first. A `k` outside 1 to D raises ValueError."""

    order: NDArray[np.int64]
    """The categories [N, D]."""
    relevance: NDArray[np.bool_]
    """Whether the category at that rank is relevant [N, D]."""
    relevant: NDArray[np.int64]
    """How many categories are relevant [N]."""
    rounded: NDArray[np.int64]
    """How many scores round to 1 [N]: above .5, since numpy, Keras and torch round .5 itself to 0."""

    def recall_at(self, k: int) -> PerUser:
        """Hits among the best k / relevant categories. The ceiling is below 1 for a user with more than k labels."""
        return _ratio(self._hits(k), self.relevant)

    def precision_at(self, k: int) -> PerUser:
        """Hits among the best k / k. The ceiling is below 1 for a user with fewer than k labels."""
        return self._of_users_with_labels(self._hits(k) / k)

    def precision_of_rounded_at(self, k: int) -> PerUser:
        """Hits among the best k / those of the best k whose score rounds to 1.

        This is what the public code of the paper calls precision; report it by its own name beside `precision_at`, never
        in its place. It is above 1 for a user with more hits than scores above .5, and it grows when a method grows less
        sure. Where no score rounds to 1 it is undefined: such a user counts as 0 here. Scores must be probabilities.
        """
        rounded = np.minimum(self.rounded, k)
        return self._of_users_with_labels(np.where(rounded > 0, self._hits(k) / np.maximum(rounded, 1), 0.0))

    def average_precision(self) -> PerUser:
        """The precision at the rank of each relevant category, averaged; its mean over users is MAP (Manning, Raghavan and
        Schütze, "Introduction to Information Retrieval", 2008, section 8.4)."""
        precision = np.cumsum(self.relevance, axis=1) / np.arange(1, self.relevance.shape[1] + 1)  # [N,D]
        return _ratio((precision * self.relevance).sum(axis=1), self.relevant)

    def ndcg_at(self, k: int) -> PerUser:
        """The discounted gain of the best k / that of the best order possible; a relevant category gains 1.

        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with the discount in use since
        Burges et al., "Learning to rank using gradient descent", 2005: 1 / log2(1 + rank). The former divide by log2(rank)
        from rank 2 on, which makes ranks 1 and 2 alike.
        """
        self._check(k)
        discount = 1 / np.log2(np.arange(2, k + 2))  # [k]
        ideal = np.concatenate([[0.0], np.cumsum(discount)])  # by number of hits
        return _ratio(self.relevance[:, :k] @ discount, ideal[np.minimum(self.relevant, k)])

    def reciprocal_rank(self) -> PerUser:
        """1 / the rank of the first relevant category; its mean over users is MRR (Voorhees, "The TREC-8 question answering
        track report", 1999)."""
        return self._of_users_with_labels(1 / (1.0 + self.relevance.argmax(axis=1)))

    def coverage_at(self, k: int) -> float:
        """The share of all D categories that are among the best k of any user, users without labels included: k / D where
        everybody is given the same."""
        self._check(k)
        return len(np.unique(self.order[:, :k])) / self.order.shape[1]

    def _hits(self, k: int) -> NDArray[np.int64]:
        self._check(k)
        return self.relevance[:, :k].sum(axis=1)

    def _check(self, k: int) -> None:
        if not 1 <= k <= self.order.shape[1]:
            raise ValueError(f"k = {k}: expected 1 to {self.order.shape[1]}, the number of categories")

    def _of_users_with_labels(self, figure: PerUser) -> PerUser:
        return np.where(self.relevant > 0, figure, np.nan)


def mean(figure: PerUser) -> float:
    """The mean over the users for whom the figure [N] has a value; ValueError where it has none for anybody."""
    kept = figure[~np.isnan(figure)]
    if not len(kept):
        raise ValueError("no user has a label: nothing to measure")
    return float(np.mean(kept))


def decision_counts(threshold: float, scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """For each user, true positives, categories decided (`score >= threshold`) and categories relevant: [N, 3]."""
    return _counts(threshold, scores, labels, axis=1)


def f1(counts: NDArray[np.int64]) -> float:
    """Micro F1 of rows of true positives, decided and relevant [N, 3]: 2 true positives / (decided + relevant), each summed
    over the rows; 0 where nothing is decided or relevant."""
    found, decided, relevant = (int(total) for total in counts.sum(axis=0))
    return 2 * found / (decided + relevant) if decided + relevant else 0.0


def micro_f1(threshold: float, scores: Scores, labels: Labels) -> float:
    """F1 over all pairs of user and category: frequent categories weigh most."""
    return f1(decision_counts(threshold, scores, labels))


def macro_f1(threshold: float, scores: Scores, labels: Labels) -> float:
    """Mean of the F1 of each category that has a label or a decision, all weighing alike; 0 where none has either."""
    found, decided, relevant = _counts(threshold, scores, labels, axis=0).T  # [D] each
    total = decided + relevant
    return float(np.mean(2 * found[total > 0] / total[total > 0])) if total.any() else 0.0


def best_threshold(scores: Scores, labels: Labels) -> float:
    """The threshold of the highest `micro_f1`, in steps of .01, the lowest of equals: choose it on validation users, use it
    on others."""
    relevance = _relevance(scores, labels)
    found, decided = _at_least(scores[relevance]), _at_least(scores)
    total = decided + int(relevance.sum())
    return float(THRESHOLDS[np.argmax(2 * found / np.maximum(total, 1))])


@dataclass(frozen=True, eq=False)
class Reliability:
    """Scores over all pairs of user and category, in bins of equal width (Guo et al., "On calibration of modern neural
    networks", 2017, section 2). An empty bin has mean and share NaN.

    Most pairs score near 0 when categories are many, so that the lowest bin outweighs the others: read the bins too.
    """

    edges: PerUser
    """Where bins begin and end [bins + 1]. A bin holds its upper edge and not its lower one; the first holds 0 as well."""
    mean_score: PerUser
    """[bins]"""
    share_relevant: PerUser
    """[bins]"""
    count: NDArray[np.int64]
    """Pairs [bins]."""

    def expected_calibration_error(self) -> float:
        """Mean over pairs of |share relevant - mean score| of the pair's bin (Guo et al., equation 3): 0 at best."""
        full = self.count > 0
        gap = np.abs(self.share_relevant[full] - self.mean_score[full])
        return float(np.average(gap, weights=self.count[full]))


def reliability(scores: Scores, labels: Labels, bins: int = 10) -> Reliability:
    """Compare scores with what came true. Scores outside 0 to 1, or no pair at all, raise ValueError."""
    relevance = _relevance(scores, labels)
    if not scores.size or scores.min() < 0 or scores.max() > 1:
        raise ValueError("calibration needs probabilities: at least one score, and all from 0 to 1")
    edges = np.arange(bins + 1) / bins
    bin_of = np.searchsorted(edges[1:-1].astype(scores.dtype), scores.ravel(), side="left")  # [N*D]
    count = np.bincount(bin_of, minlength=bins)
    return Reliability(
        edges=edges,
        mean_score=_ratio(np.bincount(bin_of, scores.ravel(), bins), count),
        share_relevant=_ratio(np.bincount(bin_of[relevance.ravel()], minlength=bins), count),
        count=count,
    )


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


def bootstrap(
    rows: NDArray[Any],
    statistic: Callable[[NDArray[Any]], float] = mean,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The percentile interval of `statistic(rows)` when users are drawn anew, with replacement, `resamples` times
    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3).

    `rows` is [N] or [N, C], one row a user: `bootstrap(ranked.recall_at(5))`, `bootstrap(decision_counts(...), f1)`. Rows
    with a NaN are left out first, and ValueError is raised where none is left. One seed draws the same users for every
    figure of as many users; two methods are compared by the interval of the difference, `bootstrap(a - b)`, which is far
    narrower than their own intervals suggest. What it covers is the choice of users, not that of the network's seed.
    """
    rows = rows[~np.isnan(rows).any(axis=tuple(range(1, rows.ndim)))]
    if not len(rows):
        raise ValueError("no user has a value: nothing to resample")
    random = np.random.default_rng(seed)
    figures = [statistic(rows[random.integers(len(rows), size=len(rows))]) for _ in range(resamples)]
    low, high = np.quantile(figures, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def bootstrap_ratios(
    parts: NDArray[np.float64],
    whole: NDArray[np.float64],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """The intervals of `parts.sum(0) / whole.sum()` for many figures at once: parts [N, F], whole [N], one row a user.

    Each is `bootstrap`'s of that statistic, of the same users drawn, at a hundredth of the time where figures are many. A
    user's rows stay together when parts are sums over them and the whole is their number.
    """
    if not len(whole):
        raise ValueError("no user has a value: nothing to resample")
    random = np.random.default_rng(seed)
    figures = np.empty((resamples, parts.shape[1]))
    for number in range(resamples):
        drawn = np.bincount(random.integers(len(whole), size=len(whole)), minlength=len(whole)).astype(np.float64)
        figures[number] = (drawn @ parts) / (drawn @ whole)
    ends = np.quantile(figures, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [Interval(float(low), float(high)) for low, high in ends.T]


def _relevance(scores: Scores, labels: Labels) -> NDArray[np.bool_]:
    """The labels as bool [N, D], after a look at both arguments."""
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(
            f"scores and labels must be [users, categories] alike, found {scores.shape} and {labels.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} scores are not a number: nothing can be said of them")
    return labels.astype(bool)


def _counts(threshold: float, scores: Scores, labels: Labels, axis: int) -> NDArray[np.int64]:
    """True positives, decided and relevant summed along the axis: [the other axis, 3]."""
    relevance = _relevance(scores, labels)
    decided = scores >= threshold
    return np.stack([pairs.sum(axis=axis) for pairs in (decided & relevance, decided, relevance)], axis=1)


def _at_least(scores: Scores) -> NDArray[np.int64]:
    """How many of the scores reach each of `THRESHOLDS`, compared in the scores' own precision as `>=` does."""
    return scores.size - np.searchsorted(np.sort(scores, axis=None), THRESHOLDS.astype(scores.dtype), side="left")


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> PerUser:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
