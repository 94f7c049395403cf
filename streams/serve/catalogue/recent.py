"""How many bags touched each item lately, by place: the popularity that the ranking asks for. In memory.

A bag counts for an item that it holds, in the week in which it touched the item last. *Lately* is the newest week of any bag, and the
four weeks before it: 28 to 35 days. The weights of the ranking are trained on 28 days, and whole weeks need five numbers for each
item. The weeks follow the events, not the clock, so a replayed history has the popularity of its time.

The counts are a function of the bags: neither the order nor the number of the events matters. One thread changes them at a time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streams.profile.bag import Bag, Slot

WEEK = 7 * 86_400_000  # milliseconds
WEEKS = 5  # that count
NEVER = -WEEKS  # before any week


def week_of(slot: Slot | None) -> int | None:
    """The week since the epoch in which a bag touched an item last; None if it does not hold the item."""
    if slot is None or not (since := slot.since_return):
        return None
    return max(since.values()).timestamp // WEEK


def newest_week(bag: Bag) -> int:
    """The week of the newest event that a bag knows of, also of one that took items out of it; `NEVER` for a new bag."""
    moments = [slot.last for slot in bag.slots.values()]
    if bag.floor is not None:
        moments.append(bag.floor)
    return max((moment.timestamp // WEEK for moment in moments), default=NEVER)


def touches(before: Bag, after: Bag) -> Iterator[tuple[str, int, int]]:
    """What differs between a bag before and after some events: items, weeks, and 1 or -1 for each: a bag more or less.

    Only the slots that differ need to be in the bags.
    """
    for item_id in before.slots.keys() | after.slots.keys():
        one, other = before.slots.get(item_id), after.slots.get(item_id)
        left, week = (None, None) if one is other else (week_of(one), week_of(other))
        if left != week:
            for touched, more in ((left, -1), (week, 1)):
                if touched is not None:
                    yield item_id, touched, more


class Recent:
    """The counts. Any number of threads may read `counts` while one changes them.

    Attributes:
        counts: int32 [room], by place.
    """

    def __init__(self, room: int) -> None:
        self.counts = np.zeros(room, np.int32)
        self._weeks = np.zeros((WEEKS, room), np.int32)  # the week w is in row w % WEEKS
        self._newest = NEVER

    @property
    def nbytes(self) -> int:
        """Memory, bytes."""
        return self.counts.nbytes + self._weeks.nbytes

    def reach(self, week: int) -> None:
        """A bag is of this week, so that earlier weeks may be too old. Call it before `add`."""
        if week <= self._newest:
            return
        for new in range(max(self._newest + 1, week - WEEKS + 1), week + 1):
            self._weeks[new % WEEKS] = 0
        self._newest = week
        self.counts = self._weeks.sum(axis=0, dtype=np.int32)

    def add(self, place: int, week: int, more: int) -> None:
        """So many more bags touched the item last in a week."""
        if week > self._newest - WEEKS:
            self._weeks[week % WEEKS, place] += more
            self.counts[place] += more

    def clear(self, place: int) -> None:
        """No bag touched what is at a place."""
        self._weeks[:, place] = self.counts[place] = 0

    def move(self, place: int, other: int) -> None:
        """Copy what is at a place to another one."""
        self._weeks[:, other] = self._weeks[:, place]
        self.counts[other] = self.counts[place]

    def start_over(self) -> None:
        """No bag touched anything."""
        self._weeks[:] = self.counts[:] = 0
        self._newest = NEVER

    def reserve(self, room: int) -> None:
        """Make room for so many places."""
        self.counts = _longer(self.counts, room)
        self._weeks = np.stack([_longer(row, room) for row in self._weeks])


def _longer(row: NDArray[np.int32], room: int) -> NDArray[np.int32]:
    longer = np.zeros(room, np.int32)
    longer[: len(row)] = row
    return longer
