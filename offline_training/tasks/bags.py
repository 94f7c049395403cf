"""Bags as training and evaluation see them: the items of each user, their weights, and the labels to predict."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PADDING = -1
"""Row of the places behind the last item of a bag."""


class Bags(NamedTuple):
    """The bags of N users, padded to one length M.

    Attributes:
        rows: int32 [N, M], rows of the catalogue, oldest item first; `PADDING` behind them.
        log_weight: float32 [N, M], log weight of each item; -inf in padding.
        targets: bool [N, D], the labels to predict.
    """

    rows: NDArray[np.int32]
    log_weight: NDArray[np.float32]
    targets: NDArray[np.bool_]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of items in each bag, int64 [N]."""
        return (self.rows != PADDING).sum(1)

    def of(self, users: NDArray[np.int64] | slice) -> "Bags":
        """Return the bags of some users, cut to the longest of them."""
        longest = int(self.sizes[users].max(initial=1))
        return Bags(self.rows[users, :longest], self.log_weight[users, :longest], self.targets[users])


def joined(parts: Sequence[Bags]) -> Bags:
    """Return the bags of several parts, of one length M, one part after the other."""
    return Bags(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def make_bags(
    rows: Sequence[NDArray[np.integer]],
    targets: NDArray[np.bool_],
    max_bag: int,
    log_weights: Sequence[NDArray[np.float32]] | None = None,
) -> Bags:
    """Pad bags to one length.

    Args:
        rows: items of each of N bags, int [m] with m at most `max_bag`.
        targets: bool [N, D].
        max_bag: M, the length after padding.
        log_weights: log weights of each bag's items, float32 [m]; None for 0 everywhere.
    """
    padded = np.full((len(rows), max_bag), PADDING, np.int32)
    weights = np.full((len(rows), max_bag), -np.inf, np.float32)
    for number, bag in enumerate(rows):
        padded[number, : len(bag)] = bag
        weights[number, : len(bag)] = 0.0 if log_weights is None else log_weights[number]
    return Bags(padded, weights, targets)
