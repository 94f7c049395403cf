"""The rows of the bags on disk: one RocksDB for each partition, as a store of Faust's.

What it adds to Faust's own store: a prefix scan, a write that carries the changelog offset it stands for in one atomic
batch, and memory that is bounded for all partitions together. Not for: deciding what to write (`rows.py`) or the changelog
topic (`table.py`).

Invariant: the database of a partition holds exactly the changelog of that partition up to its stored offset. Rows are
written here only after the broker has acknowledged them, so a worker that dies is never ahead of what others can recover.
"""

import asyncio
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import rocksdict
from faust.stores.base import SerializedStore
from faust.types import TP, EventT
from mode.utils.logging import get_logger

from streams.exceptions import DataFolderError
from streams.profile.rows import Changes

logger = get_logger(__name__)

# No user's key starts so: a user id has at least one byte, so its length is not zero.
OFFSET_KEY = b"\x00\x00offset"
_PREFIX_END = b"\x02"  # one above the last byte that follows a user's prefix


class RocksDBMemory:
    """`size` bytes for all databases of a process together: one block cache, out of which the write buffers take up to half."""

    def __init__(self, size: int) -> None:
        self._cache = rocksdict.Cache(size)
        self._buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(size // 2, False, self._cache)

    def open(self, path: Path) -> rocksdict.Rdict:
        """Open or create the database at `path`."""
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)  # else they live outside the budget
        table.set_bloom_filter(10, False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(4 * 1024**2)
        options.set_max_open_files(64)
        options.set_keep_log_file_num(2)
        options.set_max_total_wal_size(16 * 1024**2)
        return rocksdict.Rdict(str(path), options=options)


class BagStore(SerializedStore[bytes, bytes]):
    """Faust's view of the databases. Faust has them opened, recovered and closed; the worker reads and writes rows.

    `scan`, `last_offset` and `write` raise KeyError for a partition that is not open: one that is not assigned to this worker.
    """

    def __init__(self, *args: Any, folder: Path, memory: RocksDBMemory, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder = folder
        self._memory = memory
        self._databases: dict[int, rocksdict.Rdict] = {}

    # -- what the worker calls

    def scan(self, partition: int, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All rows whose key starts with `prefix`, in key order."""
        bound = rocksdict.ReadOptions()
        bound.set_iterate_upper_bound(prefix + _PREFIX_END)
        return list(_items(self._databases[partition], from_key=prefix, read_opt=bound))

    def last_offset(self, partition: int) -> int:
        """The changelog offset that an open database stands for; -1 when it is new."""
        return _offset_in(self._databases[partition])

    def write(self, partition: int, rows: Changes, offset: int) -> None:
        """Write rows and the changelog offset of the last of them, all or nothing."""
        self._write(self._databases[partition], rows.items(), offset)

    # -- what Faust calls

    def persisted_offset(self, tp: TP) -> int:
        """The changelog offset that the database stands for; -1 when it is new.

        Not None, for which Faust would take the offset that it remembers from an earlier assignment.
        """
        return _offset_in(self._database(tp.partition))

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        self._database(tp.partition).put(OFFSET_KEY, b"%d" % offset)

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Recovery: rows as they come from the changelog topic.

        Rows that Faust kept over a rebalance or a stop are left out, since others may be missing before them; they are read
        again. Faust would log an error that is raised here and go on, so it ends the worker.
        """
        try:
            self._apply(event for event in batch if self._is_current(event))
        except Exception as error:
            asyncio.ensure_future(self.app.crash(error))  # noqa: RUF006 -- it ends the process
            raise

    def _is_current(self, event: EventT[Any]) -> bool:
        app: Any = self.app
        return app.flow_control.is_active() and event.message.generation_id == app.consumer_generation_id

    def _apply(self, batch: Iterable[EventT[Any]]) -> None:
        partitions: dict[int, dict[bytes, bytes | None]] = {}
        offsets: dict[int, int] = {}
        for event in batch:
            message = event.message
            partitions.setdefault(message.partition, {})[cast(bytes, message.key)] = message.value
            offsets[message.partition] = message.offset
        for partition, rows in partitions.items():
            self._write(self._databases[partition], rows.items(), offsets[partition])

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        changelog = self.table.changelog_topic.topics
        for tp in revoked:
            if tp.topic in changelog:
                self._close(tp.partition)

    async def backup_partition(self, tp: TP | int, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        raise NotImplementedError("the changelog topic is the backup")

    def restore_backup(self, tp: TP | int, latest: bool = True, backup_id: int = 0) -> None:
        raise NotImplementedError("the changelog topic is the backup")

    def reset_state(self) -> None:
        raise NotImplementedError("delete the partition's folder while the worker is down")

    async def on_stop(self) -> None:
        for partition in list(self._databases):
            self._close(partition)

    # -- the databases

    def _write(self, database: rocksdict.Rdict, rows: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(OFFSET_KEY, b"%d" % offset)
        database.write(batch)

    def _database(self, partition: int) -> rocksdict.Rdict:
        database = self._databases.get(partition)
        if database is None:
            path = partition_path(self._folder, partition)
            path.parent.mkdir(parents=True, exist_ok=True)
            database = self._databases[partition] = self._memory.open(path)
        return database

    def _close(self, partition: int) -> None:
        database = self._databases.pop(partition, None)
        if database is not None:
            database.close()
            logger.info("closed the bags of partition %s", partition)

    # -- the mapping that Faust's table interface asks for: reads over all open partitions, no writes

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        for database in self._databases.values():
            yield from ((key, value) for key, value in _items(database) if key != OFFSET_KEY)

    def _get(self, key: bytes) -> bytes | None:
        return next((value for database in self._databases.values() if (value := database.get(key)) is not None), None)

    def _iterkeys(self) -> Iterator[bytes]:
        return (key for key, _ in self._rows())

    def _itervalues(self) -> Iterator[bytes]:
        return (value for _, value in self._rows())

    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        return self._rows()

    def _size(self) -> int:
        return sum(1 for _ in self._rows())

    def _contains(self, key: bytes) -> bool:
        return self._get(key) is not None

    def _set(self, key: bytes, value: bytes | None) -> None:
        raise TypeError("rows are written with BagTable.write, which knows their partition and awaits their changelog")

    def _del(self, key: bytes) -> None:
        self._set(key, None)

    def _clear(self) -> None:
        self._set(b"", None)


def _items(database: rocksdict.Rdict, **options: Any) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a database in raw mode, whose keys and values are always bytes."""
    return cast(Iterator[tuple[bytes, bytes]], database.items(**options))


def _offset_in(database: rocksdict.Rdict) -> int:
    offset = database.get(OFFSET_KEY)
    return -1 if offset is None else int(offset)


def partition_path(folder: Path, partition: int) -> Path:
    """Where the database of a partition lies under the worker's data folder."""
    return folder / f"partition-{partition}"


def partitions_on_disk(folder: Path) -> list[int]:
    """The partitions that have a database under `folder`."""
    return sorted(int(path.name.removeprefix("partition-")) for path in folder.glob("partition-*"))


@contextmanager
def closed_partition(folder: Path, partition: int) -> Generator[rocksdict.Rdict]:
    """The database of a partition that no worker has open, to read from."""
    options, access = rocksdict.Options(raw_mode=True), rocksdict.AccessType.read_only()
    database = rocksdict.Rdict(str(partition_path(folder, partition)), options=options, access_type=access)
    try:
        yield database
    finally:
        database.close()


def closed_offset(folder: Path, partition: int) -> int:
    """The changelog offset that the database of a partition stands for; -1 when it is new.

    Raises DataFolderError when the database cannot be read.
    """
    try:
        with closed_partition(folder, partition) as database:
            return _offset_in(database)
    except Exception as error:  # rocksdict raises bare Exception for whatever RocksDB reports
        raise DataFolderError(f"{partition_path(folder, partition)} cannot be read: {error}") from error


def closed_rows(folder: Path, partition: int) -> list[tuple[bytes, bytes]]:
    """All rows of a partition."""
    with closed_partition(folder, partition) as database:
        return [(key, value) for key, value in _items(database) if key != OFFSET_KEY]


def drop_partition(folder: Path, partition: int) -> None:
    """Delete the database of a partition; the changelog topic brings its rows back."""
    shutil.rmtree(partition_path(folder, partition))
