"""Lists of picture URLs, read entry by entry, so that a list may be larger than memory.

A broken line is an entry as well, and says why. Whether a URL may be fetched is checked elsewhere (`streams.web`).
"""

import csv
import io
import os
import stat
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from enum import StrEnum
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from model.gzipped import unpacked
from streams.exceptions import ListError

COLUMNS = (  # common names of the column, the likeliest first
    "image_url", "imageurl", "image_link", "img_url", "picture_url", "photo_url", "image_src",
    "url", "image", "img", "picture", "photo",
)  # fmt: skip
STDIN = "-"
MAX_LINE = 1024**2  # bytes; a longer line is cut, so that a file without line breaks does not fill the memory
HEAD = 100  # lines of JSON that are searched for the column, because the first objects may lack it
PARQUET_ROWS = 1024  # rows read in one step
MAX_DISPLAYED = 500  # characters of the column names in a message


class Format(StrEnum):
    """The formats of a list."""

    csv = "csv"
    parquet = "parquet"
    jsonl = "jsonl"
    txt = "txt"


SUFFIXES = {
    ".csv": Format.csv, ".tsv": Format.csv, ".parquet": Format.parquet, ".pq": Format.parquet, ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl, ".json": Format.jsonl, ".txt": Format.txt,
}  # fmt: skip


class Entry(NamedTuple):
    """One entry of a list: a URL, or the `reason` and `error` why it has none."""

    line: int  # counted from 1; the row in Parquet
    url: str
    reason: str = ""
    error: str = ""


class UrlList(NamedTuple):
    """An open list.

    Attributes:
        name: the name of the file, for messages.
        column: the column of the URLs; "" if the list has no columns.
        entries: the entries. Raises ListError if the rest of the list cannot be read.
        expected_total: estimates the number of entries from the number read so far; None if it is unknown.
    """

    name: str
    column: str
    entries: Generator[Entry]
    expected_total: Callable[[int], int | None]


def open_url_list(source: str, file_format: Format | None = None, column: str | None = None) -> UrlList:
    """Open a list and find its column.

    Args:
        source: the path of a file; `-` for standard input.
        file_format: None to tell it from the suffix.
        column: None to pick a column whose name is common for URLs of pictures.

    Raises:
        ListError: there is no such file or column, the format is unknown, or reading it needs an extra.
    """
    file_format = file_format or _format_of(source)
    if file_format is Format.txt and column is not None:
        raise ListError(
            f"--column {column}: {_name(source)} is read as one URL a line and has no columns; choose another --format"
        )
    try:
        if file_format is Format.parquet:
            return _open_parquet(source, column)
        raw, file, damage = _open(source)
        lines = _lines(file, damage)
        if file_format is Format.csv:
            found, entries = _csv(_name(source), lines, column)
        elif file_format is Format.jsonl:
            found, entries = _json(_name(source), lines, column)
        else:
            found, entries = "", _text(lines)
    except (OSError, EOFError, zlib.error) as error:
        raise ListError(f"{_name(source)} cannot be read: {_cause(error)}") from error
    return UrlList(_name(source), found, _with_list_errors(_name(source), entries, file), _total_by_bytes(raw))


def choose_column(name: str, columns: Sequence[str], wanted: str | None) -> str:
    """The wanted column, or else the likeliest one.

    Raises:
        ListError: there is none; the message names the columns.
    """
    if wanted is not None:
        if wanted in columns:
            return wanted
        problem = f"has no column {wanted!r}"
    else:
        plain = {column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in reversed(columns)}
        for likely in COLUMNS:
            if likely in plain:
                return plain[likely]
        problem = f"has no column with a common name for URLs of pictures, such as {COLUMNS[0]}"
    names = ", ".join(columns)
    names = names if len(names) <= MAX_DISPLAYED else names[:MAX_DISPLAYED] + " ..."
    hint = ". For one URL a line, use --format txt" if any("://" in column for column in columns) else ""
    raise ListError(f"{name} {problem}; choose one with --column, it has: {names}{hint}")


def _format_of(source: str) -> Format:
    if source == STDIN:
        return Format.txt
    suffix = Path(source.lower().removesuffix(".gz")).suffix
    if suffix not in SUFFIXES and Path(source).is_file():
        raise ListError(f"{source}: the suffix does not tell the format; use --format {'|'.join(Format)}")
    return SUFFIXES.get(suffix, Format.txt)  # a missing file is reported when it is opened


def _name(source: str) -> str:
    return "standard input" if source == STDIN else source


def _cause(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _open(source: str) -> tuple[io.FileIO, BinaryIO, list[Exception]]:
    """Open a file, compressed or not.

    Returns:
        The raw file, for its position; its content, decompressed; and a list that holds the error once the content has ended
        early.
    """
    if source != STDIN and Path(source).is_dir():
        raise ListError(f"{source} is a folder; give a file that lists URLs")
    # Not sys.stdin: at exit Python would wait for the thread that reads it.
    raw = io.FileIO(0, closefd=False) if source == STDIN else io.FileIO(source)
    damage: list[Exception] = []
    return raw, unpacked(io.BufferedReader(raw, 64 * 1024), damage.append), damage


def _total_by_bytes(raw: io.FileIO) -> Callable[[int], int | None]:
    """Estimates the total from the share of the bytes that has been read."""
    status = os.fstat(raw.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0

    def expected_total(read: int) -> int | None:
        if raw.closed or not size:
            return None
        position = raw.tell()
        return read * size // position if position else None

    return expected_total


def _with_list_errors(name: str, entries: Iterable[Entry], file: BinaryIO) -> Generator[Entry]:
    """The entries; errors of reading become a ListError that names the last good line. Closes the file."""
    last = 0
    with file:
        try:
            for entry in entries:
                last = entry.line
                yield entry
        except (OSError, EOFError, zlib.error) as error:
            raise ListError(f"{name} cannot be read after line {last}: {_cause(error)}") from error


def _lines(file: BinaryIO, damage: Sequence[Exception]) -> Iterator[bytes]:
    """Whole lines. At their end raises the error in `damage`, if any; the last line is then dropped, because it may be cut."""
    first = True
    while line := file.readline(MAX_LINE):
        if damage and not line.endswith(b"\n"):
            break
        if len(line) == MAX_LINE:
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE)
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False
    if damage:
        raise damage[0]


def _entry(line: int, value: Any) -> Entry:
    if isinstance(value, str):
        url = value.strip()
        return Entry(line, url) if url else Entry(line, "", "no_url", "the URL is empty")
    return Entry(
        line, "", "no_url", "the URL is null" if value is None else f"the URL is not text but a {type(value).__name__}"
    )


def _text(lines: Iterator[bytes]) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _entry(number, _decoded(line))


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")  # other columns may have any encoding


def _csv(name: str, lines: Iterator[bytes], column: str | None) -> tuple[str, Iterator[Entry]]:
    first = _decoded(next(lines, b""))
    if not first.strip():
        raise ListError(f"{name}: the first line is empty; it must name the columns")
    delimiter = max(",;\t|", key=first.count)
    # Strict: otherwise a quote that is never closed would swallow the following lines silently.
    rows = csv.reader(chain([first], map(_decoded, lines)), delimiter=delimiter, strict=True)
    try:
        columns = next(rows)
    except csv.Error as error:
        raise ListError(f"{name}: the first line, which must name the columns, is broken: {error}") from error
    found = choose_column(name, columns, column)
    index = columns.index(found)

    def entries() -> Iterator[Entry]:
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Entry(rows.line_num, "", "broken_line", str(error))
                continue
            if len(row) > index:
                yield _entry(rows.line_num, row[index])
            elif row:
                error = f"the line has {len(row)} of {len(columns)} columns"
                yield Entry(rows.line_num, "", "broken_line", error)

    return found, entries()


def _json(name: str, lines: Iterator[bytes], column: str | None) -> tuple[str, Iterator[Entry]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    head: list[bytes] = []
    columns: dict[str, None] = {}
    found, problem = None, ListError(f"{name}: no JSON object in the first {HEAD} lines")
    while found is None and len(head) < HEAD and (line := next(lines, b"")):
        head.append(line)
        try:
            columns |= dict.fromkeys(decode(line))
            found = choose_column(name, list(columns), column)
        except msgspec.MsgspecError:
            continue
        except ListError as error:
            problem = error
    if found is None:
        raise problem
    key = found

    def entries() -> Iterator[Entry]:
        for number, line in enumerate(chain(head, lines), 1):
            if not line.strip():
                continue
            try:
                yield _entry(number, decode(line).get(key))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                yield Entry(number, "", "broken_line", f"the line is not a JSON object: {error}")

    return found, entries()


def _open_parquet(source: str, column: str | None) -> UrlList:
    if source == STDIN:
        raise ListError("Parquet cannot be read from standard input, because its index is at the end; give a file")
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ListError("Parquet needs pyarrow: pip install 'tastestream[parquet]'") from error
    if Path(source).is_dir():
        raise ListError(f"{source} is a folder; give one file")
    try:
        # Read in pieces, because a row group may be larger than memory.
        file = parquet.ParquetFile(source, buffer_size=MAX_LINE, pre_buffer=False)
    except ValueError as error:  # pyarrow reports invalid content so
        raise ListError(f"{source} cannot be read: {error}") from error
    columns = {field.name: str(field.type) for field in file.schema_arrow}
    text = [
        name
        for name, kind in columns.items()
        if "string" in kind.partition("<")[0] or kind.startswith("dictionary<values=string")
    ]
    if column in columns and column not in text:
        raise ListError(f"--column {column}: the column of {source} is not text but {columns[column]}")
    found = choose_column(source, text or list(columns), column)

    def entries() -> Generator[Entry]:
        row = 0
        try:
            with file:
                for batch in file.iter_batches(PARQUET_ROWS, columns=[found], use_threads=False):
                    for row, value in enumerate(batch.column(0).to_pylist(), row + 1):  # noqa: B020 -- goes on counting from the last row
                        yield _entry(row, value)
        except (OSError, ValueError) as error:
            raise ListError(f"{source} cannot be read after row {row}: {error}") from error

    total = int(file.metadata.num_rows)

    def expected_total(read: int) -> int:  # noqa: ARG001 -- the index of the file has the total
        return total

    return UrlList(source, found, entries(), expected_total)
