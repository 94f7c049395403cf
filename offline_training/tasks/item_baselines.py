"""What was taken, item by item: the baselines of item recommendation, and the popularity that the ranking uses.

Known is what happened on strictly earlier days, as in `purchases`.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.item_search.item_metrics import LISTED
from model.item_search.vectors import products
from offline_training.tasks.purchases import Rows, Taken

WINDOWS: Mapping[str, int | None] = {"popular in 7 days": 7, "popular in 28 days": 28, "popular so far": None}
"""Days that a baseline counts."""
POPULAR_DAYS = 28
"""Days of the popularity that the ranking uses: of one window, that of 28 days says most (`docs/results/hm-items.md`)."""
OTHERS = 2000  # users of one item whose other items are counted; the newest


class ItemCounts:
    """How often each item was bought before a day. Once for a user, a day and an item.

    Args:
        taken: what all users took.
        items: number of items, N.
    """

    def __init__(self, taken: Taken, items: int) -> None:
        self._items = items
        bought = np.flatnonzero(taken.bought)
        order = bought[np.argsort(taken.day[bought], kind="stable")]
        self._day, self._row = taken.day[order], taken.row[order]

    def before(self, day: int, window: int | None) -> NDArray[np.float32]:
        """The purchases of each item in the `window` days before a day, None: ever. float32 [N]."""
        first = 0 if window is None else int(np.searchsorted(self._day, day - window))
        last = int(np.searchsorted(self._day, day))
        return np.bincount(self._row[first:last], minlength=self._items).astype(np.float32)


class CoPurchases:
    """Items of users who have an item of the bag, too: what every shop can count without pictures.

    Each other user of an item of the bag votes for the rest of what they took, with 1 / sqrt(n_i n_j): the cosine of the two items
    over users (Sarwar et al., "Item-based collaborative filtering recommendation algorithms", 2001).

    Args:
        taken: what all users took.
        items: number of items, N.
    """

    def __init__(self, taken: Taken, items: int) -> None:
        self._taken, self._items = taken, items
        order = np.lexsort((taken.day, taken.row))
        self._by_item, self._item_starts = order, np.searchsorted(taken.row[order], np.arange(items + 1))

    @cached_property
    def _user_starts(self) -> NDArray[np.intp]:
        return np.searchsorted(self._taken.user, np.arange(len(self._taken.users) + 1))

    def scores(self, user: int, day: int, rows: Rows, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """The score of each item for a bag, float32 [N].

        Args:
            user: the one who is asked for, who does not vote.
            day: what happened from this day on does not count.
            rows: items of the bag.
            counts: how often each item was bought before that day.
        """
        taken, found = self._taken, np.zeros(self._items, np.float32)
        for row in np.unique(rows).tolist():
            touches = self._by_item[self._item_starts[row] : self._item_starts[row + 1]]
            touches = touches[(taken.day[touches] < day) & (taken.user[touches] != user)]
            for other in np.unique(taken.user[touches[-OTHERS:]]).tolist():
                own = slice(self._user_starts[other], self._user_starts[other + 1])
                theirs = np.unique(taken.row[own][taken.day[own] < day])
                found[theirs] += 1 / np.sqrt(max(counts[row], 1.0))
        found /= np.sqrt(np.maximum(counts, 1.0))
        return found


def like_the_last(units: NDArray[np.float32], row: int) -> NDArray[np.float32]:
    """The cosine of the picture of each item with that of the last item of a bag, float32 [N]. `units` are of length 1."""
    return products(units, units[row : row + 1])[:, 0]


def best(scores: NDArray[np.float32], behind: NDArray[np.float32], without: Rows) -> NDArray[np.intp]:
    """The `LISTED` items of the highest scores; of equal ones those that are higher in `behind`, then the first ones."""
    values = scores.copy()
    values[without] = -np.inf
    least = np.partition(values, -LISTED)[-LISTED] if len(values) > LISTED else -np.inf
    near = np.flatnonzero(values >= least)
    order = near[np.lexsort((near, -behind[near], -values[near]))]
    return order[: min(LISTED, int((values > -np.inf).sum()))]
