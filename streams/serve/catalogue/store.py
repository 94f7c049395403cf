"""What the catalogue keeps on disk: the items of the topic with how far it was read, and what is where in memory.

items/    durable. `i` and item id: an ItemRow. `o` and partition: the next offset. `topic`: which topic, and when it was read last.
          Rows and offsets are written together, so that a row is never older than the offset says.
places/   made anew at each start. `p` and place: a PlaceRow. `u`, a hash of a URL, and place: the listed items with that picture.

Safe to call from several threads, as RocksDB is. Failures are StateErrors.
"""

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import msgspec
import rocksdict
from mode.utils.logging import get_logger
from msgspec import Struct

from streams.exceptions import StateError
from streams.profile.databases import RocksDBMemory, is_damage, items_in

logger = get_logger(__name__)

FORMAT = 1  # of the rows; a store of another format is dropped, and the topic read again
URL_HASH = 16  # bytes
MEMORY = 16 * 1024**2  # bytes of block cache and write buffers for both databases

_ITEM, _OFFSET, _PLACE, _URL, _TOPIC = b"i", b"o", b"p", b"u", b"topic"


class ItemRow(Struct, frozen=True, array_like=True):
    """An item of the topic."""

    image_url: str
    title: str
    categories: list[str]
    price: float | None
    currency: str
    in_stock: bool | None
    url: str
    timestamp: int  # of the record
    partition: int
    embedder_version: str = ""  # that made the code
    code: bytes = b""  # b"" while the picture has no features
    arrived: int = 0  # timestamp of the first record since the item was not there; 0 in rows of earlier versions


class PlaceRow(Struct, frozen=True, array_like=True):
    """An item in memory. URL and code are those of the picture that bags have of it; "" and b"" without one."""

    item_id: str
    image_url: str = ""
    code: bytes = b""


class Source(Struct, frozen=True, array_like=True):
    """Which topic the rows are of."""

    format: int = FORMAT
    topic_id: str = ""  # "" if the broker has no ids
    read_at: float = 0.0  # when it was read to its end last, or from its start, seconds since the epoch


@dataclass
class Changes:
    """What is written together."""

    items: dict[str, ItemRow | None] = field(default_factory=dict[str, "ItemRow | None"])
    places: dict[int, PlaceRow | None] = field(default_factory=dict[int, "PlaceRow | None"])
    urls: dict[tuple[str, int], bool] = field(default_factory=dict[tuple[str, int], bool])  # whether to add or remove
    offsets: Mapping[int, int] = field(default_factory=dict[int, int])  # the next one, by partition


_encode = msgspec.msgpack.Encoder().encode
_item_row = msgspec.msgpack.Decoder(ItemRow)
_place_row = msgspec.msgpack.Decoder(PlaceRow)
_source = msgspec.msgpack.Decoder(Source)


class ItemStore:
    """Two RocksDB databases under one folder."""

    def __init__(self, folder: Path) -> None:
        """Open or create them. What is damaged is dropped, with a log line.

        Raises:
            StateError: they cannot be created.
        """
        self._folder = folder
        memory = RocksDBMemory(MEMORY)
        shutil.rmtree(folder / "places", ignore_errors=True)
        with self._reported():
            folder.mkdir(parents=True, exist_ok=True)
            self._items = self._opened(memory.open, folder / "items")
            self._places = memory.open(folder / "places")
        self._unlogged = rocksdict.WriteOptions()
        self._unlogged.disable_wal = True  # pyright: ignore[reportAttributeAccessIssue] -- no method, whatever its types say
        if self.source.format != FORMAT:
            self.start_over(Source())

    @property
    def source(self) -> Source:
        """Which topic the rows are of."""
        with self._reported():
            value = self._items.get(_TOPIC)
        try:
            return Source() if value is None else _source.decode(value)
        except msgspec.DecodeError:
            return Source(format=0)

    @source.setter
    def source(self, source: Source) -> None:
        with self._reported():
            self._items.put(_TOPIC, _encode(source))

    @property
    def offsets(self) -> dict[int, int]:
        """The next offset to read, by partition."""
        with self._reported():
            return {int.from_bytes(key[1:]): int(value) for key, value in _under(self._items, _OFFSET)}

    def start_over(self, source: Source) -> None:
        """Drop all items and offsets. source: what is read from its start now."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        batch.delete_range(_ITEM, _after(_ITEM))
        batch.delete_range(_OFFSET, _after(_OFFSET))
        batch.put(_TOPIC, _encode(source))
        with self._reported():
            self._items.write(batch)

    def item(self, item_id: str) -> ItemRow | None:
        """An item of the topic."""
        return self.items([item_id])[0]

    def items(self, item_ids: Sequence[str]) -> list[ItemRow | None]:
        """Items of the topic; None for those that it does not have."""
        return self._rows(self._items, [_ITEM + item_id.encode() for item_id in item_ids], _item_row)

    def all_items(self, after: str = "") -> Iterator[tuple[str, ItemRow]]:
        """The items of the topic in the order of their ids, those behind `after`."""
        with self._reported():
            for key, value in _under(self._items, _ITEM, after.encode()):
                item_id = key[1:].decode()
                if item_id != after:
                    yield item_id, _item_row.decode(value)

    def place(self, place: int) -> PlaceRow | None:
        """What is at a place."""
        return self.places([place])[0]

    def places(self, places: Sequence[int]) -> list[PlaceRow | None]:
        """What is at some places; None where nothing ever was."""
        return self._rows(self._places, [_PLACE + place.to_bytes(4) for place in places], _place_row)

    def places_of(self, url: str) -> list[int]:
        """The places of the listed items with this picture."""
        prefix = _url_prefix(url)
        with self._reported():
            return [int.from_bytes(key[len(prefix) :]) for key, _ in _under(self._places, prefix)]

    def write(self, changes: Changes) -> None:
        """Write changes. The items and offsets among them are written as one."""
        scratch = rocksdict.WriteBatch(raw_mode=True)
        for place, row in changes.places.items():
            if row is None:
                scratch.delete(_PLACE + place.to_bytes(4))
            else:
                scratch.put(_PLACE + place.to_bytes(4), _encode(row))
        for (url, place), there in changes.urls.items():
            key = _url_prefix(url) + place.to_bytes(4)
            if there:
                scratch.put(key, b"")
            else:
                scratch.delete(key)
        durable = rocksdict.WriteBatch(raw_mode=True)
        for item_id, item in changes.items.items():
            if item is None:
                durable.delete(_ITEM + item_id.encode())
            else:
                durable.put(_ITEM + item_id.encode(), _encode(item))
        for partition, offset in changes.offsets.items():
            durable.put(_OFFSET + partition.to_bytes(4), b"%d" % offset)
        with self._reported():
            if not scratch.is_empty():
                self._places.write(scratch, self._unlogged)
            if not durable.is_empty():
                self._items.write(durable)

    def close(self) -> None:
        """Close both. A failure is logged: nothing can be done about it any more."""
        for database in (self._items, self._places):
            try:
                database.close()
            except Exception as error:  # noqa: BLE001 -- RocksDB's failures have no class of their own
                logger.warning("the catalogue in %s was not closed cleanly: %s", self._folder, error)

    def _opened(self, open_: Callable[[Path], rocksdict.Rdict], path: Path) -> rocksdict.Rdict:
        try:
            return open_(path)
        except Exception as error:
            if not is_damage(error):
                raise
            logger.warning("%s is damaged: dropping it and reading the items again: %s", path, error)
            shutil.rmtree(path, ignore_errors=True)
            return open_(path)

    def _rows(self, database: rocksdict.Rdict, keys: list[bytes], decoder: msgspec.msgpack.Decoder[Any]) -> list[Any]:
        with self._reported():
            values: Any = database.get(cast("Any", keys))  # several at once; its types do not know keys of bytes
            return [None if value is None else decoder.decode(value) for value in values]

    @contextmanager
    def _reported(self) -> Generator[None]:
        """Turn the bare Exception that rocksdict raises for RocksDB's failures into StateError."""
        try:
            yield
        except (GeneratorExit, StateError):
            raise
        except Exception as error:
            raise StateError(
                f"the catalogue in {self._folder} cannot be read or written: {error}; it is read again from the topic if you remove it"
            ) from error


def _under(database: rocksdict.Rdict, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """The rows whose key starts with a prefix, from `after` on."""
    bound = rocksdict.ReadOptions()
    bound.set_iterate_upper_bound(_after(prefix))
    return items_in(database, from_key=prefix + after, read_opt=bound)


def _after(prefix: bytes) -> bytes:
    """The least key behind all keys with this prefix. It begins with a letter, so there is one of the same length."""
    return (int.from_bytes(prefix) + 1).to_bytes(len(prefix))


def _url_prefix(url: str) -> bytes:
    return _URL + blake2b(url.encode(), digest_size=URL_HASH).digest()
