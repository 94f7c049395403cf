"""Metrics of ranked items before each purchase: was the article that was bought among them, and how far up?

Each purchase is a target with one right article. So the average precision is 1 / rank, and recall is the share of targets that were
found. Methods are compared target by target, with `model.field_metrics.paired`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HITS, DEEP = 12, 100  # items of a page, and of a list of candidates
LISTED = DEEP
"""How many items of a list the figures look at."""
NOT_LISTED = LISTED
"""Rank of a target that is not in the list."""
FIGURES = (f"hit@{HITS}", f"MAP@{HITS}", f"recall@{DEEP}")


def ranks_of(listed: NDArray[np.integer] | Sequence[int], targets: NDArray[np.integer]) -> NDArray[np.int64]:
    """The rank of each target in a list, from 0; `NOT_LISTED` without one.

    Args:
        listed: items, best first. Those behind the first `LISTED` do not count.
        targets: the items that were bought, [T].
    """
    place = {int(item): rank for rank, item in reversed(list(enumerate(listed[:LISTED])))}
    return np.array([place.get(int(item), NOT_LISTED) for item in targets], np.int64)


def figures(ranks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The value of each figure for each target, [T], by its name in `FIGURES`. Their means are the figures."""
    found = ranks < HITS
    return {
        f"hit@{HITS}": found.astype(np.float64),
        f"MAP@{HITS}": np.where(found, 1 / (1.0 + ranks), 0.0),
        f"recall@{DEEP}": (ranks < DEEP).astype(np.float64),
    }
