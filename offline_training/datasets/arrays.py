"""Opens arrays in files (.npy, .npz) whose claims fit the file. numpy allocates what a header claims before it reads the data."""

import resource
from collections.abc import Generator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from offline_training.datasets.records import DatasetError
from streams.times import shown

LARGE = 1024**3  # bytes of an array that may be compressed to any size
RATIO = 100  # a larger array may have at most so many times the bytes of its file
UNREADABLE = (ValueError, SyntaxError, TokenError, MemoryError, RecursionError)  # what numpy raises for a header
PAGE = resource.getpagesize()  # bytes


class ArrayHeader:
    """What the header of an array claims: its shape, its type, and its size in bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read the header. Raises ValueError when it is none."""
        version = np.lib.format.read_magic(file)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
        if read is None:
            raise ValueError(f"expected an array of version 1 or 2 of the format, found {version[0]}.{version[1]}")
        try:
            self.shape, _, self.dtype = read(file)
        except UNREADABLE as error:  # the message may repeat the whole header
            raise ValueError(f"its header cannot be read: {str(error)[:100]}") from None
        if any(length < 0 for length in self.shape):
            raise ValueError(f"its header claims the shape {shown(self.shape)}")
        self.size = prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} of the shape {shown(self.shape)}"


def check_arrays(path: Path) -> None:
    """Check the sizes that the arrays of a `.npz` file claim. Raises ValueError or BadZipFile when they cannot be right."""
    with ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                _check(archive, member, path.stat().st_size)


@contextmanager
def opened_arrays(path: Path) -> Generator[Any]:
    """Open a `.npz` file as numpy does, after a check of the sizes that its arrays claim.

    Raises:
        DatasetError: it is no such file, an array claims another size than the file has for it, or the memory is not enough.
    """
    try:
        check_arrays(path)
        with np.load(path) as arrays:
            yield arrays
    except MemoryError as error:
        raise DatasetError(f"{path}: its arrays need more memory than this machine has: {error}") from error
    except (ValueError, OSError, EOFError, NotImplementedError, RuntimeError, BadZipFile) as error:
        raise DatasetError(f"{path}: not a file of arrays (.npz): {error}") from error


def _check(archive: ZipFile, member: ZipInfo, file_size: int) -> None:
    with archive.open(member) as file:
        header = ArrayHeader(file)
        behind = member.file_size - file.tell()
    if header.dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    if header.size != behind:
        raise ValueError(f"{member.filename} claims {header}, which is {shown(header.size)} bytes, and has {behind}")
    if header.size > max(LARGE, RATIO * file_size):
        raise ValueError(
            f"{member.filename} has {header.size} bytes, more than {RATIO} times the {file_size} of the file"
        )


@contextmanager
def memory_limit(more: int) -> Generator[None]:
    """Let the process take at most `more` bytes beyond what it has now. Above that, the block ends with a MemoryError."""
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE + more
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    if before != resource.RLIM_INFINITY:
        limit = min(limit, before)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
