"""Reads files that may be gzip-compressed. Both `tastestream warm` (lists) and training (data sets) use it, so it lives in `model`."""

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any

MAGIC = b"\x1f\x8b"
BUFFER = 64 * 1024  # bytes


def unpacked(file: io.BufferedReader, damaged: Callable[[Exception], object]) -> io.BufferedReader:
    """Return a reader of the content of a file. A file that starts with the gzip signature is decompressed, whatever its name.

    A damaged or truncated gzip file yields everything before the damage, and then ends.

    Args:
        file: Open file, positioned at its start.
        damaged: Called with the error of a damaged file, before the reader reports the end.
    """
    if file.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
        return file
    return io.BufferedReader(_Unpacked(file, damaged), BUFFER)


class _Unpacked(io.RawIOBase):
    """Like GzipFile, but keeps the data that was decompressed before an error."""

    def __init__(self, packed: io.BufferedReader, damaged: Callable[[Exception], object]) -> None:
        self._packed = packed
        self._file = gzip.GzipFile(fileobj=packed)
        self._damaged = damaged
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._ended:
            return 0
        try:
            data = self._file.read1(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._damaged(error)
            data = b""
        self._ended = not data
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._packed.close()
        super().close()
