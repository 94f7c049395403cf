"""A batch of changes to the catalogue: on disk first, then in memory what makes items findable.

A place whose code was written once never gets another code: an item with a new code moves to another place. A place that an item
has left is used again after `COOLING` seconds. So whoever searches, and then asks what is at the places that were found, gets the
items that were searched, while the catalogue changes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from streams.profile.bag import Embedder
from streams.serve.catalogue.columns import Columns
from streams.serve.catalogue.place_index import REMOVED, PlaceIndex, hash_of
from streams.serve.catalogue.store import Changes, ItemRow, ItemStore, PlaceRow

COOLING = 60.0  # seconds: longer than any request takes


class CodeIndex(Protocol):
    """The codes of the items by place, and exact search over them. It grows as places are put."""

    def put(self, places: NDArray[np.intp], rows: Sequence[bytes]) -> None:
        """Keep rows of `model.quantization` at places."""
        ...

    def remove(self, places: NDArray[np.intp]) -> None:
        """Forget what is at places."""
        ...

    def rows(self, places: NDArray[np.intp]) -> list[bytes]:
        """The rows at places, as they were put."""
        ...

    def search(
        self, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The best places of each query among those of a mask: [Q,k], and their cosines. Places behind the mask are left out."""
        ...


@dataclass
class Memory:
    """What is in memory of all items."""

    codes: CodeIndex
    embedder: Embedder  # whose codes these are
    clock: Callable[[], float]  # seconds
    columns: Columns = field(default_factory=Columns)
    index: PlaceIndex = field(default_factory=PlaceIndex)
    cooling: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])  # when an item left a place
    free: list[int] = field(default_factory=list[int])


@dataclass(frozen=True)
class Seen:
    """A picture of an item that a bag has."""

    timestamp: int  # milliseconds since the epoch
    image_url: str
    code: bytes


class Update:
    """Collects changes, and makes them with `commit`. Use one at a time."""

    def __init__(self, memory: Memory, store: ItemStore) -> None:
        self._memory = memory
        self._columns = memory.columns
        self._store = store
        self._codes: dict[int, bytes] = {}  # of places that become findable
        self._gone: list[int] = []  # places whose code is to be forgotten
        self._read: dict[int, PlaceRow | None] = {}  # what was at places before
        self.changes = Changes()
        self._cool_down()

    def list(self, item_id: str, row: ItemRow, *, stored: bool = False) -> bool:
        """Put an item of the topic in the catalogue.

        Args:
            item_id: its id.
            row: as the topic has it; without a code, that of the same picture is kept.
            stored: whether the row is on disk already.

        Returns:
            Whether it needs a code.
        """
        place = self._place(item_id)
        if place is None:
            place = self._new(item_id)
        columns, version = self._columns, self._memory.embedder.version
        before = self._item(item_id) if columns.listed[place] else None
        if before is not None and _is_older(row.timestamp, row.partition, before):
            return False
        if before is not None and before.image_url != row.image_url:
            self.changes.urls[before.image_url, place] = False
        elif before is not None and not row.code:
            row = replace(row, embedder_version=before.embedder_version, code=before.code)
        arrived = row.arrived or row.timestamp if before is None else before.arrived or before.timestamp
        row = replace(row, arrived=arrived)
        self.changes.urls[row.image_url, place] = True
        if not stored:
            self.changes.items[item_id] = row
        columns.listed[place], columns.arrived[place] = True, arrived
        columns.describe(place, price=row.price, in_stock=row.in_stock, categories=row.categories)
        code = row.code if row.embedder_version == version else b""
        self._code(place, code, row.image_url)
        return not code

    def unlist(self, item_id: str, timestamp: int, partition: int) -> None:
        """The topic has the item no longer. It stays as long as bags hold it."""
        place = self._place(item_id)
        if place is None or not self._columns.listed[place]:
            return
        before = self._item(item_id)
        if before is None or _is_older(timestamp, partition, before):
            return
        self.changes.items[item_id] = None
        self.changes.urls[before.image_url, place] = False
        self._columns.listed[place], self._columns.arrived[place] = False, 0
        self._columns.describe(place, price=None, in_stock=None, categories=())
        if self._columns.holders[place]:
            self._code(place, self._row(place).code)
        else:
            self._leave(place)

    def code(self, url: str, code: bytes) -> None:
        """The items of the topic with this picture have this code now; b"" if its features were forgotten."""
        for place in self._store.places_of(url):
            row = self._store.place(place)
            item = None if row is None else self._item(row.item_id)
            if row is None or item is None or item.image_url != url or self._place(row.item_id) != place:
                continue
            version = self._memory.embedder.version if code else ""
            if item.code == code and item.embedder_version == version:
                continue
            self.changes.items[row.item_id] = replace(item, embedder_version=version, code=code)
            self._code(place, code, url)

    def read(self, item_ids: Iterable[str]) -> None:
        """Read what the disk has of some items, all at once: each of them alone takes longer."""
        index, hashes = self._memory.index, self._columns.hashes
        places = [place for item_id in item_ids for place in index.candidates(hash_of(item_id), hashes)]
        self._read.update(zip(places, self._store.places(places), strict=True))

    def hold(self, item_id: str, touched: Mapping[int, int], seen: Seen | None) -> None:
        """Other bags hold the item than before. It goes with the last one, unless the topic has it.

        Args:
            item_id: its id.
            touched: so many more bags touched it last in a week, by week. Their sum is how many more hold it.
            seen: the newest of the pictures that they have of it. Of several pictures the newest counts.
        """
        place = self._place(item_id)
        if place is None:
            place = self._new(item_id)
        columns = self._columns
        for week, more in touched.items():
            columns.recent.add(place, week, more)
        holders = max(int(columns.holders[place]) + sum(touched.values()), 0)
        self._held(item_id, place, holders, seen)

    def let_go(self, place: int) -> None:
        """No bag holds the item at a place."""
        self._columns.recent.clear(place)
        if self._columns.holders[place]:
            self._held(self._row(place).item_id, place, 0, None)

    def _held(self, item_id: str, place: int, holders: int, seen: Seen | None) -> None:
        columns = self._columns
        columns.holders[place] = holders
        if not holders and not columns.listed[place]:
            self._leave(place)
        elif not holders:
            columns.pictured[place] = 0
            self.changes.places[place] = PlaceRow(item_id)
        elif seen is not None:
            row = self._row(place)
            if (seen.timestamp, seen.code) > (int(columns.pictured[place]), row.code):
                columns.pictured[place] = seen.timestamp
                self.changes.places[place] = PlaceRow(item_id, seen.image_url, seen.code)
                if not columns.listed[place]:
                    self._code(place, seen.code)

    def commit(self) -> None:
        """Make the changes. Raises StateError; the catalogue cannot be used afterwards."""
        self._store.write(self.changes)
        memory = self._memory
        if self._gone:
            memory.codes.remove(np.array(self._gone, np.intp))
        if self._codes:
            places = np.array(list(self._codes), np.intp)
            memory.codes.put(places, list(self._codes.values()))
            self._columns.written[places] = True
            self._columns.coded[places] = True

    # -- places

    def _place(self, item_id: str) -> int | None:
        key = hash_of(item_id)
        for place in self._memory.index.candidates(key, self._columns.hashes):
            if self._row(place).item_id == item_id:
                return place
        return None

    def _row(self, place: int) -> PlaceRow:
        if row := self.changes.places.get(place):
            return row
        if place not in self._read:
            self._read[place] = self._store.place(place)
        return self._read[place] or PlaceRow("")

    def _item(self, item_id: str) -> ItemRow | None:
        changed = self.changes.items
        return changed[item_id] if item_id in changed else self._store.item(item_id)

    def _new(self, item_id: str) -> int:
        place, key = self._taken(), hash_of(item_id)
        self._columns.hashes[place] = key
        self._memory.index.add(key, place, self._columns.hashes)
        self.changes.places[place] = PlaceRow(item_id)
        return place

    def _taken(self) -> int:
        """A place that is free."""
        if self._memory.free:
            return self._memory.free.pop()
        place = self._columns.size
        self._columns.reserve(place + 1)
        return place

    def _leave(self, place: int) -> None:
        """The item at a place is gone."""
        self._memory.index.replace(int(self._columns.hashes[place]), place, REMOVED)
        self._vacate(place)

    def _vacate(self, place: int) -> None:
        if self._columns.coded[place]:
            self._gone.append(place)
        self._codes.pop(place, None)
        self._columns.clear(place)
        self._memory.cooling.append((self._memory.clock(), place))

    def _cool_down(self) -> None:
        """Free the places that were left long ago."""
        memory = self._memory
        while memory.cooling and memory.cooling[0][0] + COOLING <= memory.clock():
            _, place = memory.cooling.popleft()
            self._columns.written[place] = False
            self.changes.places[place] = None
            memory.free.append(place)

    # -- codes

    def _code(self, place: int, code: bytes, url: str = "") -> None:
        """Give the item at a place this code; b"" for none. url: of its picture, if the topic has the item."""
        columns = self._columns
        if place in self._codes:  # nobody has seen it yet
            if code:
                self._codes[place] = code
            else:
                del self._codes[place]
        elif columns.coded[place]:
            if code and self._memory.codes.rows(np.array([place]))[0] == code:
                return
            columns.coded[place] = False
            self._gone.append(place)
            if code:
                self._codes[self._moved(place, url)] = code
        elif code:
            self._codes[self._moved(place, url) if columns.written[place] else place] = code

    def _moved(self, place: int, url: str) -> int:
        """Move an item to another place."""
        other = self._taken()
        self._columns.move(place, other)
        self._memory.index.replace(int(self._columns.hashes[place]), place, other)
        self.changes.places[other] = self._row(place)
        if self._columns.listed[place]:
            self.changes.urls[url, place], self.changes.urls[url, other] = False, True
        self._vacate(place)
        return other


def _is_older(timestamp: int, partition: int, known: ItemRow) -> bool:
    """Whether a record is older than what is known. Offsets order those of one partition, and times those of two.

    An item has records in two partitions after the topic got more partitions, or from producers that partition differently.
    """
    return partition != known.partition and (timestamp, partition) < (known.timestamp, known.partition)
