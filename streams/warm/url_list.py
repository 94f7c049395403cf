"""Lists of picture URLs, read entry by entry, so that they may be larger than memory.

A line that is broken is an entry too, and says why. Whether a URL may be fetched is not for this module to say.
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

COLUMNS = (  # names that shops give to the column, the likeliest first
    "image_url", "imageurl", "image_link", "img_url", "picture_url", "photo_url", "image_src",
    "url", "image", "img", "picture", "photo",
)  # fmt: skip
STDIN = "-"
MAX_LINE = 1024**2  # bytes; what is longer is cut, so that a file without line ends does not fill the memory
HEAD = 100  # lines of JSON that are looked at for the column, since not every object need have it
PARQUET_ROWS = 1024  # read in one step
MAX_SHOWN = 500  # characters of the columns' names in a message


class Format(StrEnum):
    csv = "csv"
    parquet = "parquet"
    jsonl = "jsonl"
    txt = "txt"


SUFFIXES = {
    ".csv": Format.csv, ".tsv": Format.csv, ".parquet": Format.parquet, ".pq": Format.parquet, ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl, ".json": Format.jsonl, ".txt": Format.txt,
}  # fmt: skip


class Entry(NamedTuple):
    """One entry of a list: a URL, or `reason` and `error` why there is none."""

    line: int  # from 1; in Parquet the row
    url: str
    reason: str = ""
    error: str = ""


class UrlList(NamedTuple):
    """An open list."""

    name: str
    column: str  # "" when it has none
    entries: Generator[Entry]  # raises ListError when it cannot be read on
    expected: Callable[
        [int], int | None
    ]  # how many entries there are, roughly, when so many have been read; None: unknown


def open_list(source: str, form: Format | None = None, column: str | None = None) -> UrlList:
    """Open a file, or standard input for `-`, and find its column. The form is told by the suffix if it is not given.

    Raises ListError when there is no such file, form or column, or when reading it needs an extra.
    """
    form = form or _form(source)
    if form is Format.txt and column is not None:
        raise ListError(f"{_name(source)} has no columns: it is read as one URL a line (--format, --column)")
    try:
        if form is Format.parquet:
            return _open_parquet(source, column)
        raw, file, damage = _open(source)
        lines = _lines(file, damage)
        if form is Format.csv:
            found, entries = _csv(_name(source), lines, column)
        elif form is Format.jsonl:
            found, entries = _json(_name(source), lines, column)
        else:
            found, entries = "", _text(lines)
    except (OSError, EOFError, zlib.error) as error:
        raise ListError(f"{_name(source)} cannot be read: {_why(error)}") from error
    return UrlList(_name(source), found, _until_unreadable(_name(source), entries, file), _by_bytes(raw))


def choose_column(name: str, columns: Sequence[str], wanted: str | None) -> str:
    """The wanted column, or the likeliest. Raises ListError, naming those that there are."""
    if wanted is not None:
        if wanted in columns:
            return wanted
        problem = f"has no column {wanted!r}"
    else:
        plain = {column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in reversed(columns)}
        for likely in COLUMNS:
            if likely in plain:
                return plain[likely]
        problem = "has no column that is called like a picture's URL"
    shown = ", ".join(columns)
    shown = shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + " ..."
    hint = "; one URL a line is --format txt" if any("://" in column for column in columns) else ""
    raise ListError(f"{name} {problem}; it has: {shown} (--column){hint}")


def _form(source: str) -> Format:
    if source == STDIN:
        return Format.txt
    suffix = Path(source.lower().removesuffix(".gz")).suffix
    if suffix not in SUFFIXES and Path(source).is_file():
        raise ListError(f"{source}: its name does not tell what it is; --format {'|'.join(Format)} does")
    return SUFFIXES.get(suffix, Format.txt)  # what is no file at all is said where it is opened


def _name(source: str) -> str:
    return "standard input" if source == STDIN else source


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _open(source: str) -> tuple[io.FileIO, BinaryIO, list[Exception]]:
    """The file as it is, for its position; what is in it, unpacked; and, at the end of that, why it ended early if it did."""
    if source != STDIN and Path(source).is_dir():
        raise ListError(f"{source} is a folder; URLS is a file that lists URLs, not the pictures themselves")
    raw = (
        io.FileIO(0, closefd=False) if source == STDIN else io.FileIO(source)
    )  # not sys.stdin: exit would wait for a reader
    damage: list[Exception] = []
    return raw, unpacked(io.BufferedReader(raw, 64 * 1024), damage.append), damage


def _by_bytes(raw: io.FileIO) -> Callable[[int], int | None]:
    """As many entries in the rest of the file, byte for byte, as in what was read of it."""
    status = os.fstat(raw.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0

    def expected(read: int) -> int | None:
        if raw.closed or not size:
            return None
        position = raw.tell()
        return read * size // position if position else None

    return expected


def _until_unreadable(name: str, entries: Iterable[Entry], file: BinaryIO) -> Generator[Entry]:
    last = 0
    with file:
        try:
            for entry in entries:
                last = entry.line
                yield entry
        except (OSError, EOFError, zlib.error) as error:
            raise ListError(f"{name} cannot be read on after line {last}: {_why(error)}") from error


def _lines(file: BinaryIO, damage: Sequence[Exception]) -> Iterator[bytes]:
    """Whole lines. Raises what `damage` says when they have ended: the last one is cut then, and might look whole."""
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
        return Entry(line, url) if url else Entry(line, "", "no_url", "it is empty")
    return Entry(line, "", "no_url", "it is null" if value is None else f"it is no text but a {type(value).__name__}")


def _text(lines: Iterator[bytes]) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _entry(number, _decoded(line))


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")  # another column may be in whatever encoding


def _csv(name: str, lines: Iterator[bytes], column: str | None) -> tuple[str, Iterator[Entry]]:
    first = _decoded(next(lines, b""))
    if not first.strip():
        raise ListError(f"{name}: its first line is empty, but has to name the columns")
    delimiter = max(",;\t|", key=first.count)
    # Strict: else a quote that is never closed swallows the lines behind it without a word.
    rows = csv.reader(chain([first], map(_decoded, lines)), delimiter=delimiter, strict=True)
    try:
        columns = next(rows)
    except csv.Error as error:
        raise ListError(f"{name}: its first line has to name the columns, but is broken: {error}") from error
    found = choose_column(name, columns, column)
    place = columns.index(found)

    def entries() -> Iterator[Entry]:
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Entry(rows.line_num, "", "broken_line", str(error))
                continue
            if len(row) > place:
                yield _entry(rows.line_num, row[place])
            elif row:
                fact = f"it has {len(row)} of {len(columns)} columns"
                yield Entry(rows.line_num, "", "broken_line", fact)

    return found, entries()


def _json(name: str, lines: Iterator[bytes], column: str | None) -> tuple[str, Iterator[Entry]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    head: list[bytes] = []
    columns: dict[str, None] = {}
    found, problem = None, ListError(f"{name}: there is no JSON object in its first {HEAD} lines")
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
    place = found

    def entries() -> Iterator[Entry]:
        for number, line in enumerate(chain(head, lines), 1):
            if not line.strip():
                continue
            try:
                yield _entry(number, decode(line).get(place))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                yield Entry(number, "", "broken_line", f"it is not a JSON object: {error}")

    return found, entries()


def _open_parquet(source: str, column: str | None) -> UrlList:
    if source == STDIN:
        raise ListError("Parquet cannot be read from standard input: its index is at its end")
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ListError("Parquet needs pyarrow: pip install 'tastestream[parquet]'") from error
    if Path(source).is_dir():
        raise ListError(f"{source} is a folder; URLS is one file")
    try:
        # In pieces: a row group may be larger than memory.
        file = parquet.ParquetFile(source, buffer_size=MAX_LINE, pre_buffer=False)
    except ValueError as error:  # what pyarrow reports about the content
        raise ListError(f"{source} cannot be read: {error}") from error
    columns = {field.name: str(field.type) for field in file.schema_arrow}
    text = [
        name
        for name, kind in columns.items()
        if "string" in kind.partition("<")[0] or kind.startswith("dictionary<values=string")
    ]
    if column in columns and column not in text:
        raise ListError(f"{source}: column {column!r} holds no text but {columns[column]} (--column)")
    found = choose_column(source, text or list(columns), column)

    def entries() -> Generator[Entry]:
        row = 0
        try:
            with file:
                for batch in file.iter_batches(PARQUET_ROWS, columns=[found], use_threads=False):
                    for row, value in enumerate(batch.column(0).to_pylist(), row + 1):  # noqa: B020 -- goes on counting
                        yield _entry(row, value)
        except (OSError, ValueError) as error:
            raise ListError(f"{source} cannot be read on after row {row}: {error}") from error

    total = int(file.metadata.num_rows)

    def expected(read: int) -> int:  # noqa: ARG001 -- the index of the file knows without
        return total

    return UrlList(source, found, entries(), expected)
