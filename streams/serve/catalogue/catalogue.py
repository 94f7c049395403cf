"""The items of the shop: those of the topic `items`, and those that events named and some bag still holds.

What filters and search need is in memory, in arrays by place. Titles, URLs and ids are on disk. See `streams.serve.interface`.

Threads. Changes are made under one lock, by whichever thread calls `apply`, `written` or `code`; call them in threads of their own,
because they use the disk. Everything else takes no lock, can be called from any thread, and never waits for a change:

- A mask has the items that can be found at that moment. `nearest` finds none outside of its mask.
- The code at a place never changes (`update.py`), so the cosines are those of whole codes.
- A place is used again a minute after its item has gone. Until then `at` and `codes` say what was there. So ask within a minute.
- Price, stock and popularity are those of the moment of the call.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from time import monotonic
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.item_messages import ItemRecord
from streams.profile.bag import Bag, Embedder, Slot
from streams.serve.catalogue.place_index import hash_of
from streams.serve.catalogue.recent import NEVER, newest_week, touches
from streams.serve.catalogue.store import ItemRow, ItemStore, PlaceRow, Source
from streams.serve.catalogue.update import CodeIndex, Memory, Seen, Update
from streams.serve.interface import Item, Listing, Wanted

T = TypeVar("T")

CHUNK = 2048  # items that are changed at a time: others wait for the lock meanwhile


def chunks(values: Iterable[T]) -> Generator[list[T]]:
    """The values, up to `CHUNK` at a time."""
    iterator = iter(values)
    while some := list(islice(iterator, CHUNK)):
        yield some


class Listed(NamedTuple):
    """A valid record of the topic."""

    record: ItemRecord
    timestamp: int  # milliseconds since the epoch
    partition: int


class ItemCatalogue:
    """Implements `streams.serve.interface.Catalogue`.

    Attributes:
        ready: whether what was on disk is in memory.
    """

    def __init__(
        self, store: ItemStore, codes: CodeIndex, embedder: Embedder, clock: Callable[[], float] = monotonic
    ) -> None:
        """Know nothing yet: see `load`.

        Args:
            store: the disk.
            codes: empty.
            embedder: whose codes are searched.
            clock: seconds.
        """
        self._store = store
        self._embedder = embedder
        self._memory = Memory(codes, embedder, clock)
        self._lock = threading.Lock()
        self._stopped = False
        self.ready = False

    def load(self) -> None:
        """Put what is on disk into memory, before anything else. A million items take about a minute. Raises StateError."""
        for items in chunks(self._store.all_items()):
            if self._stopped:
                return
            with self._update() as update:
                for item_id, row in items:
                    update.list(item_id, row, stored=True)
        self.ready = True

    def stop(self) -> None:
        """End `load`, which another thread runs, before its time."""
        self._stopped = True

    # -- changes

    def apply(self, records: Iterable[Listed], offsets: Mapping[int, int]) -> list[str]:
        """Take records of the topic, in order within each partition.

        Args:
            records: valid ones.
            offsets: the next one to read, by partition. Kept with the items.

        Returns:
            The URLs of the pictures that need a code.

        Raises:
            StateError: the disk fails.
        """
        urls: dict[str, None] = {}
        with self._update() as update:
            for (item_id, item), timestamp, partition in records:
                if item is None:
                    update.unlist(item_id, timestamp, partition)
                    continue
                row = ItemRow(
                    item.image_url, item.title, item.categories, item.price, item.currency or "", item.in_stock,
                    item.url or "", timestamp, partition,
                )  # fmt: skip
                if update.list(item_id, row):
                    urls[item.image_url] = None
            update.changes.offsets = offsets
        return list(urls)

    def start_over(self, source: Source) -> None:
        """Drop all items of the topic: it is another one, or was not read for too long. Raises StateError."""
        for items in chunks(self._store.all_items()):
            with self._update() as update:
                for item_id, row in items:
                    update.unlist(item_id, row.timestamp, row.partition)
        self._store.start_over(source)

    def code(self, codes: Mapping[str, bytes]) -> None:
        """Set the codes of pictures, by URL; b"" where the features were forgotten. Raises StateError."""
        for some in chunks(codes.items()):
            with self._update() as update:
                for url, code in some:
                    update.code(url, code)

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """Bags have changed. Call it with each bag once at the start, without any before.

        Whatever the order and number of the events, what counts is the difference between the bags: so `before` has to be
        what `after` was when the same user was last written.

        Args:
            partition: of the bags.
            before: the bags that changed, by user; without those that are new.
            after: the same; without those that are gone.

        Raises:
            StateError: the disk fails.
        """
        del partition
        touched: defaultdict[str, Counter[int]] = defaultdict(Counter)
        seen: dict[str, Seen] = {}
        for user in before.keys() | after.keys():
            old, new = before.get(user, Bag()), after.get(user, Bag())
            for item_id, week, more in touches(old, new):
                touched[item_id][week] += more
            for item_id, slot in new.slots.items():
                picture = self._seen(slot) if slot is not old.slots.get(item_id) and slot.since_return else None
                if picture is not None:
                    known = seen.get(item_id)
                    if known is None or (picture.timestamp, picture.code) > (known.timestamp, known.code):
                        seen[item_id] = picture
        with self._lock:
            self._memory.columns.recent.reach(max(map(newest_week, after.values()), default=NEVER))
        for some in chunks(dict.fromkeys([*touched, *seen])):
            with self._update() as update:
                update.read(some)
                for item_id in some:
                    update.hold(item_id, touched[item_id], seen.get(item_id))

    def forget_bags(self) -> None:
        """No bag holds any item: they are about to be told again. Raises StateError."""
        for places in chunks(np.flatnonzero(self._memory.columns.holders[: self._memory.columns.size]).tolist()):
            with self._update() as update:
                for place in places:
                    update.let_go(place)
        with self._lock:
            self._memory.columns.recent.start_over()

    def cool_down(self) -> None:
        """Forget what was at places that were left long ago. Raises StateError."""
        with self._update():
            pass

    def without_code(self) -> Generator[list[str]]:
        """The URLs of items of the topic without a code, in groups. Raises StateError."""
        for items in chunks(self._store.all_items()):
            urls = {row.image_url for _, row in items if row.embedder_version != self._embedder.version}
            yield list(urls)

    @contextmanager
    def _update(self) -> Generator[Update]:
        with self._lock:
            update = Update(self._memory, self._store)
            yield update
            update.commit()

    def _seen(self, slot: Slot) -> Seen | None:
        picture = slot.picture(self._embedder.version)
        if picture is None or len(picture.embedding) != self._embedder.row_bytes:
            return None
        return Seen(picture.moment.timestamp, picture.image_url, picture.embedding)

    # -- `Catalogue`

    @property
    def embedder_version(self) -> str:
        """Of the embedder that made the codes."""
        return self._embedder.version

    def __len__(self) -> int:
        """The number of items."""
        return len(self._memory.index)

    def place(self, item_id: str) -> int | None:
        """The place of an item; None if it is unknown or has no code yet. Raises StateError.

        The disk is asked only where several items have the hash of the id: that of an unknown id is one of a million others with a
        probability of 1 to 10^13.
        """
        columns = self._memory.columns
        places = list(self._memory.index.candidates(hash_of(item_id), columns.hashes))
        place = places[0] if len(places) == 1 else self._found(item_id)[0] if places else None
        return place if place is not None and columns.coded[place] else None

    def get(self, item_id: str) -> Item | None:
        """An item; None if it is unknown. Raises StateError."""
        place, row = self._found(item_id)
        return None if place is None or row is None else self._item(row, self._store.item(item_id))

    def at(self, places: Sequence[int]) -> list[Item]:
        """The items at some places. Raises StateError; IndexError for a place that nothing was at within a minute."""
        rows = self._store.places(places)
        if None in rows:
            raise IndexError(f"there is no item at place {places[rows.index(None)]}")
        found = [row for row in rows if row is not None]
        items = self._store.items([row.item_id for row in found])
        return [self._item(row, item) for row, item in zip(found, items, strict=True)]

    def codes(self, places: Sequence[int]) -> list[bytes]:
        """Their codes, as `model.quantization` encodes them."""
        return self._memory.codes.rows(np.asarray(places, np.intp))

    def mask(self, wanted: Wanted) -> NDArray[np.bool_]:
        """Which places may be recommended: bool [N]. Items without a code are not. N never falls. Raises StateError."""
        mask = self._memory.columns.mask(wanted)
        for item_id in wanted.without:
            place = self.place(item_id)
            if place is not None and place < len(mask):
                mask[place] = False
        return mask

    def nearest(
        self, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The most similar items of each query [Q,d], exactly: places [Q,k] and cosines [Q,k], best first."""
        return self._memory.codes.search(queries, count, mask)

    def listing(self, which: Listing, count: int) -> list[int]:
        """The places of some items, the first ones of all: see `Listing`."""
        return self._memory.columns.listing(which, count).tolist()

    @property
    def popularity(self) -> NDArray[np.int32]:
        """How many bags touched each item lately (`recent.py`): [N], by place. The numbers change while changes are made."""
        columns = self._memory.columns
        return columns.recent.counts[: columns.size]

    @property
    def nbytes(self) -> int:
        """Memory of the columns and the index, without the codes, bytes."""
        return self._memory.columns.nbytes + self._memory.index.nbytes

    def _found(self, item_id: str) -> tuple[int | None, PlaceRow | None]:
        for place in self._memory.index.candidates(hash_of(item_id), self._memory.columns.hashes):
            row = self._store.place(place)
            if row is not None and row.item_id == item_id:
                return place, row
        return None, None

    @staticmethod
    def _item(row: PlaceRow, item: ItemRow | None) -> Item:
        if item is None:
            return Item(item_id=row.item_id, image_url=row.image_url)
        return Item(
            item_id=row.item_id,
            image_url=item.image_url,
            title=item.title,
            categories=item.categories,
            price=item.price,
            currency=item.currency,
            in_stock=item.in_stock,
            url=item.url,
            listed=True,
            arrived=item.arrived,
        )
