"""Embeddings on disk, keyed by embedder version and URL, bounded in bytes and age.

Every entry can be computed again. So the cache has no changelog topic, and what cannot be read is dropped: a single entry where
that is enough, otherwise the whole folder.
"""

import logging
import shutil
import struct
from pathlib import Path

import rocksdict

from streams.exceptions import StateError

logger = logging.getLogger(__name__)

_TIME = struct.Struct(">d")  # when the embedding was made, seconds since the epoch
_VERSION_END = b"\x00"
_WRITE_BUFFER = 8 * 1024**2  # bytes; also the size of a file, and FIFO compaction drops whole files
_BLOCK_CACHE = 8 * 1024**2  # bytes


class DiskCache:
    """RocksDB with FIFO compaction: above `max_bytes`, the oldest files are dropped."""

    def __init__(self, folder: Path, *, embedder_version: str, length: int, max_bytes: int, max_age: float) -> None:
        """Open the cache, or create it.

        Args:
            folder: where it is.
            embedder_version: the embedder whose embeddings are read and written. Those of others stay, unseen.
            length: bytes of an embedding. An entry of another length is ignored.
            max_bytes: bytes on disk.
            max_age: seconds for which an embedding is used.

        Raises:
            StateError: the cache cannot be created.
        """
        self.max_age = max_age
        self.write_error = ""  # why the last failed write failed
        self._prefix = embedder_version.encode() + _VERSION_END
        self._length = _TIME.size + length
        self._max_bytes = max(max_bytes, _WRITE_BUFFER)
        try:
            self._database = _open(folder, self._max_bytes)
        except Exception as error:  # noqa: BLE001 -- rocksdict raises bare Exception for all that RocksDB reports
            logger.warning("dropped the embedding cache in %s, which cannot be read: %s", folder, error)
            self._database = _recreate(folder, self._max_bytes)

    def get(self, url: str, *, now: float) -> bytes | None:
        """The bytes of an embedding, or None if there is none within `max_age`. `now`: seconds since the epoch."""
        try:
            value = self._database.get(self._prefix + url.encode())
        except Exception as error:  # noqa: BLE001 -- as above; the embedding is computed again
            logger.warning("cannot read an entry of the embedding cache: %s", error)
            return None
        if value is None or len(value) != self._length:
            return None
        (made_at,) = _TIME.unpack_from(value)
        return value[_TIME.size :] if now - made_at <= self.max_age else None

    def put(self, url: str, embedding: bytes, *, now: float) -> None:
        """Write an embedding. A failure is logged and kept in `write_error`, not raised."""
        try:
            self._database.put(self._prefix + url.encode(), _TIME.pack(now) + embedding)
        except Exception as error:  # noqa: BLE001 -- as above; a full disk must not turn good events into dead letters
            self.write_error = str(error)
            logger.warning("cannot write to the embedding cache: %s", error)

    @property
    def full(self) -> bool:
        """Whether a new embedding displaces an old one, now or when the next file is written."""
        used = self._database.property_int_value("rocksdb.total-sst-files-size") or 0
        return used > self._max_bytes - _WRITE_BUFFER

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _recreate(folder: Path, max_bytes: int) -> rocksdict.Rdict:
    try:
        _empty(folder)
        return _open(folder, max_bytes)
    except Exception as error:  # as above
        raise StateError(f"cannot create the embedding cache in {folder}: {error}") from error


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
    return rocksdict.Rdict(str(folder), options=options)
