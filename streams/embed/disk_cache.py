"""Features of pictures on disk, keyed and encoded as on `picture-features`, bounded in bytes and age.

Every entry can be made again. So the cache has no changelog topic of its own, and what cannot be read is dropped: a single entry
where that is enough, otherwise the whole folder.
"""

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import time

import msgspec
import rocksdict

from streams import metrics
from streams.exceptions import StateError
from streams.features.records import Features, decode_features, encode_features, features_key
from streams.logs.repeats import summed
from streams.metrics.rocksdb import forget_databases, watch_databases

logger = logging.getLogger(__name__)

_WRITE_BUFFER = 8 * 1024**2  # bytes; also the size of a file, and FIFO compaction drops whole files
_BLOCK_CACHE = 8 * 1024**2  # bytes


class DiskCache:
    """RocksDB with FIFO compaction: above `max_bytes`, the oldest files are dropped. Safe to call from several threads."""

    def __init__(self, folder: Path, *, row_bytes: Mapping[str, int], max_bytes: int, max_age: float) -> None:
        """Open the cache, or create it.

        Args:
            folder: where it is.
            row_bytes: the versions of features that are read, and the length of a row of each. Entries of other versions stay,
                unseen; one of another length is ignored.
            max_bytes: bytes on disk.
            max_age: seconds for which features are used.

        Raises:
            StateError: the cache cannot be created.
        """
        self.max_age = max_age
        self.write_error = ""  # why the last write failed; "" if it did not
        self._folder = folder
        self._row_bytes = row_bytes
        self.max_bytes = max(max_bytes, _WRITE_BUFFER)
        try:
            self._database = _open(folder, self.max_bytes)
        except Exception as error:  # noqa: BLE001 -- rocksdict raises bare Exception for all that RocksDB reports
            logger.warning("dropped the picture cache in %s, which cannot be read: %s", folder, error)
            self._database = _recreate(folder, self.max_bytes)
        watch_databases("cache", lambda: [self._database])
        metrics.cache_bytes.watch("disk", lambda: [(["disk"], self._bytes)])
        metrics.cache_age.watch("disk", lambda: [(["disk"], time() - oldest) for oldest in _oldest_file(folder)])

    @property
    def identity(self) -> str:
        """Differs for each cache that was created; "" if it is not known."""
        try:
            return (self._folder / "IDENTITY").read_text(errors="replace").strip()
        except OSError:
            return ""

    def get(self, version: str, url: str, *, now: float) -> bytes | None:
        """The row of features of a picture, or None if there is none within `max_age`. `now`: seconds since the epoch."""
        try:
            value = self._database.get(features_key(version, url))
        except Exception as error:  # noqa: BLE001 -- as above; the features are made again
            logger.warning(
                "cannot read an entry of the picture cache: %s",
                error,
                extra=summed("unreadable entries", "the picture cache"),
            )
            return None
        if value is None:
            return None
        try:
            made_at, row = msgspec.structs.astuple(decode_features(value))
        except msgspec.DecodeError:
            return None
        return row if len(row) == self._row_bytes[version] and now - made_at / 1000 <= self.max_age else None

    def put(self, version: str, url: str, row: bytes, *, now: float) -> None:
        """Write features. A failure is logged and kept in `write_error`, not raised."""
        self.write({features_key(version, url): encode_features(Features(int(now * 1000), row))})

    def write(self, changes: Mapping[bytes, bytes | None]) -> bool:
        """Write keys and values as they are on the topic, in one atomic batch. A null value drops the entry.

        Returns:
            False if it failed. The failure is kept in `write_error`, and the first of several is logged: a full disk must
            not turn good events into dead letters.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._database.write(batch)
        except Exception as error:  # noqa: BLE001 -- as above
            if not self.write_error:
                logger.warning(
                    "cannot write to the picture cache in %s, so pictures are fetched again after a restart: %s; "
                    "make room, and restart the worker",
                    self._folder, error,
                )  # fmt: skip
            self.write_error = str(error)
            return False
        self.write_error = ""
        return True

    @property
    def full(self) -> bool:
        """Whether new features displace old ones, now or when the next file is written."""
        return self._bytes > self.max_bytes - _WRITE_BUFFER

    @property
    def _bytes(self) -> int:
        return self._database.property_int_value("rocksdb.total-sst-files-size") or 0

    def close(self) -> None:
        """Close the database. What it could not write was logged when it happened."""
        forget_databases("cache")
        metrics.cache_bytes.forget("disk")
        metrics.cache_age.forget("disk")
        try:
            self._database.close()
        except Exception as error:  # noqa: BLE001 -- as above; RocksDB repeats the failure of the last write
            if not self.write_error:
                logger.warning("the picture cache in %s was not closed cleanly: %s", self._folder, error)


def _oldest_file(folder: Path) -> list[float]:
    """When the oldest file of the database in a folder was written, seconds since the epoch; nothing without a file."""
    written: list[float] = []
    for path in folder.glob("*.sst"):
        with suppress(OSError):  # RocksDB has just dropped it
            written.append(path.stat().st_mtime)
    return [min(written)] if written else []


def _recreate(folder: Path, max_bytes: int) -> rocksdict.Rdict:
    try:
        _empty(folder)
        return _open(folder, max_bytes)
    except Exception as error:  # as above
        raise StateError(f"cannot create the picture cache in {folder}: {error}") from error


def _empty(folder: Path) -> None:
    """Remove what is in the folder. The folder itself stays, because it may be a link to another disk."""
    if not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _open(folder: Path, max_bytes: int) -> rocksdict.Rdict:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fifo = rocksdict.FifoCompactOptions()
    fifo.max_table_files_size = max_bytes
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(rocksdict.Cache(_BLOCK_CACHE))
    table.set_bloom_filter(10, False)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compaction_style(rocksdict.DBCompactionStyle.fifo())
    options.set_fifo_compaction_options(fifo)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_WRITE_BUFFER)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(-1)  # FIFO compaction requires it; there are at most max_bytes / _WRITE_BUFFER files
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1024**2)  # RocksDB logs statistics every ten minutes, for as long as the worker runs
    # Without `column_families` an existing database keeps the options of its files, `max_bytes` of an earlier start among them.
    return rocksdict.Rdict(str(folder), options=options, column_families={"default": options})
