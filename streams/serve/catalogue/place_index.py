"""Finds places by item id: an open-addressing table of 4-byte places over 64-bit hashes of the ids. Pure.

Several ids may have one hash, so what is found is a candidate: the caller compares its id. The hashes are Python's own, keyed anew
in each process, so nobody can write ids that collide on purpose.

One thread changes it at a time. Others may look at any time: they see each place where it was or where it is.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

EMPTY, REMOVED = -1, -2
LEAST = 1024  # slots
FULLEST = 0.6  # share of slots that are not empty; above, a look visits too many


def hash_of(item_id: str) -> int:
    """The hash of an item id, int64."""
    return hash(item_id)


class PlaceIndex:
    """The places of all items. It does not keep the hashes: they are a column of the catalogue."""

    def __init__(self) -> None:
        self._count = 0
        self._used = 0  # slots that are not empty
        self._slots = _view(np.full(LEAST, EMPTY, np.int32))

    def __len__(self) -> int:
        """The number of places."""
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory of the table, bytes."""
        return self._slots.nbytes

    def candidates(self, key: int, hashes: NDArray[np.int64]) -> Iterator[int]:
        """The places whose hash is `key`. hashes: of all places, [N]."""
        slots = self._slots
        last = len(slots) - 1
        at = key & last
        while (place := slots[at]) != EMPTY:
            if place >= 0 and hashes[place] == key:
                yield place
            at = (at + 1) & last

    def add(self, key: int, place: int, hashes: NDArray[np.int64]) -> None:
        """Add a place. hashes: of all places, that of the new one among them."""
        if self._used + 1 > FULLEST * len(self._slots):
            self._rebuild(hashes)
        slots = self._slots
        last = len(slots) - 1
        at = key & last
        while slots[at] >= 0:
            at = (at + 1) & last
        self._used += slots[at] == EMPTY
        slots[at] = place
        self._count += 1

    def replace(self, key: int, place: int, other: int) -> None:
        """Put another place where one is. Both have the hash `key`. `other` REMOVED takes it out."""
        slots = self._slots
        last = len(slots) - 1
        at = key & last
        while slots[at] != place:
            if slots[at] == EMPTY:
                raise KeyError(place)
            at = (at + 1) & last
        slots[at] = other
        self._count -= other == REMOVED

    def _rebuild(self, hashes: NDArray[np.int64]) -> None:
        """Make a table in which there is room for twice as many."""
        old = np.asarray(self._slots)
        places = old[old >= 0]
        size = LEAST
        while len(places) * 2 > FULLEST * size:
            size *= 2
        table = np.full(size, EMPTY, np.int32)
        at = (hashes[places] & (size - 1)).astype(np.int64)
        while len(places):
            free = table[at] == EMPTY
            table[at[free]] = places[free]  # of several that want one slot, the last gets it
            left = table[at] != places
            places, at = places[left], (at[left] + 1) & (size - 1)
        self._used = self._count
        self._slots = _view(table)


def _view(table: NDArray[np.int32]) -> "memoryview[int]":
    """The table as Python reads and writes single numbers fastest."""
    return memoryview(cast("Buffer", table)).cast("B").cast("i")
