"""Finds items whose pictures are the same, or nearly: those whose most similar other item is at least as similar as a limit. Pure.

A whole catalogue takes a search for each distinct code. After that, only items that are new, and those whose twin is gone, are
searched for. What is kept takes 16 bytes for each place, whatever is found.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.item_search.ranking import Codes, Nearest
from model.quantization import HEADER_BYTES, dequantize

AT_ONCE = 8  # codes in one search
SCANNED = 4096  # places whose codes are read at once
FIRST, MOST = 16, 4096  # similar items that are asked for at first, and in the end
NONE = -1

Mask = Callable[[], NDArray[np.bool_]]
"""Tells the places that have a code now, bool [N]. N never falls."""


class Groups(NamedTuple):
    """Items that belong together, the largest group first; of equal ones the one with the most similar items, then the lowest place."""

    places: NDArray[np.intp]  # of all groups, one group after the other; ascending in each
    cosines: NDArray[np.float32]  # of each with its twin
    ends: NDArray[np.intp]  # where each group ends in them

    def __len__(self) -> int:
        return len(self.ends)

    def of(self, number: int) -> slice:
        """Where a group is in `places` and `cosines`."""
        return slice(int(self.ends[number - 1]) if number else 0, int(self.ends[number]))


class Twins:
    """The twin of each item: the most similar other one, of equal ones that with the lowest place, if its cosine is `least` or more.

    One thread calls `look`. Others may call `groups` meanwhile.

    Args:
        least: the cosine.
    """

    def __init__(self, least: float) -> None:
        self._least = np.float32(least)
        self._seen = np.zeros(0, np.int64)  # a hash of the code that was looked at; 0: none
        self._twin = np.zeros(0, np.int32)
        self._cosine = np.zeros(0, np.float32)

    def look(self, codes: Codes, nearest: Nearest, mask: Mask) -> Generator[int | None]:
        """Look at all items whose code is new. Each step takes about as long as a search.

        The catalogue may change between two steps. What it says of a change is right after the next call.

        More than `MOST` distinct codes within the limit of a new one, and items of an earlier call among those beyond, may keep
        an earlier twin, or none.

        Yields:
            How many items are left; None while it reads which codes are new.
        """
        there = mask()
        hashes = np.zeros(len(there), np.int64)
        for places in _parts(np.flatnonzero(there), SCANNED):
            hashes[places] = _hashes(codes(places.tolist()))
            yield None
        self._forget(hashes)
        coded = np.flatnonzero(hashes)
        _, index, inverse = np.unique(hashes[coded], return_index=True, return_inverse=True)
        first = coded[index][inverse]  # the lowest place with the code of each
        copies = coded[first != coded]
        self._join(first[first != coded], copies)
        self._seen[copies] = hashes[copies]
        alone = np.zeros(len(hashes), bool)
        alone[first] = True
        todo = np.flatnonzero(alone & (self._seen != hashes))
        left = len(todo)
        for places in _parts(todo, AT_ONCE):
            yield left
            rows = codes(places.tolist())
            same = _hashes(rows) == hashes[places]  # a place may have got another code during the steps before
            self._search(
                places[same], [row for row, as_before in zip(rows, same, strict=True) if as_before], nearest, alone
            )
            self._seen[places[same]] = hashes[places[same]]
            left -= len(places)
        yield left

    def groups(self) -> Groups:
        """The items that have a twin, each in one group with it."""
        twin, cosine = self._twin.copy(), self._cosine.copy()
        items = np.flatnonzero(twin != NONE)
        label = np.arange(len(twin))  # the lowest place of the group, in the end
        while True:
            before = label.copy()
            least = np.minimum(label[items], label[twin[items]])
            np.minimum.at(label, items, least)
            np.minimum.at(label, twin[items], least)
            label = label[label]
            if (label == before).all():
                break
        members = np.union1d(items, twin[items])
        found, group, counts = np.unique(label[members], return_inverse=True, return_counts=True)
        best = np.zeros(len(found), np.float32)
        np.maximum.at(best, group, cosine[members])
        rank = np.empty(len(found), np.intp)
        rank[np.lexsort((found, -best, -counts))] = np.arange(len(found))
        order = np.argsort(rank[group], kind="stable")
        return Groups(members[order], cosine[members[order]], np.cumsum(-np.sort(-counts)))

    def holds(self, places: Sequence[int], rows: Sequence[bytes]) -> NDArray[np.bool_]:
        """Whether the codes at places are still those that were looked at."""
        return self._seen[np.asarray(places, np.intp)] == _hashes(rows)

    def _forget(self, hashes: NDArray[np.int64]) -> None:
        """Forget items whose code has changed or is gone, and those whose twin it was."""
        more = len(hashes) - len(self._seen)
        self._seen = np.append(self._seen, np.zeros(more, np.int64))
        self._twin = np.append(self._twin, np.full(more, NONE, np.int32))
        self._cosine = np.append(self._cosine, np.zeros(more, np.float32))
        gone = (self._seen != hashes) | (hashes == 0)
        gone |= (self._twin != NONE) & gone[self._twin]
        self._seen[gone], self._twin[gone], self._cosine[gone] = 0, NONE, 0

    def _join(self, first: NDArray[np.intp], copies: NDArray[np.intp]) -> None:
        """Make the first item with a code the twin of its copies, and the first copy its twin."""
        self._twin[copies] = first
        self._twin[first[::-1]] = copies[::-1]  # the last assignment counts
        self._cosine[copies] = self._cosine[first] = 1

    def _search(
        self, places: NDArray[np.intp], rows: Sequence[bytes], nearest: Nearest, mask: NDArray[np.bool_]
    ) -> None:
        """Search for the twins of some items, and make each item the twin of those to which it is more similar than theirs."""
        if not rows:
            return
        queries = dequantize(rows, len(rows[0]) - HEADER_BYTES)
        found = nearest(queries, FIRST, mask)
        for number, place in enumerate(places.tolist()):
            near, cosines, count = found[0][number], found[1][number], FIRST
            while len(near) == count < MOST and cosines[-1] >= self._least:
                count *= 4
                near, cosines = (one[0] for one in nearest(queries[number : number + 1], count, mask))
            close = (cosines >= self._least) & (near != place)
            self._link(place, near[close], cosines[close])

    def _link(self, place: int, others: NDArray[np.intp], cosines: NDArray[np.float32]) -> None:
        """An item has these others within the limit, best first."""
        if not len(others):
            return
        closer = (cosines > self._cosine[others]) | ((cosines == self._cosine[others]) & (place < self._twin[others]))
        self._twin[others[closer]], self._cosine[others[closer]] = place, cosines[closer]
        if cosines[0] > self._cosine[place]:
            self._twin[place], self._cosine[place] = others[0], cosines[0]


def _hashes(rows: Sequence[bytes]) -> NDArray[np.int64]:
    """A number for each code, equal for equal codes; not 0."""
    return np.array([hash(row) or 1 for row in rows], np.int64)


def _parts(places: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    return (places[start : start + size] for start in range(0, len(places), size))
