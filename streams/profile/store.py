"""The rows of the bags on disk: one RocksDB for each partition, as a store of Faust's.

What it adds to Faust's own store: a prefix scan, a write that carries the changelog offset it stands for in one atomic
batch, and memory that is bounded for all partitions together. Not for: deciding what to write (`rows.py`) or the changelog
topic (`table.py`).

Invariant: the database of a partition holds at least the changelog of that partition up to its stored offset, its rows joined
(`changelog.py`); a recovery that is under way is ahead of the offset. Rows are written here only after the broker has
acknowledged them, so a worker that dies is never ahead of what others can recover.
"""

import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import rocksdict
from faust.stores.base import SerializedStore
from faust.types import TP, EventT
from mode.utils.logging import get_logger

from streams.exceptions import StateError
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
    """The databases of the partitions that are assigned, and Faust's view of them.

    `row`, `scan`, `last_offset` and `write` raise KeyError for a partition that is not open: one that is not assigned to this
    worker; and StateError for what RocksDB reports.
    """

    logger = get_logger("faust.tastestream")  # for what Faust says of itself, at every start and stop

    def __init__(
        self, *args: Any, folder: Path, memory: RocksDBMemory, closed: Callable[[int], None], **kwargs: Any
    ) -> None:
        """closed: told of each partition whose database was closed or dropped."""
        super().__init__(*args, **kwargs)
        self._closed = closed
        self._folder = folder
        self._memory = memory
        self._databases: dict[int, rocksdict.Rdict] = {}

    # -- what the table calls

    def open(self, partition: int) -> int:
        """Open or create the database of a partition; gives the changelog offset that it stands for, -1 when it is new.

        A damaged one is dropped, which the log says: the changelog topic brings its rows back. Raises StateError.
        """
        database = self._databases.get(partition)
        if database is None:
            path = partition_path(self._folder, partition)
            with _reported(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    database = self._memory.open(path)
                except Exception as error:
                    if not _is_damage(error):
                        raise
                    logger.warning("%s is damaged and dropped; the changelog brings it back: %s", path, error)
                    drop_partition(self._folder, partition)
                    database = self._memory.open(path)
            self._databases[partition] = database
        with self._used(partition):
            return offset_in(database)

    def drop(self, partition: int) -> None:
        """Close and delete the database of a partition."""
        self._close(partition)
        drop_partition(self._folder, partition)

    def row(self, partition: int, key: bytes) -> bytes | None:
        """The row under `key`."""
        with self._used(partition):
            return cast(bytes | None, self._databases[partition].get(key))

    def scan(self, partition: int, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All rows whose key starts with `prefix`, in key order."""
        bound = rocksdict.ReadOptions()
        bound.set_iterate_upper_bound(prefix + _PREFIX_END)
        with self._used(partition):
            return list(items_in(self._databases[partition], from_key=prefix, read_opt=bound))

    def last_offset(self, partition: int) -> int:
        """The changelog offset that an open database stands for; -1 when it is new."""
        with self._used(partition):
            return offset_in(self._databases[partition])

    def write(self, partition: int, rows: Changes, offset: int | None = None) -> None:
        """Write rows and, unless it is None, the changelog offset that they bring the database to; all or nothing."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if offset is not None:
            batch.put(OFFSET_KEY, b"%d" % offset)
        with self._used(partition):
            self._databases[partition].write(batch)

    @contextmanager
    def _used(self, partition: int) -> Generator[None]:
        """What RocksDB reports becomes a StateError; a damaged database is dropped, so that the next start recovers it."""
        path = partition_path(self._folder, partition)
        with _reported(path):
            try:
                yield
            except Exception as error:  # whatever it is goes on to `_reported`
                if _is_damage(error):
                    logger.warning("%s is damaged and dropped; the changelog brings it back", path)
                    self.drop(partition)
                raise

    # -- what Faust calls

    def persisted_offset(self, tp: TP) -> int | None:
        """Nothing: the table recovers by itself, and Faust has nothing to read."""
        return None

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        raise NotImplementedError("an offset is written together with its rows")

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Nothing: the table recovers by itself, and Faust has read nothing."""

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

    def _close(self, partition: int) -> None:
        database = self._databases.pop(partition, None)
        if database is not None:
            database.close()
            self._closed(partition)
            logger.info("closed the bags of partition %s", partition)

    # -- the mapping that Faust's table interface asks for: reads over all open partitions, no writes

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        for database in self._databases.values():
            yield from ((key, value) for key, value in items_in(database) if key != OFFSET_KEY)

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


def items_in(
    database: rocksdict.Rdict, *, from_key: bytes = b"", read_opt: rocksdict.ReadOptions | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a database in raw mode, whose keys and values are always bytes.

    Raises what RocksDB reports. rocksdict's own `items` does not: where it meets a damaged block, it ends early.
    """
    rows = database.iter(read_opt)
    rows.seek(from_key)
    while rows.valid():
        yield rows.key(), rows.value()
        rows.next()
    rows.status()


def offset_in(database: rocksdict.Rdict) -> int:
    """The changelog offset that a database stands for; -1 when it is new."""
    offset = database.get(OFFSET_KEY)
    return -1 if offset is None else int(offset)


def _is_damage(error: Exception) -> bool:
    return str(error).startswith(("Corruption", "IO error: No such file", "Invalid argument"))


@contextmanager
def _reported(path: Path) -> Generator[None]:
    """rocksdict raises bare Exception for whatever RocksDB reports."""
    try:
        yield
    except KeyError:
        raise
    except Exception as error:
        raise StateError(
            f"the bags in {path} cannot be read or written: {error}; what is not committed is delivered again after a restart"
        ) from error


def partition_path(folder: Path, partition: int) -> Path:
    """Where the database of a partition lies under the worker's data folder."""
    return folder / f"partition-{partition}"


def drop_partition(folder: Path, partition: int) -> None:
    """Delete the database of a partition; the changelog topic brings its rows back."""
    shutil.rmtree(partition_path(folder, partition), ignore_errors=True)
