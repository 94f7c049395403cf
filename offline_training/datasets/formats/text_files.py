"""Reads CSV, JSON and Python literals from plain or gzip files, one record at a time.

Broken records are counted and skipped. A truncated file yields the records before the cut.
"""

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from model.gzipped import unpacked
from offline_training.datasets.encodings import KEEP_APART, encoding_of
from offline_training.datasets.records import DatasetError, Dropped
from offline_training.progress import Advance

CHUNK = 256 * 1024  # characters
LONGEST = 4 * 1024**2  # characters of one object; a longer one counts as broken
SEPARATORS = re.compile(r"[\s,\[\]]*")  # between objects, in JSON lines and in an array
TRUNCATED = "truncated_file"  # reason in `Dropped`
CUT = 16  # characters before the end of the buffer: an error there may only mean that the rest is not read yet


def nothing(_: int) -> None:
    """Show no progress: an `Advance` that does nothing."""


class _Counted(io.RawIOBase):
    """A file that reports how many of its bytes are read. Compressed bytes count as they are."""

    def __init__(self, path: Path, advance: Advance) -> None:
        self._file = path.open("rb", buffering=0)
        self._advance = advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._advance(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def opened(path: Path, dropped: Dropped, advance: Advance = nothing, encoding: str | None = None) -> Generator[TextIO]:
    """Open a text file. Decompresses gzip, whatever the file's name.

    A byte that is not of the encoding becomes half of a surrogate pair: `records.unpaired` finds it, and no file is written with it.
    A damaged or truncated gzip file yields the text before the damage; `dropped` counts the file.

    Args:
        path: the file.
        dropped: counts damage.
        advance: told the bytes that were read.
        encoding: of a file without a byte order mark; None: UTF-8.

    Raises:
        DatasetError: there is no such file.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file")
    with _Counted(path, advance) as counted:
        file = unpacked(
            io.BufferedReader(counted, CHUNK), lambda error: dropped.add(TRUNCATED, f"{path.name}: {error}")
        )
        found = encoding_of(file.peek(4)[:4], encoding)
        with io.TextIOWrapper(file, encoding=found, errors=KEEP_APART, newline="") as text:
            yield text


def objects(
    path: Path, dropped: Dropped, advance: Advance = nothing, encoding: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file: JSON lines, a JSON array, concatenated objects, or lines of Python literals.

    Raises:
        DatasetError: the file holds no object.
    """
    any_found = False
    with opened(path, dropped, advance, encoding) as file:
        beginning = file.read(CHUNK)
        read = _python_literals if re.match(r"\s*\{\s*u?'", beginning) else _json
        for found in read(beginning, lambda: file.read(CHUNK)):
            if isinstance(found, dict):
                any_found = True
                yield cast("dict[str, Any]", found)
            else:
                dropped.add("broken_line", f"{path.name}: {found}")
    if not any_found:
        shown = beginning[:60].replace("\n", " ")
        raise DatasetError(f"{path}: expected JSON objects or Python literals, found {shown!r}")


def rows(path: Path, dropped: Dropped, advance: Advance = nothing, encoding: str | None = None) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, including the header. Skips empty rows."""
    with opened(path, dropped, advance, encoding) as file:
        reader = csv.reader(line.replace("\0", "") for line in _lines(file, path, dropped))
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                dropped.add("broken_line", f"{path.name}: {error}")
                continue
            if row:
                yield row


def _lines(file: TextIO, path: Path, dropped: Dropped) -> Iterator[str]:
    rest = ""
    truncated = dropped.counts[TRUNCATED]
    while text := file.read(CHUNK):
        *whole, rest = (rest + text).split("\n")
        yield from (line + "\n" for line in whole)
        if len(rest) > LONGEST:
            dropped.add("broken_line", f"{path.name}: {rest[:60]}")
            rest = ""
    if rest and dropped.counts[TRUNCATED] == truncated:  # else the line is cut off, even if it looks complete
        yield rest


def _json(buffer: str, more: Callable[[], str]) -> Iterator[Any]:
    """Yield objects. Yields the first characters of anything else, as a string."""
    decoder = json.JSONDecoder()
    at, ended = 0, False
    while True:
        at = _behind(SEPARATORS, buffer, at)
        if at == len(buffer):
            if ended:
                return
            buffer, at = more(), 0
            ended = not buffer
            continue
        try:
            value, at = decoder.raw_decode(buffer, at)
        except json.JSONDecodeError as error:
            unfinished = error.msg.startswith("Unterminated string") or error.pos > len(buffer) - CUT
            if unfinished and not ended and len(buffer) - at < LONGEST:
                text = more()
                ended = not text
                buffer, at = buffer[at:] + text, 0
                continue
        except (RecursionError, ValueError):  # Python reads no integer of more than 4,300 digits
            pass
        else:
            yield value if isinstance(value, dict) else str(value)[:60]
            continue
        yield buffer[at : at + 60]
        while (line_end := buffer.find("\n", at)) < 0 and not ended:
            buffer, at = more(), 0
            ended = not buffer
        at = len(buffer) if line_end < 0 else line_end + 1


def _python_literals(buffer: str, more: Callable[[], str]) -> Iterator[Any]:
    """Like `_json`, for one Python literal per line, as in the metadata of 2014."""
    while True:
        text = more()
        *lines, buffer = (buffer + text).split("\n") if text else [*buffer.split("\n"), ""]
        if len(buffer) > LONGEST:
            lines, buffer = [*lines, buffer], ""
        for line in filter(str.strip, lines):
            try:
                value = ast.literal_eval(line.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                value = None
            yield value if isinstance(value, dict) else line[:60]
        if not text:
            return


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
