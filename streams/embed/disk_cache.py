"""Embeddings on disk, keyed by embedder version and URL: bounded in bytes, and forgetful. All of it can be computed again,
so there is no changelog, and whatever cannot be read is dropped: an entry where that is enough, else the whole folder.
"""

import logging
import shutil
import struct
from pathlib import Path

import rocksdict

from streams.exceptions import StateError

logger = logging.getLogger(__name__)

_TIME = struct.Struct(">d")  # seconds since the epoch when the embedding was made
_VERSION_END = b"\x00"
_WRITE_BUFFER = 8 * 1024**2  # also the size of a file, the unit in which the oldest embeddings go


class DiskCache:
    """RocksDB with FIFO compaction: over `max_bytes`, the oldest files go."""

    def __init__(self, folder: Path, *, embedder: str, length: int, max_bytes: int, max_age: float) -> None:
        """length: bytes of an embedding; an entry of another length is none. max_age: seconds for which one is used.

        Raises StateError when there is no room for a cache.
        """
        self.max_age = max_age
        self.unwritten = ""  # why the last embedding that could not be written could not
        self._prefix = embedder.encode() + _VERSION_END
        self._length = _TIME.size + length
        self._max_bytes = max(max_bytes, _WRITE_BUFFER)
        try:
            self._database = _open(folder, self._max_bytes)
        except Exception as error:  # noqa: BLE001 -- rocksdict raises bare Exception for whatever RocksDB reports
            logger.warning("the cache in %s cannot be read and is dropped: %s", folder, error)
            self._database = _made_anew(folder, self._max_bytes)

    def get(self, url: str, *, now: float) -> bytes | None:
        """The embedding's bytes, or None if there is none that is young enough."""
        try:
            value = self._database.get(self._prefix + url.encode())
        except Exception as error:  # noqa: BLE001 -- as above; what cannot be read is computed again
            logger.warning("the cache could not be read: %s", error)
            return None
        if value is None or len(value) != self._length:
            return None
        (made,) = _TIME.unpack_from(value)
        return value[_TIME.size :] if now - made <= self.max_age else None

    def put(self, url: str, embedding: bytes, *, now: float) -> None:
        try:
            self._database.put(self._prefix + url.encode(), _TIME.pack(now) + embedding)
        except Exception as error:  # noqa: BLE001 -- as above; a full disk must not turn good events into dead letters
            self.unwritten = str(error)
            logger.warning("the cache could not be written: %s", error)

    @property
    def full(self) -> bool:
        """Whether a new embedding costs an old one its place, now or when the next file is written."""
        used = self._database.property_int_value("rocksdb.total-sst-files-size") or 0
        return used > self._max_bytes - _WRITE_BUFFER

    def close(self) -> None:
        self._database.close()


def _made_anew(folder: Path, max_bytes: int) -> rocksdict.Rdict:
    try:
        _empty(folder)
        return _open(folder, max_bytes)
    except Exception as error:  # as above
        raise StateError(f"the cache in {folder} cannot be made: {error}") from error


def _empty(folder: Path) -> None:
    """Make room for a new cache. A folder stays: it may be a link to another disk."""
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
    table.set_block_cache(rocksdict.Cache(8 * 1024**2))
    table.set_bloom_filter(10, False)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compaction_style(rocksdict.DBCompactionStyle.fifo())
    options.set_fifo_compaction_options(fifo)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_WRITE_BUFFER)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(-1)  # FIFO compaction asks for it; max_bytes / write buffer is how many there are
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1024**2)  # statistics go there every ten minutes, for as long as the worker lives
    return rocksdict.Rdict(str(folder), options=options)
