"""Metrics of scores as a ranking, as decisions and as probabilities. Training, evaluation and the replay share them.

`scores` is float [N, D] (higher is better), `labels` is [N, D] (truthy means relevant). A row is a user, a column is a
category. A NaN score raises ValueError, and so do different shapes.

    ranking        `rank` sorts once; the methods of `Ranked` return one value per user, for any k
    decisions      `micro_f1`, `macro_f1`, `best_threshold`: of `score >= threshold`, over all pairs of user and category
    probabilities  `reliability`: are 7 of 10 pairs with a score of .7 relevant?
    uncertainty    `bootstrap`: confidence interval of any function of rows, one row per user; `bootstrap_ratios`: of many
                   means over events of which a user can have several

The value of a user is NaN if it is undefined, such as recall without any label. `mean` leaves those users out. Values are
in the order of the users, so methods are compared by subtraction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.bool_] | NDArray[np.float32]
PerUser = NDArray[np.float64]
"""One value per user, [N]. NaN means undefined."""

THRESHOLDS = np.arange(0.01, 1.0, 0.01)


def rank(scores: Scores, labels: Labels) -> "Ranked":
    """Sort the categories of every user, best first. Of equal scores, the lower category number comes first."""
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
    """The sorted categories of N users, best first. Methods raise ValueError for a `k` outside 1 to D."""

    order: NDArray[np.int64]
    """Category numbers [N, D]."""
    relevance: NDArray[np.bool_]
    """Whether the category at each rank is relevant [N, D]."""
    relevant: NDArray[np.int64]
    """Number of relevant categories [N]."""
    rounded: NDArray[np.int64]
    """Number of scores that round to 1 [N]: those above .5, since numpy, Keras and torch round .5 to 0."""

    def recall_at(self, k: int) -> PerUser:
        """Hits among the best k / relevant categories. The maximum is below 1 for a user with more than k labels."""
        return _ratio(self._hits(k), self.relevant)

    def precision_at(self, k: int) -> PerUser:
        """Hits among the best k / k. The maximum is below 1 for a user with fewer than k labels."""
        return self._of_users_with_labels(self._hits(k) / k)

    def precision_of_rounded_at(self, k: int) -> PerUser:
        """Hits among the best k / number of the best k whose score rounds to 1. Scores must be probabilities.

        The public code of the paper calls this precision. Report it under its own name, beside `precision_at` and never
        instead of it. It exceeds 1 for a user with more hits than scores above .5, and it rises when a method becomes
        less confident. If no score rounds to 1 it is undefined; such a user counts as 0 here.
        """
        rounded = np.minimum(self.rounded, k)
        return self._of_users_with_labels(np.where(rounded > 0, self._hits(k) / np.maximum(rounded, 1), 0.0))

    def average_precision(self) -> PerUser:
        """Mean of the precision at the rank of each relevant category. The mean over users is MAP.

        Source: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
        """
        precision = np.cumsum(self.relevance, axis=1) / np.arange(1, self.relevance.shape[1] + 1)  # [N,D]
        return _ratio((precision * self.relevance).sum(axis=1), self.relevant)

    def ndcg_at(self, k: int) -> PerUser:
        """Discounted gain of the best k / that of the ideal order. A relevant category gains 1.

        Sources: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with the discount of
        Burges et al., "Learning to rank using gradient descent", 2005: 1 / log2(1 + rank). The 2002 paper divides by
        log2(rank) from rank 2 on, which gives ranks 1 and 2 the same weight.
        """
        self._check(k)
        discount = 1 / np.log2(np.arange(2, k + 2))  # [k]
        ideal = np.concatenate([[0.0], np.cumsum(discount)])  # by number of hits
        return _ratio(self.relevance[:, :k] @ discount, ideal[np.minimum(self.relevant, k)])

    def reciprocal_rank(self) -> PerUser:
        """1 / rank of the first relevant category. The mean over users is MRR.

        Source: Voorhees, "The TREC-8 question answering track report", 1999.
        """
        return self._of_users_with_labels(1 / (1.0 + self.relevance.argmax(axis=1)))

    def coverage_at(self, k: int) -> float:
        """Share of the D categories that are among the best k of any user, including users without labels.

        It is k / D if every user gets the same categories.
        """
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
    """Return the mean over the users whose value [N] is defined.

    Raises:
        ValueError: If it is defined for no user.
    """
    kept = figure[~np.isnan(figure)]
    if not len(kept):
        raise ValueError("no user has a label: nothing to measure")
    return float(np.mean(kept))


def decision_counts(threshold: float, scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """Return [N, 3]: per user the true positives, the predicted categories (`score >= threshold`), the relevant categories."""
    return _counts(threshold, scores, labels, axis=1)


def f1(counts: NDArray[np.int64]) -> float:
    """Return micro F1 of rows of true positives, predicted and relevant categories [N, 3].

    F1 = 2 true positives / (predicted + relevant), each summed over the rows. 0 if nothing is predicted or relevant.
    """
    hits, predicted, relevant = (int(total) for total in counts.sum(axis=0))
    return 2 * hits / (predicted + relevant) if predicted + relevant else 0.0


def micro_f1(threshold: float, scores: Scores, labels: Labels) -> float:
    """Return F1 over all pairs of user and category. Frequent categories weigh most."""
    return f1(decision_counts(threshold, scores, labels))


def macro_f1(threshold: float, scores: Scores, labels: Labels) -> float:
    """Return the mean F1 over categories with a label or a prediction, unweighted. 0 if there is none."""
    hits, predicted, relevant = _counts(threshold, scores, labels, axis=0).T  # [D] each
    total = predicted + relevant
    return float(np.mean(2 * hits[total > 0] / total[total > 0])) if total.any() else 0.0


def best_threshold(scores: Scores, labels: Labels) -> float:
    """Return the lowest threshold with the highest `micro_f1`, in steps of .01.

    Choose it on validation users, and apply it to other users.
    """
    relevance = _relevance(scores, labels)
    hits, predicted = _at_least(scores[relevance]), _at_least(scores)
    total = predicted + int(relevance.sum())
    return float(THRESHOLDS[np.argmax(2 * hits / np.maximum(total, 1))])


@dataclass(frozen=True, eq=False)
class Reliability:
    """Scores of all pairs of user and category, in bins of equal width. An empty bin has mean and share NaN.

    With many categories most pairs score near 0, and the lowest bin outweighs the others. So look at the bins as well as at
    the expected calibration error.

    Source: Guo et al., "On calibration of modern neural networks", 2017, section 2.
    """

    edges: PerUser
    """Edges of the bins [bins + 1]. A bin includes its upper edge, not its lower edge. The first bin also includes 0."""
    mean_score: PerUser
    """Mean score [bins]."""
    share_relevant: PerUser
    """Share of relevant pairs [bins]."""
    count: NDArray[np.int64]
    """Number of pairs [bins]."""

    def expected_calibration_error(self) -> float:
        """Mean over pairs of |share relevant - mean score| of the pair's bin (Guo et al., equation 3). 0 is best."""
        full = self.count > 0
        gap = np.abs(self.share_relevant[full] - self.mean_score[full])
        return float(np.average(gap, weights=self.count[full]))


def reliability(scores: Scores, labels: Labels, bins: int = 10) -> Reliability:
    """Compare scores with the share of relevant pairs, in `bins` bins.

    Raises:
        ValueError: If a score is outside 0 to 1, or there is no pair.
    """
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
    """A confidence interval."""

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
    """Return the percentile bootstrap interval of `statistic(rows)`.

    Examples: `bootstrap(ranked.recall_at(5))`, `bootstrap(decision_counts(...), f1)`. Compare two methods by the interval of
    their difference, `bootstrap(a - b)`: it is far narrower than their own intervals suggest. The interval covers the choice
    of users, not the random seed of the network.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.

    Args:
        rows: [N] or [N, C], one row per user. Rows with a NaN are left out.
        statistic: From rows to one number.
        resamples: Number of resamples, each of N users drawn with replacement.
        confidence: Share of the resamples inside the interval.
        seed: Random seed. For the same number of users, the same seed draws the same users.

    Raises:
        ValueError: If no row is left.
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
    """Return the bootstrap intervals of `parts.sum(0) / whole.sum()`, for many ratios at once.

    Each equals the result of `bootstrap` for that statistic and seed, at a hundredth of the time if there are many. To keep
    several events of one user together, pass their sums as parts and their number as whole.

    Args:
        parts: Numerators [N, F], one row per user.
        whole: Denominators [N].
        resamples: As in `bootstrap`.
        confidence: As in `bootstrap`.
        seed: As in `bootstrap`.

    Returns:
        F intervals.

    Raises:
        ValueError: If there is no user.
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
    """Check both arguments and return the labels as bool [N, D]."""
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(
            f"scores and labels must have the same shape [users, categories], found {scores.shape} and {labels.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} scores are NaN: remove them or find out where they come from")
    return labels.astype(bool)


def _counts(threshold: float, scores: Scores, labels: Labels, axis: int) -> NDArray[np.int64]:
    """Return true positives, predicted and relevant pairs, summed along `axis`: [length of the other axis, 3]."""
    relevance = _relevance(scores, labels)
    predicted = scores >= threshold
    return np.stack([pairs.sum(axis=axis) for pairs in (predicted & relevance, predicted, relevance)], axis=1)


def _at_least(scores: Scores) -> NDArray[np.int64]:
    """Count the scores at or above each of `THRESHOLDS`, compared in the precision of the scores, as `>=` does."""
    return scores.size - np.searchsorted(np.sort(scores, axis=None), THRESHOLDS.astype(scores.dtype), side="left")


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> PerUser:
    """Return part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
