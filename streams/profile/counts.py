"""What bags add to the trend: each item counts on the day on which it was last touched. Pure.

A count is a whole number: hundredths of an item's type weight times hundredths of its share in a category (`ItemLabels`). The
trend is the sum over all bags. So it is kept by adding what is in a bag after an event, and taking off what was in it before.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.item_labels import ItemLabels
from streams.profile.bag import Bag, Embedder, Slot
from streams.trend.trend import DAY

AT_ONCE = 256  # changes whose categories are computed in one call: alone, each would cost several times as much


class Counted(NamedTuple):
    """An item as the trend counts it."""

    day: int  # since the epoch, UTC
    weight: int  # hundredths of the type weight
    embedding: bytes


Change = tuple[int, Counted]
"""An item that is counted from now on, with 1, or no longer, with -1."""


def counted(slot: Slot, *, embedder: Embedder, hundredths: Mapping[Any, int]) -> Counted | None:
    """Return what a slot adds to the trend.

    Args:
        slot: one item of a bag.
        embedder: the one that is served. A slot without an embedding of it is not counted, as it is not scored.
        hundredths: the weight of each interaction type in hundredths (`in_hundredths`).

    Returns:
        None for an item that is not in the bag, that has no embedding, or whose types weigh nothing.
    """
    version, row_bytes = embedder
    for picture in slot.pictures:
        if picture.embedder_version == version:
            embedding = picture.embedding
            break
    else:
        return None
    since = slot.since_return
    if len(embedding) != row_bytes or not since:
        return None
    weight = max([hundredths[kind] for kind in since])
    return Counted(max(since.values()).timestamp // DAY, weight, embedding) if weight else None


def in_hundredths(type_weights: Mapping[Any, float]) -> dict[Any, int]:
    """Return the type weights, 0 to 1, as hundredths."""
    return {kind: int(np.rint(100 * weight)) for kind, weight in type_weights.items()}


def changes_of(before: Bag, after: Bag, *, embedder: Embedder, hundredths: Mapping[Any, int]) -> list[Change]:
    """Return what differs between a bag before and after some events. The other arguments are those of `counted`."""
    old, new = before.slots, after.slots
    if old is new:
        return []
    changes: list[Change] = []
    added = 0
    for item_id, slot in new.items():
        earlier = old.get(item_id)
        if earlier is slot:
            continue
        added += earlier is None
        was = None if earlier is None else counted(earlier, embedder=embedder, hundredths=hundredths)
        now = counted(slot, embedder=embedder, hundredths=hundredths)
        if was != now:
            changes += [(sign, item) for sign, item in ((-1, was), (1, now)) if item is not None]
    if len(old) + added > len(new):
        for item_id in old.keys() - new.keys():
            was = counted(old[item_id], embedder=embedder, hundredths=hundredths)
            if was is not None:
                changes.append((-1, was))
    return changes


class Counts:
    """The sum over some bags, by day. Changes may come in any order.

    Args:
        labels: tells the categories of an item.
    """

    def __init__(self, labels: ItemLabels) -> None:
        self._labels = labels
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._waiting: list[Change] = []  # their categories are not known yet

    def add(self, changes: Iterable[Change]) -> None:
        """Add changes."""
        self._waiting += changes
        if len(self._waiting) >= AT_ONCE:
            self._settle()

    def add_rows(self, rows: Mapping[int, NDArray[np.int64]]) -> None:
        """Add the sum over other bags."""
        for day, row in rows.items():
            self._rows[day] = self._rows[day] + row if day in self._rows else row

    def rows(self) -> dict[int, NDArray[np.int64]]:
        """Return the counts of each day that has some: by day since the epoch, int64 [D]."""
        self._settle()
        self._rows = {day: row for day, row in self._rows.items() if row.any()}
        return self._rows

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), AT_ONCE):
            self.add_rows(_summed(waiting[start : start + AT_ONCE], self._labels))


def _summed(changes: Sequence[Change], labels: ItemLabels) -> dict[int, NDArray[np.int64]]:
    """The sum of changes, by day."""
    shares = labels.of([item.embedding for _, item in changes])  # [n,D], hundredths
    counts = shares * np.array([sign * item.weight for sign, item in changes])[:, None]
    days = np.array([item.day for _, item in changes])
    order = np.argsort(days, kind="stable")
    starts = np.flatnonzero(np.diff(days[order], prepend=-1))
    return dict(zip(days[order[starts]].tolist(), np.add.reduceat(counts[order], starts), strict=True))
