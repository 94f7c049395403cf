"""What a command knows of the rows of the bags while it runs, in a RocksDB that is removed at its end.

Memory therefore does not grow with the bags. Nothing in it has to outlive the command: the changelog says what is done.

    r | key of a row        what matters of it; of a header, its value in the changelog
    u | digest of a URL     nothing: some row lacks the code of the picture at this URL
    c | digest of a URL     the code, or what else is known of the picture
    f | digest | key        nothing: the row waits until the picture is fetched
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple, cast

import rocksdict

from streams.profile.bag import Moment
from streams.profile.databases import items_in
from streams.profile.rows import Changes, decode_floor, is_header, prefix_of
from streams.profile.scratch import reported, scratch_database
from streams.rollout.held import Held, decode_held
from streams.settings import Settings

_ROW, _WANTED, _CODE, _FETCH = b"r", b"u", b"c", b"f"
AT_ONCE = 512  # rows between two writes, and between two turns of the event loop
_DIGEST = 16  # bytes: two of a billion URLs have the same with a probability of 1e-21


class Row(NamedTuple):
    """A row above the floor of its user."""

    key: bytes
    user_id: str
    held: Held


def batched(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The same rows, some at a time."""
    some = iter(rows)
    while batch := list(islice(some, AT_ONCE)):
        yield batch


def digest(url: str) -> bytes:
    """What stands for a URL in a key."""
    return blake2b(url.encode(), digest_size=_DIGEST).digest()


class Ledger:
    """Rows, URLs and codes. Its methods raise StateError where RocksDB reports a failure."""

    def __init__(self, database: rocksdict.Rdict, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def write(self, rows: Changes) -> None:
        """Keep what matters of rows; None removes a row."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows.items():
            if value is None:
                batch.delete(_ROW + key)
            else:
                batch.put(_ROW + key, value)
        self._write(batch)

    def rows(self) -> Iterator[Row]:
        """The rows above the floors, user by user."""
        prefix, user_id, floor = b"", "", cast("Moment | None", None)
        for name, value in self._items(_ROW):
            key = name[1:]
            if not prefix or not key.startswith(prefix):  # a header comes before the slots of its user
                prefix = prefix_of(key)
                user_id, floor = prefix[2:].decode(), None
            if is_header(key):
                floor = decode_floor(value)
                continue
            found = decode_held(value)
            if floor is None or found.moment > floor:
                yield Row(key, user_id, found)

    def row(self, key: bytes) -> Held | None:
        """What is kept of one row."""
        found = self._get(_ROW + key)
        return None if found is None else decode_held(found)

    def want(self, urls: Iterable[str]) -> None:
        """Note that the codes of these pictures are wanted."""
        self._put((_WANTED + digest(url), b"") for url in urls)

    def wanted(self, url: str) -> bool:
        """Whether the code of the picture is wanted."""
        return self._get(_WANTED + digest(url)) is not None

    def put_codes(self, codes: Iterable[tuple[str, bytes | None]]) -> None:
        """Keep codes by URL; None removes one."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for url, code in codes:
            if code is None:
                batch.delete(_CODE + digest(url))
            else:
                batch.put(_CODE + digest(url), code)
        self._write(batch)

    def code(self, url: str) -> bytes | None:
        """The code of the picture at a URL."""
        return self._get(_CODE + digest(url))

    def fetch_later(self, rows: Iterable[Row]) -> None:
        """Note that rows wait for their pictures."""
        self._put((_FETCH + digest(row.held.image_url) + row.key, b"") for row in rows)

    def pictures_to_fetch(self) -> int:
        """Number of pictures that rows wait for."""
        return sum(1 for _ in self.to_fetch())

    def to_fetch(self) -> Iterator[tuple[bytes, str]]:
        """Digest and URL of each picture that rows wait for."""
        for number, names in groupby((name for name, _ in self._items(_FETCH)), key=_digest_of):
            found = self.row(_key_of(next(names)))
            if found is not None:
                yield number, found.image_url

    def waiting(self, number: bytes) -> Iterator[Row]:
        """The rows that wait for the picture with this digest, without those that have a code meanwhile or were erased."""
        for name, _ in self._items(_FETCH + number):
            key = _key_of(name)
            found = self.row(key)
            if found is not None and found.lacks:
                yield Row(key, prefix_of(key)[2:].decode(), found)

    def _put(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            batch.put(key, value)
        self._write(batch)

    def _write(self, batch: rocksdict.WriteBatch) -> None:
        if not batch.is_empty():
            with reported(self._folder):
                self._database.write(batch)

    def _get(self, key: bytes) -> bytes | None:
        with reported(self._folder):
            return cast("bytes | None", self._database.get(key))

    def _items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        bound = rocksdict.ReadOptions()
        bound.set_iterate_upper_bound(_end(prefix))
        with reported(self._folder):
            yield from items_in(self._database, from_key=prefix, read_opt=bound)


def _end(prefix: bytes) -> bytes:
    """The first key behind all keys that start with a prefix, whose first byte is a letter."""
    number = int.from_bytes(prefix, "big") + 1
    return number.to_bytes(len(prefix), "big")


def _digest_of(name: bytes) -> bytes:
    return name[1 : 1 + _DIGEST]


def _key_of(name: bytes) -> bytes:
    return name[1 + _DIGEST :]


@contextmanager
def open_ledger(settings: Settings, command: str) -> Generator[Ledger]:
    """An empty ledger for a command, in the data folder. It is removed at the end, or by the next run after a kill.

    Raises:
        DataFolderError: another process runs this command, or the folder cannot be written.
        StateError: the disk does not permit it.
    """
    advice = f"`tastestream rollout {command}` is running there: wait until it has ended, or stop it"
    with scratch_database(settings.state_dir / "rollout", command, advice) as (database, folder):
        yield Ledger(database, folder)
