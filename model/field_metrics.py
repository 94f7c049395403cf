"""Metrics of scores as answers to one question for each field: which colour, which department does the next purchase have?

`scores` is float [N, D], `labels` bool [N, D], and a row is a target, such as a purchase. A field is a list of columns: categories of
which a target has one. Results are [N, F], with NaN where a target has no category of the field: it says nothing about that field.
`macro` averages the fields of each target. Methods are compared target by target, with `paired`.

The rank of a category is the number of categories of its field with a higher score. So categories of one score share the best rank.
That favours methods that know nothing, such as the trend of a shop that just opened, over networks, whose scores differ.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.metrics import Interval, Labels, Scores

Fields = Sequence[Sequence[int]]
"""Columns of each of F fields."""
PerField = NDArray[np.float64]
"""One value for each target and field, [N, F]. NaN means undefined."""

LEAST = 1e-12  # probability below which a surprise does not grow: 40 bits


class Paired(NamedTuple):
    """The mean difference of two methods on the same targets, and its 95 % interval over users."""

    difference: float
    low: float
    high: float

    @property
    def more_than_chance(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def side(self) -> str:
        """On which side of the other method this one is, in words."""
        return "behind" if self.difference < 0 else "ahead of"

    @property
    def distance(self) -> "Paired":
        """The same without the side: a difference that is not negative, with its interval."""
        return Paired(-self.difference, -self.high, -self.low) if self.difference < 0 else self


def within_fields(scores: Scores, fields: Fields) -> NDArray[np.float64]:
    """Divide the scores of each field by their sum, [N, D]. Scores of no field stay. A field of zeros becomes a uniform one."""
    found = scores.astype(np.float64)
    for columns in fields:
        own = found[:, columns]
        total = own.sum(axis=1, keepdims=True)
        found[:, columns] = np.where(total > 0, own / np.where(total > 0, total, 1), 1 / len(columns))
    return found


def ranks(scores: Scores, labels: Labels, fields: Fields) -> PerField:
    """Return the rank of the target's category in each field, from 0: the number of higher scores. Of several, the best one's."""
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(f"scores and labels must have the same shape [N, D], found {scores.shape} and {labels.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} scores are NaN: remove them or find out where they come from")
    found = np.full((len(scores), len(fields)), np.nan)
    for number, columns in enumerate(fields):
        own, wanted = scores[:, columns], labels[:, columns].astype(bool)
        best = np.where(wanted, own, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        found[:, number] = np.where(wanted.any(axis=1), (own > best).sum(axis=1), np.nan)
    return found


def hits_at(k: int, ranked: PerField) -> PerField:
    """Return 1 where the category is among the best k of its field, else 0."""
    return np.where(np.isnan(ranked), np.nan, ranked < k)


def gains_at(k: int, ranked: PerField) -> PerField:
    """Return NDCG@k of each field: 1 / log2(2 + rank) among the best k, else 0. A target has one category, so the ideal is 1."""
    return np.where(ranked < k, 1 / np.log2(2 + ranked), np.where(np.isnan(ranked), np.nan, 0.0))


def bits(probabilities: Scores, labels: Labels, fields: Fields) -> PerField:
    """Return the surprise at the target's category, -log2 of its probability. `within_fields` makes the probabilities."""
    found = np.full((len(labels), len(fields)), np.nan)
    for number, columns in enumerate(fields):
        wanted = labels[:, columns].astype(bool)
        of_target = (probabilities[:, columns] * wanted).sum(axis=1)
        found[:, number] = np.where(wanted.any(axis=1), -np.log2(np.maximum(of_target, LEAST)), np.nan)
    return found


def macro(values: PerField) -> NDArray[np.float64]:
    """Return the mean over the fields in which a target has a category, [N]. NaN for a target without any."""
    defined = ~np.isnan(values)
    counts = defined.sum(axis=1)
    total = np.where(defined, values, 0).sum(axis=1)
    return np.divide(total, counts, out=np.full(len(values), np.nan), where=counts > 0)


def by_field(values: PerField) -> list[float]:
    """Return the mean of each field over the targets that have a category in it; NaN for a field without any."""
    return [float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else np.nan for column in values.T]


def best_of(probabilities: Scores, labels: Labels, fields: Fields) -> tuple[PerField, PerField]:
    """Return the probability of the best category of each field, and 1 where it is the target's, else 0."""
    confidence, right = np.full((2, len(labels), len(fields)), np.nan)
    for number, columns in enumerate(fields):
        wanted = labels[:, columns].astype(bool)
        best = probabilities[:, columns].argmax(axis=1)[:, None]
        known = wanted.any(axis=1)
        confidence[known, number] = np.take_along_axis(probabilities[:, columns], best, axis=1)[known, 0]
        right[known, number] = np.take_along_axis(wanted, best, axis=1)[known, 0]
    return confidence, right


def calibration_errors(confidence: PerField, right: PerField) -> list[float]:
    """Return the expected calibration error of the best category of each field: how far is the share of hits from the probability?

    Source: Guo et al., "On calibration of modern neural networks", 2017, equation 3, with ten bins. NaN for a field without targets.
    """
    found: list[float] = []
    for number in range(confidence.shape[1]):
        known = ~np.isnan(confidence[:, number])
        own = confidence[known, number, None].clip(0, 1)
        reliability = metrics.reliability(own, right[known, number, None] > 0) if len(own) else None
        found.append(reliability.expected_calibration_error() if reliability else np.nan)
    return found


def paired(ours: NDArray[np.float64], theirs: NDArray[np.float64], users: NDArray[np.integer]) -> Paired:
    """Compare two methods on the same targets.

    Args:
        ours: [N], one value for each target. Targets where one of both is NaN are left out.
        theirs: [N].
        users: [N], the user of each target. All targets of a user are drawn together.

    Raises:
        ValueError: no target is left.
    """
    difference = ours - theirs
    kept = ~np.isnan(difference)
    sums, counts = by_user(difference[kept][:, None], users[kept])
    [interval] = metrics.bootstrap_ratios(sums, counts)
    return Paired(float(difference[kept].mean()), *interval)


def interval(values: NDArray[np.float64], users: NDArray[np.integer]) -> Interval:
    """Return the 95 % interval of the mean of [N] values over the choice of users. NaN is left out."""
    kept = ~np.isnan(values)
    [found] = metrics.bootstrap_ratios(*by_user(values[kept][:, None], users[kept]))
    return found


def by_user(values: NDArray[np.float64], users: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum the values [N, C] of each user. Returns the sums [U, C] and the number of targets [U]."""
    names, of = np.unique(users, return_inverse=True)
    sums = [np.bincount(of, column, len(names)).astype(np.float64) for column in values.T]
    return np.stack(sums, axis=1), np.bincount(of, minlength=len(names)).astype(np.float64)
