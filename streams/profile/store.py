"""The rows of the bags on disk: one RocksDB database per partition, as a Faust store.

It adds three things to Faust's own store: a prefix scan, an atomic write of rows with their changelog offset, and one memory
limit for all partitions. Not for: deciding what to write (`rows.py`), or the changelog topic (`table.py`).

Invariant: the database of a partition holds at least its changelog up to the stored offset, merged (`changelog.py`). During a
recovery it may be ahead of the offset. Rows are written only after the broker has acknowledged them, so a worker that dies is
never ahead of what another worker can recover.
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
from typing_extensions import override

from streams.exceptions import StateError
from streams.profile.rows import Changes, prefix_of

logger = get_logger(__name__)

# No user's key starts like this: a user id has at least one byte, so its length is not zero.
OFFSET_KEY = b"\x00\x00offset"
TOPIC_KEY = b"\x00\x00topic"  # id of the changelog topic that the offset belongs to; none if the broker has no ids
OWN_KEYS = frozenset({OFFSET_KEY, TOPIC_KEY})  # keys that are no rows: no user id is empty
_PREFIX_END = b"\x02"  # one above the last byte that follows a user's prefix


class RocksDBMemory:
    """A memory limit for all databases of a process: one block cache of `size` bytes, of which write buffers take up to half."""

    def __init__(self, size: int) -> None:
        self._cache = rocksdict.Cache(size)
        self._buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(size // 2, False, self._cache)

    def open(self, path: Path) -> rocksdict.Rdict:
        """Open or create the database at `path`."""
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)  # otherwise they are outside the limit
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
    """The databases of the assigned partitions, and Faust's interface to them.

    `row`, `scan`, `last_offset` and `write` raise KeyError for a partition that is not assigned to this worker, and StateError
    when RocksDB reports a failure.
    """

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    def __init__(
        self, *args: Any, folder: Path, memory: RocksDBMemory, closed: Callable[[int], None], **kwargs: Any
    ) -> None:
        """Keep the databases under `folder`. `closed` is called with each partition whose database was closed or dropped."""
        super().__init__(*args, **kwargs)
        self._closed = closed
        self._folder = folder
        self._memory = memory
        self._databases: dict[int, rocksdict.Rdict] = {}

    # -- what the table calls

    def open(self, partition: int) -> int:
        """Open or create the database of a partition.

        A damaged database is dropped with a log line, and recovered from the changelog topic.

        Returns:
            The changelog offset that it holds; -1 if it is new.

        Raises:
            StateError: RocksDB reports another failure.
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
                    logger.warning("%s is damaged: dropping it and recovering from the changelog: %s", path, error)
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

    def users_after(self, partition: int, prefix: bytes, least: int) -> list[tuple[bytes, bytes]]:
        """The next rows in key order: all rows of as many users as it takes for `least` rows.

        Args:
            partition: of the rows.
            prefix: of the user before them; b"" for the first.
            least: number of rows. Fewer are returned at the end, and none behind it.
        """
        rows: list[tuple[bytes, bytes]] = []
        with self._used(partition):
            for key, value in items_in(self._databases[partition], from_key=prefix + _PREFIX_END if prefix else b""):
                if len(rows) >= least and prefix_of(key) != prefix_of(rows[-1][0]):
                    break
                if key not in OWN_KEYS:
                    rows.append((key, value))
        return rows

    def last_offset(self, partition: int) -> int:
        """The changelog offset that an open database holds; -1 if it is new."""
        with self._used(partition):
            return offset_in(self._databases[partition])

    def topic_id(self, partition: int) -> str:
        """The id of the changelog topic that an open database belongs to; "" if it names none."""
        with self._used(partition):
            return cast(bytes, self._databases[partition].get(TOPIC_KEY) or b"").decode()

    def write_topic_id(self, partition: int, topic_id: str) -> None:
        """Name the changelog topic that a database belongs to."""
        with self._used(partition):
            self._databases[partition].put(TOPIC_KEY, topic_id.encode())

    def write(self, partition: int, rows: Changes, offset: int | None = None) -> None:
        """Write rows and, unless it is None, the changelog offset that the database holds after them, in one atomic batch."""
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
        """Turn RocksDB's failures into StateError; drop a damaged database, so that the next start recovers it."""
        path = partition_path(self._folder, partition)
        with _reported(path):
            try:
                yield
            except Exception as error:  # re-raised as StateError by `_reported`
                if _is_damage(error):
                    logger.warning("%s is damaged: dropping it; the next start recovers it from the changelog", path)
                    self.drop(partition)
                raise

    # -- what Faust calls

    @override
    def persisted_offset(self, tp: TP) -> int | None:
        """Return None: the table recovers by itself, and Faust has nothing to read."""
        return None

    @override
    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        raise NotImplementedError("an offset is written together with its rows")

    @override
    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Do nothing: the table recovers by itself, and Faust has read nothing."""

    @override
    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        changelog = self.table.changelog_topic.topics
        for tp in revoked:
            if tp.topic in changelog:
                self._close(tp.partition)

    @override
    async def backup_partition(self, tp: TP | int, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        raise NotImplementedError("the changelog topic is the backup")

    @override
    def restore_backup(self, tp: TP | int, latest: bool = True, backup_id: int = 0) -> None:
        raise NotImplementedError("the changelog topic is the backup")

    @override
    def reset_state(self) -> None:
        raise NotImplementedError("delete the partition's folder while the worker is down")

    @override
    async def on_stop(self) -> None:
        for partition in list(self._databases):
            self._close(partition)

    def _close(self, partition: int) -> None:
        database = self._databases.pop(partition, None)
        if database is not None:
            database.close()
            self._closed(partition)
            logger.info("closed the bags of partition %s", partition)

    # -- the mapping that Faust's table interface requires: reads from all open partitions, no writes

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        for database in self._databases.values():
            yield from ((key, value) for key, value in items_in(database) if key not in OWN_KEYS)

    @override
    def _get(self, key: bytes) -> bytes | None:
        return next((value for database in self._databases.values() if (value := database.get(key)) is not None), None)

    @override
    def _iterkeys(self) -> Iterator[bytes]:
        return (key for key, _ in self._rows())

    @override
    def _itervalues(self) -> Iterator[bytes]:
        return (value for _, value in self._rows())

    @override
    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        return self._rows()

    @override
    def _size(self) -> int:
        return sum(1 for _ in self._rows())

    @override
    def _contains(self, key: bytes) -> bool:
        return self._get(key) is not None

    @override
    def _set(self, key: bytes, value: bytes | None) -> None:
        raise TypeError("write rows with BagTable.write, which knows their partition and waits for their changelog")

    @override
    def _del(self, key: bytes) -> None:
        self._set(key, None)

    @override
    def _clear(self) -> None:
        self._set(b"", None)


def items_in(
    database: rocksdict.Rdict, *, from_key: bytes = b"", read_opt: rocksdict.ReadOptions | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a database in raw mode, where keys and values are bytes.

    Raises RocksDB's failures. rocksdict's own `items` ends early at a damaged block instead.
    """
    rows = database.iter(read_opt)
    rows.seek(from_key)
    while rows.valid():
        yield rows.key(), rows.value()
        rows.next()
    rows.status()


def offset_in(database: rocksdict.Rdict) -> int:
    """The changelog offset that a database holds; -1 if it is new."""
    offset = database.get(OFFSET_KEY)
    return -1 if offset is None else int(offset)


def _is_damage(error: Exception) -> bool:
    return str(error).startswith(("Corruption", "IO error: No such file", "Invalid argument"))


@contextmanager
def _reported(path: Path) -> Generator[None]:
    """Turn the bare Exception that rocksdict raises for RocksDB's failures into StateError."""
    try:
        yield
    except KeyError:
        raise
    except Exception as error:
        raise StateError(
            f"the bags in {path} cannot be read or written: {error}; uncommitted events are delivered again after a restart"
        ) from error


def partition_path(folder: Path, partition: int) -> Path:
    """The folder of a partition's database under `folder`."""
    return folder / f"partition-{partition}"


def drop_partition(folder: Path, partition: int) -> None:
    """Delete the database of a partition. The changelog topic still has its rows."""
    shutil.rmtree(partition_path(folder, partition), ignore_errors=True)
