"""Files that may be gzip: the lists of `tastestream warm` and the data sets of training, hence in the package that both build on."""

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any

MAGIC = b"\x1f\x8b"
BUFFER = 64 * 1024  # bytes


def unpacked(file: io.BufferedReader, damaged: Callable[[Exception], object]) -> io.BufferedReader:
    """What a file holds, unpacked if it begins as gzip does, whatever it is called.

    One that is damaged or ends early gives all that stands before, and then ends. `damaged` is told why, before the end is read.
    """
    if file.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
        return file
    return io.BufferedReader(_Unpacked(file, damaged), BUFFER)


class _Unpacked(io.RawIOBase):
    """GzipFile, but what has been unpacked before an error is not lost with it."""

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
