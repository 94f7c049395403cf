"""Records of the interactions topic as a source of data sets, kept in a file of its own while a data set is prepared.

What a person did before they asked to be forgotten is left out, wherever on the topic the erasure stands, as the fold has it: an
older event that comes late does not bring them back. An event that was sent again counts once. The picture of an item is the
address in its newest event.
"""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from offline_training.datasets.records import DatasetError, DatasetEvent, Dropped, Item
from offline_training.datasets.tables import Tables
from streams import messages
from streams.exceptions import MessageError

TABLES = """
CREATE TABLE events (
    partition INTEGER, offset INTEGER, event BLOB UNIQUE, user TEXT, item TEXT, type TEXT, time INTEGER, image TEXT,
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
CREATE TABLE erasures (user TEXT PRIMARY KEY, time INTEGER) WITHOUT ROWID;
"""
OLDER_THAN_ERASURE = "SELECT 1 FROM erasures WHERE erasures.user = events.user AND events.time <= erasures.time"
CACHE = 65_536  # KiB of the file in memory at most
WEB = ("http://", "https://")  # all else would be taken for a file of this machine


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Recorded:
    """A `records.Source`. A context manager. The file has no name once it is open: nothing is left of it, whatever ends the process.

    All of its calls raise DatasetError where the disk does not take what they need.

    First `add` all records, then `forget`, then read. The order of the topic's records decides nothing but which of two resends counts.
    """

    def __init__(self, path: Path, item_table: Path | None, *, now: float, max_future: float) -> None:
        """path: of the file, which is replaced. item_table: items and their categories, as `tables` reads them.

        now, max_future: seconds; an event that is further ahead is none, as the embed worker has it.

        Raises DatasetError where the file cannot be made.
        """
        self._path = path
        self._item_table = item_table
        self._now = now
        self._max_future = max_future
        self._counted = Dropped()
        self._newest: dict[int, int] = {}  # time by partition
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._rows = sqlite3.connect(path, isolation_level=None)
            self._rows.executescript(
                f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE}; {TABLES} BEGIN;"
            )
            path.unlink()
        except (OSError, sqlite3.Error) as error:
            raise DatasetError(f"{path} cannot be written: {error}: choose another --out") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._rows.close()

    def add(self, value: bytes | None, place: Place, *, wanted: bool) -> None:
        """Take a record. Of one that is not wanted counts only whether it is an erasure."""
        if not wanted and not may_erase(value):
            return
        try:
            event = messages.parse_interaction(value, now=self._now, max_future=self._max_future)
        except MessageError as error:
            if wanted:
                self._counted.add(error.reason, f"{place}: {error}")
            return
        if event.type == "erase":
            self._erase(event.user_id, event.timestamp)
            if wanted:
                self._counted.add("erasure", place)
        elif wanted and self._insert(event, place):
            before = self._newest.get(place.partition, event.timestamp)
            if event.timestamp < before:
                self._counted.note("event_after_a_later_one", place)
            self._newest[place.partition] = max(before, event.timestamp)
        elif wanted:
            self._counted.add("sent_again", place)

    def _erase(self, user: str, time: int) -> None:
        with self._on_disk():
            self._rows.execute(
                "INSERT INTO erasures VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET time = max(time, excluded.time)",
                (user, time),
            )

    def _insert(self, event: messages.Interaction, place: Place) -> bool:
        """Whether it is there for the first time."""
        known = blake2b(f"{event.user_id}\0{event.event_id}".encode(), digest_size=16).digest()
        told = (known, event.user_id, event.item_id, event.type, event.timestamp, event.image_url)
        with self._on_disk():
            found = self._rows.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event) DO NOTHING",
                (place.partition, place.offset, *told),
            )
        return found.rowcount > 0

    def forget(self) -> None:
        """Leave out what stands before an erasure; no example says whose it was. Raises DatasetError when no event is left."""
        with self._on_disk():
            forgotten = self._rows.execute(f"DELETE FROM events WHERE EXISTS ({OLDER_THAN_ERASURE})").rowcount  # noqa: S608
        if forgotten:
            self._counted.add("event_before_erasure", "of a user who asked to be forgotten", forgotten)
        if self._rows.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None:
            raise DatasetError(f"no event was sent in this time; left out: {self._counted.explained()}")

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        """In the order of time; those of one time as they stand on the topic."""
        for row in self._selected("SELECT user, item, type, time FROM events ORDER BY time, partition, offset"):
            if row[2] == "return":
                dropped.note("return", f"{row[0]} {row[1]}")
            yield DatasetEvent(*row)

    def items(self, dropped: Dropped) -> Iterator[Item]:
        """Those of the table, then others that events are about; the picture is that of the newest event, or else the table's.

        `dropped` is told here what was left out of the topic, too.
        """
        dropped.include(self._counted)
        pictures = dict(self._pictures(dropped))
        if self._item_table is not None:
            for item in Tables(None, self._item_table, self._item_table.parent).items(dropped):
                yield item._replace(picture=pictures.pop(item.item, "") or item.picture)
        for item, picture in pictures.items():
            yield Item(item, picture, ())

    def _pictures(self, dropped: Dropped) -> Iterator[tuple[str, str]]:
        """Each item of an event with the address of its newest picture, "" for none."""
        rows = self._selected("SELECT item, image FROM events ORDER BY item, time, partition, offset")
        for item, events in groupby(rows, itemgetter(0)):
            newest, changed = "", False
            for _, image in events:
                if not image:
                    continue
                if not image.lower().startswith(WEB):
                    dropped.add("picture_that_is_no_web_address", f"{item}: {image}")
                    continue
                changed = changed or newest not in {"", image}
                newest = image
            if changed:
                dropped.note("picture_changed", item)
            yield item, newest

    def _selected(self, query: str) -> Iterator[Any]:
        with self._on_disk():
            yield from self._rows.execute(query)

    @contextmanager
    def _on_disk(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DatasetError(
                f"{self._path} cannot be written: {error}: make room, or choose another --out"
            ) from error


def may_erase(value: bytes | None) -> bool:
    """Whether a record may be an erasure: a quick look, since all of the topic is looked through for them."""
    return value is not None and (b"erase" in value or b"\\u" in value)
