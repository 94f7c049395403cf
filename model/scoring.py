"""Scores bags of any size in one call of the aggregator. Pure: a bag gets the same scores alone and in any batch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.aggregator import TREND_DAYS, Aggregator, Scored


class ScoringBag(NamedTuple):
    """The items of one user."""

    embeddings: NDArray[np.float32]
    """[m, d]. m is at least 1."""
    log_weight: NDArray[np.float32]
    """[m], the log weight of each item. 0 is full weight."""
    ages: NDArray[np.float32] | None = None
    """[m], days since each item was last touched. None: all 0."""
    trend: NDArray[np.float32] | None = None
    """[3, D], what all users took (`Aggregator.score`). None: nothing."""


def score_bags(aggregator: Aggregator, bags: Sequence[ScoringBag]) -> list[Scored]:
    """Score bags of any size at once.

    Returns:
        `Scored(scores [D], attention [m])` for each bag, in the order of `bags`.

    Raises:
        ValueError: If a bag is empty, or its two arrays differ in length.
    """
    if not bags:
        return []
    scored = score_padded(aggregator, bags)
    return [
        Scored(scores, attention[: len(bag.embeddings)])
        for bag, scores, attention in zip(bags, scored.scores, scored.attention, strict=True)
    ]


def score_padded(aggregator: Aggregator, bags: Sequence[ScoringBag]) -> Scored:
    """Pad one or more bags to the size M of the largest, with log weight -inf, and score them at once.

    Returns:
        `Scored(scores [B, D], attention [B, M])`. Attention is 0 at padded positions.

    Raises:
        ValueError: If a bag is empty, or its two arrays differ in length.
    """
    for number, bag in enumerate(bags):
        if not len(bag.embeddings) or len(bag.embeddings) != len(bag.log_weight):
            raise ValueError(
                f"bag {number} of {len(bags)}: expected the same number of embeddings and log weights, at least one, "
                f"found {len(bag.embeddings)} and {len(bag.log_weight)}"
            )
    longest = max(len(bag.embeddings) for bag in bags)
    embeddings = np.zeros((len(bags), longest, aggregator.embedding_size), np.float32)
    log_weight = np.full((len(bags), longest), -np.inf, np.float32)
    for row, bag in enumerate(bags):
        embeddings[row, : len(bag.embeddings)] = bag.embeddings
        log_weight[row, : len(bag.log_weight)] = bag.log_weight
    if not aggregator.uses_trend:
        return aggregator.score(embeddings, log_weight)
    ages = np.zeros_like(log_weight)
    trend = np.zeros((len(bags), len(TREND_DAYS), aggregator.category_count), np.float32)
    for row, bag in enumerate(bags):
        if bag.ages is not None:
            ages[row, : len(bag.ages)] = bag.ages
        if bag.trend is not None:
            trend[row] = bag.trend
    return aggregator.score(embeddings, log_weight, ages, trend)
