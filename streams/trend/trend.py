"""The trend of all partitions, and its windows at a moment. Pure.

A day counts from its first millisecond on: at a moment, the trend is made of the days that began before it. So events whose times
are whole days never count for each other.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.aggregator import TREND_DAYS

DAY = 86_400_000  # milliseconds
WHOLE_ITEM = (
    10_000  # what an item of type weight 1 counts in a category that it certainly belongs to: hundredths of both
)


class Trend:
    """How many items of each category all users took, by day. Does not change.

    Args:
        version: the offset on `category-trend` up to which it counts; None for a trend of nothing.
        rows: by day since the epoch, the counts of that day, int64 [D].
        categories: D.
    """

    def __init__(self, version: int | None, rows: Mapping[int, NDArray[np.int64]], categories: int) -> None:
        self.version = version
        self.categories = categories
        self._days = np.array(sorted(rows), np.int64)
        table = np.zeros((len(rows) + 1, categories), np.int64)
        for place, day in enumerate(self._days.tolist()):
            table[place + 1] = rows[day]
        self._until = table.cumsum(axis=0)  # [days+1,D]: before each day
        self._last: tuple[int, NDArray[np.float32]] | None = None  # the windows of the day that was asked for last

    def at(self, timestamp: int) -> NDArray[np.float32]:
        """Return the items that were taken in each window before a moment, float32 [3, D], in the order of `TREND_DAYS`.

        Args:
            timestamp: milliseconds since the epoch.
        """
        end = -(-timestamp // DAY)  # the first day that did not begin before
        if self._last is not None and self._last[0] == end:
            return self._last[1]
        upto = self._until[int(np.searchsorted(self._days, end))]
        windows = [
            upto if days is None else upto - self._until[int(np.searchsorted(self._days, end - days))]
            for days in TREND_DAYS
        ]
        found = (np.stack(windows) / WHOLE_ITEM).astype(np.float32)
        found.flags.writeable = False
        self._last = end, found
        return found


@lru_cache(8)
def no_trend(categories: int) -> Trend:
    """The trend of a shop in which nobody has taken anything. Always the same object: bags with equal trends are scored together."""
    return Trend(None, {}, categories)
