"""Finds the interests of a bag: clusters of alike items, each with the item in its middle. Pure and deterministic.

A mean over shoes and lamps is near neither. So a bag asks with several vectors.

Source: Pal et al., "PinnerSage: multi-modal user embedding framework for recommendations at Pinterest", KDD 2020, section 4:
Ward's clustering, a medoid for each cluster, and the weight of a cluster. Here an item weighs what the aggregator attends to
it, in all three.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.item_search.vectors import products, unit

ALIKE = 0.2  # squared distance of two clusters' centres, unit vectors, below which they are one interest: cosine .9
_LEAST_WEIGHT = 1e-6  # so that items without attention still have a place and a distance


class Interest(NamedTuple):
    """Items of a bag that are alike."""

    medoid: int
    """The item in the middle: the one that is nearest to all, by weight."""
    members: NDArray[np.intp]
    """All items, ascending, the medoid among them."""
    weight: float
    """Their attention."""


def find_interests(rows: NDArray[np.float32], attention: NDArray[np.float32], count: int) -> list[Interest]:
    """Cluster the items of a bag. Each step merges the two clusters that lose least (Ward), the first ones of several.

    Args:
        rows: codes of the items, float32 [m, d]. They are compared by cosine. m up to 64 takes about 2 ms.
        attention: [m], from 0.
        count: most interests, at least 1.

    Returns:
        The interests, the heaviest first; of equal ones that with the first item first. Together they have all items.

    Raises:
        ValueError: the arrays differ in length, or `count` is below 1.
    """
    if len(rows) != len(attention) or count < 1:
        raise ValueError(
            f"expected an attention for each of {len(rows)} items and a count from 1, found {len(attention)} and {count}"
        )
    units = unit(rows)
    squares = _squares(units)
    weights = np.maximum(attention.astype(np.float64), _LEAST_WEIGHT)
    clusters = _ward(squares, weights, count)
    found = [
        Interest(_medoid(squares, weights, members), members, float(attention[members].sum(dtype=np.float64)))
        for members in clusters
    ]
    return sorted(found, key=lambda interest: (-interest.weight, int(interest.members[0])))


def _ward(squares: NDArray[np.float64], weights: NDArray[np.float64], count: int) -> list[NDArray[np.intp]]:
    """Merge until there are `count` clusters at most and no two are alike. The first item of a cluster stands for it."""
    clusters: list[list[int]] = [[item] for item in range(len(weights))]
    total = weights.copy()
    squares = squares.copy()  # of the distances of centres, [m,m]
    np.fill_diagonal(squares, np.inf)
    loss = squares * (
        total[:, None] * total / (total[:, None] + total)
    )  # what squared distances to centres grow by (Ward)
    for left in range(len(weights), 1, -1):
        first, second = divmod(int((loss if left > count else squares).argmin()), len(weights))
        if left <= count and squares[first, second] >= ALIKE:
            break
        both = total[first] + total[second]
        a, b = total[first] / both, total[second] / both
        merged = a * squares[first] + b * squares[second] - a * b * squares[first, second]  # from their common centre
        merged[first] = merged[second] = np.inf
        total[first] = both
        squares[first] = squares[:, first] = merged
        loss[first] = loss[:, first] = merged * (total[first] * total / (total[first] + total))
        for matrix in (squares, loss):
            matrix[second] = matrix[:, second] = np.inf
        clusters[first] += clusters[second]
        clusters[second] = []
    return [np.array(sorted(members), np.intp) for members in clusters if members]


def _squares(units: NDArray[np.float32]) -> NDArray[np.float64]:
    """The squared distances of all pairs, [m,m]."""
    length = (units * units).sum(axis=1, dtype=np.float64)
    return np.maximum(length[:, None] + length - 2 * products(units, units), 0)


def _medoid(squares: NDArray[np.float64], weights: NDArray[np.float64], members: NDArray[np.intp]) -> int:
    """The member with the least weighted sum of squared distances to all; of equal ones the heaviest, then the first."""
    distances = (squares[np.ix_(members, members)] * weights[members]).sum(axis=1).round(6)
    return int(members[np.lexsort((members, -weights[members], distances))[0]])
