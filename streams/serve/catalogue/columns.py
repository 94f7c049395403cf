"""What filters, search and ranking need of each item, as columns by place. In memory; everything else is on disk.

One thread changes them at a time. Others read at any time: a column that is full is replaced by a larger copy, so whoever has
taken one before keeps a whole column.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.serve.catalogue.recent import Recent
from streams.serve.interface import Listing, Wanted

Number = TypeVar("Number", bound=np.generic)

LEAST = 1024  # places
UNKNOWN = -1  # whether an item is in stock
NONE = 0  # number of no label
MAX_LABELS = 65_535  # distinct labels of all items; those above cannot be filtered by


class Columns:
    """The columns. `size` places are in use or were; the rest of each column is room."""

    def __init__(self) -> None:
        self.size = 0
        self.hashes = np.zeros(LEAST, np.int64)  # of the ids
        self.holders = np.zeros(LEAST, np.int32)  # how many bags hold the item
        self.recent = Recent(LEAST)  # how many bags touched it lately
        self.pictured = np.zeros(
            LEAST, np.int64
        )  # time of the picture that bags have of it, milliseconds; 0 without one
        self.prices = np.full(LEAST, math.nan, np.float32)  # NaN if unknown
        self.stock = np.full(LEAST, UNKNOWN, np.int8)  # 1, 0 or UNKNOWN
        self.listed = np.zeros(LEAST, np.bool_)  # whether the topic has it
        self.arrived = np.zeros(LEAST, np.int64)  # when the topic had it first, milliseconds; 0 if it does not
        self.coded = np.zeros(LEAST, np.bool_)  # whether it has a code, and can be found
        self.written = np.zeros(LEAST, np.bool_)  # whether a code was written for this place: it is not written over
        self.labels: list[
            NDArray[np.uint16]
        ] = []  # numbers of labels: as many columns as the item with the most labels needs
        self._numbers: dict[str, int] = {}  # of labels, casefolded

    @property
    def nbytes(self) -> int:
        """Memory of the columns, bytes."""
        columns = (
            self.hashes,
            self.holders,
            self.pictured,
            self.prices,
            self.stock,
            self.listed,
            self.arrived,
            self.coded,
            self.written,
        )
        return sum(column.nbytes for column in (*columns, *self.labels)) + self.recent.nbytes

    def reserve(self, size: int) -> None:
        """Make room for places below `size`, and count them."""
        room = len(self.hashes)
        if size > room:
            room = max(size, room + room // 2)
            for name in ("hashes", "holders", "pictured", "listed", "arrived", "coded", "written"):
                setattr(self, name, _longer(getattr(self, name), room, 0))
            self.prices, self.stock = _longer(self.prices, room, math.nan), _longer(self.stock, room, UNKNOWN)
            self.labels = [_longer(column, room, NONE) for column in self.labels]
            self.recent.reserve(room)
        self.size = max(self.size, size)

    def clear(self, place: int) -> None:
        """Forget what was at a place."""
        self.describe(place, price=None, in_stock=None, categories=())
        self.hashes[place] = self.holders[place] = self.pictured[place] = self.arrived[place] = 0
        self.listed[place] = self.coded[place] = False
        self.recent.clear(place)

    def describe(self, place: int, *, price: float | None, in_stock: bool | None, categories: Sequence[str]) -> None:
        """Set what filters ask for."""
        self.prices[place] = math.nan if price is None else price
        self.stock[place] = UNKNOWN if in_stock is None else in_stock
        numbers: list[int] = []
        for name in categories:
            number = self._number(name)
            if number != NONE and number not in numbers:
                numbers.append(number)
        while len(self.labels) < len(numbers):
            self.labels = [*self.labels, np.zeros(len(self.hashes), np.uint16)]
        for position, column in enumerate(self.labels):
            column[place] = numbers[position] if position < len(numbers) else NONE

    def move(self, place: int, other: int) -> None:
        """Copy what is at a place to another one, but not whether it has a code."""
        moved = (self.hashes, self.holders, self.pictured, self.prices, self.stock, self.listed, self.arrived)
        for column in (*moved, *self.labels):
            column[other] = column[place]
        self.recent.move(place, other)

    def listing(self, which: Listing, count: int) -> NDArray[np.intp]:
        """The first places of a listing, and of equal ones the lowest place first."""
        size = self.size
        listed, coded = self.listed[:size], self.coded[:size]
        order = self.holders[:size] if which == "held" else self.arrived[:size]
        shown = listed & ~coded if which == "without_picture" else coded & (order > 0)
        places = np.flatnonzero(shown)
        return places[np.argsort(-order[places].astype(np.int64), kind="stable")[:count]]

    def mask(self, wanted: Wanted) -> NDArray[np.bool_]:
        """Which places may be recommended, bool [size], without regard to `wanted.without`."""
        size, labels = self.size, self.labels
        found = self.coded[:size].copy()
        if wanted.in_stock:
            found &= self.stock[:size] == 1
        if wanted.price_max is not None:
            found &= self.prices[:size] <= np.float32(wanted.price_max)  # false for NaN
        if wanted.category is not None:
            number = self._numbers.get(wanted.category.casefold(), NONE)
            has = np.zeros(size, np.bool_)
            if number != NONE:
                for column in labels:
                    has |= column[:size] == number
            found &= has
        return found

    def _number(self, label: str) -> int:
        """The number of a label; NONE if there are too many of them."""
        key = label.casefold()
        number = self._numbers.get(key)
        if number is None:
            number = len(self._numbers) + 1 if len(self._numbers) < MAX_LABELS else NONE
            if number != NONE:
                self._numbers[key] = number
        return number


def _longer(column: NDArray[Number], room: int, filled: float) -> NDArray[Number]:
    longer = np.full(room, filled, column.dtype) if filled else np.zeros(room, column.dtype)  # zeros take no memory yet
    longer[: len(column)] = column
    return longer
