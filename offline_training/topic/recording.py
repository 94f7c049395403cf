"""The events of the interactions topic as a source of a data set. A temporary file holds them while the data set is prepared.

Events of a user up to that user's erasure are left out, wherever the erasure is on the topic. The fold of the bag does the same:
a late event that is older than the erasure does not bring the user back. An event that was sent twice counts once. The picture
of an item is the URL in its newest event.
"""

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from offline_training.datasets.formats.tables import Tables
from offline_training.datasets.ids import same_ids
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem, Dropped
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
CACHE = 65_536  # KiB of the file that SQLite keeps in memory


class RecordPosition(NamedTuple):
    """The position of a record: topic, partition and offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class TopicRecording:
    """A `DatasetSource` of the records of a topic. A context manager.

    Call `add` with all records, then `forget`, then read. The order of the records only decides which of two duplicates counts.

    The file is unlinked as soon as it is open, so a killed process leaves no user's events behind. Every method raises DatasetError
    when the disk is full.
    """

    def __init__(
        self,
        path: Path,
        item_table: Path | None,
        *,
        now: float,
        max_future: float,
        earliest: int = messages.EARLIEST,
        encoding: str | None = None,
    ) -> None:
        """Create the file.

        Args:
            path: the file, which is replaced.
            item_table: a table of items and their categories, in the format of `tables`.
            now: the time now, seconds since the epoch.
            max_future: seconds that an event may be ahead of `now`. A later event is invalid, as it is for the embed worker.
            earliest: least timestamp of an event, milliseconds since the epoch. An earlier event is invalid.
            encoding: of the table of items, if it is CSV; None: UTF-8, or what its first bytes say.

        Raises:
            DatasetError: the file cannot be created.
        """
        self._path = path
        self._item_table = item_table
        self._encoding = encoding
        self._now = now
        self._max_future = max_future
        self._earliest = earliest
        self._counted = Dropped()
        self._newest: dict[int, int] = {}  # newest event time by partition
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

    def add(self, value: bytes | None, position: RecordPosition, *, wanted: bool) -> None:
        """Add a record. A record that is not wanted is only added if it is an erasure."""
        if not wanted and not may_erase(value):
            return
        try:
            event = messages.parse_interaction(
                value, now=self._now, max_future=self._max_future, earliest=self._earliest
            )
        except MessageError as error:
            if wanted:
                self._counted.add(error.reason, f"{position}: {error}")
            return
        if event.type == "erase":
            self._erase(event.user_id, event.timestamp)
            if wanted:
                self._counted.add("erasure", position)
        elif wanted and self._insert(event, position):
            before = self._newest.get(position.partition, event.timestamp)
            if event.timestamp < before:
                self._counted.note("event_put_in_time_order", position)
            self._newest[position.partition] = max(before, event.timestamp)
        elif wanted:
            self._counted.add("sent_again", position)

    def leave_out(self, reason: str, problem: str, position: RecordPosition, records: int) -> None:
        """Count records that cannot be read, up to `position`. They count whenever they were sent: one may be an erasure."""
        self._counted.add(reason, f"{position}: {problem}", records)

    def _erase(self, user: str, time: int) -> None:
        with self._on_disk():
            self._rows.execute(
                "INSERT INTO erasures VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET time = max(time, excluded.time)",
                (user, time),
            )

    def _insert(self, event: messages.Interaction, position: RecordPosition) -> bool:
        """Insert an event; whether it is new."""
        event_key = blake2b(f"{event.user_id}\0{event.event_id}".encode(), digest_size=16).digest()
        columns = (event_key, event.user_id, event.item_id, event.type, event.timestamp, event.image_url)
        with self._on_disk():
            found = self._rows.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event) DO NOTHING",
                (position.partition, position.offset, *columns),
            )
        return found.rowcount > 0

    def forget(self) -> None:
        """Delete the events that an erasure covers. The example of this reason names no user.

        Raises:
            DatasetError: no event is left.
        """
        with self._on_disk():
            forgotten = self._rows.execute(f"DELETE FROM events WHERE EXISTS ({OLDER_THAN_ERASURE})").rowcount  # noqa: S608
        if forgotten:
            self._counted.add("event_before_erasure", "of an erased user", forgotten)
        if self._rows.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None:
            raise DatasetError(f"no event was sent between --from and --until; left out: {self._counted.explained()}")

    @property
    def folders(self) -> Sequence[Path]:
        return () if self._item_table is None else (self._item_table.parent,)

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        """Yield the events in time order; events of one time in the order of the topic."""
        for row in self._selected("SELECT user, item, type, time FROM events ORDER BY time, partition, offset"):
            if row[2] == "return":
                dropped.note("return", f"{row[0]} {row[1]}")
            yield DatasetEvent(*row)

    def items(self, dropped: Dropped) -> Iterator[DatasetItem]:
        """Yield the items of the table, then the other items that have an event.

        The picture of an item is that of its newest event, or else the table's. `dropped` also receives the counts of the records
        that `add` and `forget` left out.
        """
        dropped.include(self._counted)
        pictures = dict(self._pictures(dropped))
        described: dict[str, DatasetItem] = {}
        if self._item_table is not None:
            table = Tables(None, self._item_table, self._item_table.parent, encoding=self._encoding)
            for item in table.items(dropped):
                described.setdefault(item.item, item)
        means = same_ids(pictures, described)
        for item, in_table in means.items():
            found = described[in_table]
            described[in_table] = found._replace(picture=pictures[item] or found.picture)
        yield from described.values()
        yield from (DatasetItem(item, picture, ()) for item, picture in pictures.items() if item not in means)

    def _pictures(self, dropped: Dropped) -> Iterator[tuple[str, PictureRef | None]]:
        """Yield each item of an event with its newest picture."""
        rows = self._selected("SELECT item, image FROM events ORDER BY item, time, partition, offset")
        for item, events in groupby(rows, itemgetter(0)):
            newest: PictureRef | None = None
            changed = False
            for _, image in events:
                picture = PictureRef.parse(image)
                if picture is None:
                    continue
                if not picture.is_web_url:  # anybody can send events: a path would name a file of this machine
                    dropped.add("picture_that_is_no_web_address", f"{item}: {image}")
                    continue
                changed = changed or newest not in {None, picture}
                newest = picture
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
    """Whether a record may be an erasure. A quick test, since the whole topic is searched for erasures."""
    return value is not None and (b"erase" in value or b"\\u" in value)
