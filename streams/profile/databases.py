"""The rows of the bags on disk: one RocksDB database per partition, each with the changelog offset that it holds.

It has a prefix scan, an atomic write of rows with their changelog offset, and one memory limit for all partitions. Not for:
deciding what to write (`rows.py`), or reading the changelog topic. `store.py` makes a Faust store of it.

Invariant: the database of a partition holds at least its changelog up to the stored offset, merged (`changelog.py`). During a
recovery it may be ahead of the offset.
"""

import logging
import os
import shutil
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

import rocksdict

from streams.exceptions import StateError
from streams.metrics.rocksdb import watch_databases
from streams.profile.bag import Bag
from streams.profile.rows import Changes, prefix_of
from streams.settings.names import BAGS_TABLE, of_generation

logger = logging.getLogger(__name__)

# No user's key starts like this: a user id has at least one byte, so its length is not zero.
_OWN = b"\x00\x00"


def own_key(name: str) -> bytes:
    """The key of something that is of the database itself, and no row of a bag."""
    return _OWN + name.encode()


def is_own(key: bytes) -> bool:
    """Whether a key is an `own_key`."""
    return key.startswith(_OWN)


OFFSET_KEY = own_key("offset")
TOPIC_KEY = own_key("topic")  # id of the changelog topic that the offset belongs to; none if the broker has no ids
_PARTITION = "partition-"
_PREFIX_END = b"\x02"  # one above the last byte that follows a user's prefix


class Watcher(Protocol):
    """Is told what happens to the bags on disk, as it happens."""

    def opened(self, partition: int) -> None:
        """The bags of a partition are recovered: from now on `written` tells of each change."""

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """The disk holds other bags of some users. Slots that did not change may be left out of both."""

    def closed(self, partition: int) -> None:
        """The bags of a partition are there no longer, or change in another way."""


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
        # A list of files names the first and the last key of each. With each change of the files a new one takes its place, so
        # that the key of an erased user is gone with the file.
        options.set_max_manifest_file_size(1)
        # Without `column_families` an existing database keeps the options of its files, and has a cache of 8 MB of its own.
        return rocksdict.Rdict(str(path), options=options, column_families={"default": options})


class BagDatabases:
    """The databases of some partitions.

    `row`, `scan`, `last_offset` and `write` raise KeyError for a partition that is not open, and StateError when RocksDB
    reports a failure.
    """

    def __init__(self, folder: Path, memory: RocksDBMemory, closed: Callable[[int], object]) -> None:
        """Keep the databases under `folder`. `closed` is called with each partition whose database was closed or dropped."""
        self._closed = closed
        self._folder = folder
        self._memory = memory
        self._databases: dict[int, rocksdict.Rdict] = {}
        watch_databases("bags", lambda: list(self._databases.values()))

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions whose databases are open."""
        return frozenset(self._databases)

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
                    if not is_damage(error):
                        raise
                    logger.warning("%s is damaged: dropping it and recovering from the changelog: %s", path, error)
                    drop_partition(self._folder, partition)
                    database = self._memory.open(path)
            self._databases[partition] = database
        with self._used(partition):
            return offset_in(database)

    def open_for(self, partition: int, topic: str, end: int, topic_id: str) -> int:
        """Open the database of a partition for the changelog as the broker has it.

        A database that is ahead of the topic, or names another id, belongs to a topic that was deleted and created again. It is
        dropped.

        Args:
            partition: of the changelog.
            topic: its name.
            end: its end.
            topic_id: the id of the topic; "" if the broker has no ids.

        Returns:
            The changelog offset that the database holds; -1 if it is new.

        Raises:
            StateError: RocksDB reports a failure.
        """
        offset, found = self.open(partition), self.topic_id(partition)
        if offset >= end or (found and topic_id and found != topic_id):
            logger.warning(
                "partition %d: the bags on disk are at offset %d, but %s ends at %d: the topic was re-created; recovering from it",
                partition, offset, topic, end,
            )  # fmt: skip
            self.drop(partition)
            offset, found = self.open(partition), ""
        if topic_id and found != topic_id:
            self.write(partition, {TOPIC_KEY: topic_id.encode()})
        return offset

    def drop(self, partition: int) -> None:
        """Close and delete the database of a partition."""
        self.close(partition)
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
                if not is_own(key):
                    rows.append((key, value))
        return rows

    def last_offset(self, partition: int) -> int:
        """The changelog offset that an open database holds; -1 if it is new."""
        with self._used(partition):
            return offset_in(self._databases[partition])

    def topic_id(self, partition: int) -> str:
        """The id of the changelog topic that an open database belongs to; "" if it names none."""
        return (self.row(partition, TOPIC_KEY) or b"").decode()

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

    def compact(self, partition: int, prefixes: Collection[bytes] | None) -> None:
        """Rewrite the files that held rows of some users, so that what was deleted is gone from them. Any thread may call it.

        Args:
            partition: of the users.
            prefixes: of the users; None for all.

        Raises:
            StateError: RocksDB reports a failure, or `interrupt` was called.
        """
        options = rocksdict.CompactOptions()
        options.set_bottommost_level_compaction(rocksdict.BottommostLevelCompaction.force())
        database = self._databases[partition]
        with _reported(partition_path(self._folder, partition)):
            database.flush()  # the log of writes is deleted then
            for begin, end in [(None, None)] if prefixes is None else [(one, one + _PREFIX_END) for one in prefixes]:
                database.compact_range(begin, end, options)

    def flush(self, partition: int) -> None:
        """Write what is in memory to a file."""
        with self._used(partition):
            self._databases[partition].flush()

    def interrupt(self, partition: int) -> None:
        """End a `compact` that runs in another thread. Only `close` may follow."""
        if partition in self._databases:
            self._databases[partition].cancel_all_background(True)

    @contextmanager
    def _used(self, partition: int) -> Generator[None]:
        """Turn RocksDB's failures into StateError; drop a damaged database, so that the next start recovers it."""
        path = partition_path(self._folder, partition)
        with _reported(path):
            try:
                yield
            except Exception as error:  # re-raised as StateError by `_reported`
                if is_damage(error):
                    logger.warning("%s is damaged: dropping it; the next start recovers it from the changelog", path)
                    self.drop(partition)
                raise

    def close(self, partition: int) -> None:
        """Close the database of a partition, if it is open. A failure is logged: nothing can be done about it any more."""
        database = self._databases.pop(partition, None)
        if database is None:
            return
        path = partition_path(self._folder, partition)
        try:
            database.close()
            os.utime(path)  # `delete_left` asks when it was used last
        except Exception as error:  # noqa: BLE001 -- RocksDB's failures have no class of their own
            logger.warning(
                "the bags of partition %s were not closed cleanly: %s; the next start recovers them from the changelog",
                partition,
                error,
            )
        else:
            logger.info("closed the bags of partition %s", partition)
        self._closed(partition)


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


def is_damage(error: Exception) -> bool:
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
    return folder / f"{_PARTITION}{partition}"


def partitions_on_disk(folder: Path) -> list[int]:
    """The partitions that have a database under `folder`, ascending."""
    found = (path.name.removeprefix(_PARTITION) for path in folder.glob(f"{_PARTITION}*"))
    return sorted(int(number) for number in found if number.isdecimal())


def drop_partition(folder: Path, partition: int) -> None:
    """Delete the database of a partition. The changelog topic still has its rows."""
    shutil.rmtree(partition_path(folder, partition), ignore_errors=True)


def remove_other_generations(folder: Path, numbers: Collection[int]) -> None:
    """Delete the bags in the folder of a worker that belong to other generations of the internal topics than these."""
    kept = {of_generation(BAGS_TABLE, number) for number in numbers}
    for path in folder.glob(f"{BAGS_TABLE}*"):
        if path.name not in kept and path.is_dir():
            logger.info("deleting the bags of an earlier generation in %s", path)
            shutil.rmtree(path, ignore_errors=True)
