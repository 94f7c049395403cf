"""Users as training and evaluation see them: which rows of a catalogue are in the bag, how heavy they are, and what is asked for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PADDING = -1
TYPE_WEIGHTS = {"view": 0.3, "cart": 0.6, "purchase": 1.0}
"""How heavy an interaction is, as serving has it by default (`TYPE_WEIGHTS` of its settings)."""


class Bags(NamedTuple):
    """Of N users.

    rows: int32 [N, M], rows of the catalogue, PADDING behind them. log_weight: float32 [N, M], log weight of each, -inf in padding.
    targets: bool [N, D].
    """

    rows: NDArray[np.int32]
    log_weight: NDArray[np.float32]
    targets: NDArray[np.bool_]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Items of each bag, int [N]."""
        return (self.rows != PADDING).sum(1)

    def of(self, users: NDArray[np.int64] | slice) -> "Bags":
        """Some of them, no longer than the longest of these."""
        longest = int(self.sizes[users].max(initial=1))
        return Bags(self.rows[users, :longest], self.log_weight[users, :longest], self.targets[users])


def make_bags(
    rows: Sequence[NDArray[np.integer]],
    targets: NDArray[np.bool_],
    max_bag: int,
    log_weights: Sequence[NDArray[np.float32]] | None = None,
) -> Bags:
    """Pad bags, each of at most `max_bag` rows, to one length. log_weights: all of one weight when it is missing."""
    padded = np.full((len(rows), max_bag), PADDING, np.int32)
    weights = np.full((len(rows), max_bag), -np.inf, np.float32)
    for number, bag in enumerate(rows):
        padded[number, : len(bag)] = bag
        weights[number, : len(bag)] = 0.0 if log_weights is None else log_weights[number]
    return Bags(padded, weights, targets)
