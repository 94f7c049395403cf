"""Two tables of your own, as CSV or Parquet. Also reads tables row by row for other formats.

    events: user, item, type, time        items: item, image, categories

`type` is view, cart, purchase or return; without the column, every event is a purchase. `time` is RFC 3339, a date, a number of
seconds, milliseconds, microseconds or nanoseconds since the epoch, or digits such as 20191208 or 20191208101112. `categories` is a
list, the text of one, or text such as `Clothes > Hats|Sale`: ` > ` separates levels, `|` separates paths.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from offline_training.datasets.formats import text_files
from offline_training.datasets.formats.list_text import begins_like_list, list_in
from offline_training.datasets.ids import event_ids, item_id
from offline_training.datasets.parquet import parquet_module, values_of
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import (
    DatasetError,
    DatasetEvent,
    DatasetItem,
    Dropped,
    EventType,
    category_paths,
    event_time,
)
from offline_training.progress import Advance
from streams.times import shown

PARQUET = frozenset({".parquet", ".pq"})
PARQUET_ROWS = 8192  # per batch
TYPES = frozenset(get_args(EventType))
EVENT_COLUMNS = {
    "user": ("user", "user_id", "customer_id"),
    "item": ("item", "item_id", "article_id", "product_id"),
    "time": ("time", "timestamp", "t_dat", "date"),
}
ITEM_COLUMNS = {"item": EVENT_COLUMNS["item"]}
TYPE = ("type", "event_type", "event")
IMAGE = ("image", "image_url", "picture", "img_url")
CATEGORIES = ("categories", "category", "labels")
OTHER_SEPARATOR = re.compile("[,;]")
SEPARATORS = "| separates labels, and ` > ` the levels of a label"


def records(
    path: Path,
    needed: Mapping[str, Sequence[str]],
    dropped: Dropped,
    advance: Advance = text_files.nothing,
    encoding: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as dictionaries by column name.

    Args:
        path: a CSV or Parquet file.
        needed: columns that the table must have: the name used here, and the names they may have in the file. Each row holds
            such a column under the name used here, too.
        dropped: counts broken rows.
        advance: told the bytes that were read.
        encoding: of a CSV file; None: UTF-8, or what its first bytes say.

    Raises:
        DatasetError: a needed column is missing, or there is no row. The message lists the columns of the table.
    """
    read = _parquet(path, advance) if path.suffix.lower() in PARQUET else _csv(path, dropped, advance, encoding)
    columns = next(read)
    lower = {name.strip().lower(): name for name in reversed(list(columns))}
    found = {
        name: next((lower[one] for one in ones if one in lower), None)  # the most likely name first
        for name, ones in needed.items()
    }
    missing = [f"{name} ({', '.join(needed[name])})" for name, column in found.items() if column is None]
    if missing:
        raise DatasetError(f"{path}: expected a column {' and '.join(missing)}, found {', '.join(columns) or 'none'}")
    any_found = False
    for row in read:
        any_found = True
        yield {**row, **{name: row[cast("str", column)] for name, column in found.items()}}
    if not any_found and not dropped.counts:
        raise DatasetError(f"{path}: expected rows below the header, found none")


def _csv(path: Path, dropped: Dropped, advance: Advance, encoding: str | None) -> Iterator[dict[str, Any]]:
    """Yield the header first, then the rows."""
    rows = text_files.rows(path, dropped, advance, encoding)
    header = next(rows, [])
    yield dict.fromkeys(header)
    for row in rows:
        if len(row) != len(header):
            dropped.add("broken_line", f"{path.name}: {row}")
        else:
            yield dict(zip(header, row, strict=True))


def _parquet(path: Path, advance: Advance) -> Iterator[dict[str, Any]]:
    """Yield the header first, then the rows."""
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file")
    try:
        table = parquet_module().ParquetFile(path)
        names = table.schema_arrow.names
        yield dict.fromkeys(names)
        rows = table.metadata.num_rows
        size = path.stat().st_size
        for batch in table.iter_batches(PARQUET_ROWS):
            for row in zip(*map(values_of, batch.columns), strict=True):
                yield dict(zip(names, row, strict=True))
            advance(size * batch.num_rows // rows)
    except (
        OSError,
        ValueError,
        NotImplementedError,
        KeyError,
        MemoryError,
    ) as error:  # what pyarrow raises, by its own classes
        raise DatasetError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Tables:
    """A `DatasetSource` of two tables. Relative paths of pictures are resolved against `folder`."""

    events: Path | None
    item_table: Path
    folder: Path
    advance: Advance = text_files.nothing
    encoding: str | None = None

    @property
    def folders(self) -> Sequence[Path]:
        return (self.folder,)

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        if self.events is None:
            return
        for row in records(self.events, EVENT_COLUMNS, dropped, self.advance, self.encoding):
            kind = next((text for name in TYPE if (text := text_of(row.get(name)))), "purchase")
            found = interaction(row["user"], row["item"], kind, row["time"], dropped)
            if found is not None:
                yield found

    def items(self, dropped: Dropped) -> Iterator[DatasetItem]:
        for row in records(self.item_table, ITEM_COLUMNS, dropped, self.advance, self.encoding):
            item = item_id(row["item"], row, dropped)
            if not item:
                continue
            picture = PictureRef.parse(next((text for name in IMAGE if (text := text_of(row.get(name)))), ""))
            categories = next((row[name] for name in CATEGORIES if row.get(name)), "")
            try:
                paths = paths_in(categories)
            except ValueError:
                dropped.add("categories_not_readable", f"{item}: {shown(categories)}")
                paths = ()
            of_text = isinstance(categories, str) and not begins_like_list(categories)
            if of_text and len(paths) == 1 and OTHER_SEPARATOR.search(paths[0][-1]):
                dropped.note("one_label_with_a_comma", f"{item}: {shown(paths[0][-1])} is one label; {SEPARATORS}")
            yield DatasetItem(item, picture and picture.within(self.folder), paths)


def interaction(user: Any, item: Any, kind: str, time: Any, dropped: Dropped) -> DatasetEvent | None:
    """Read a row of an events table. None when it is left out; `dropped` then counts the reason."""
    ids = event_ids(user, item, dropped)
    if ids is None:
        return None
    if kind.lower() not in TYPES:
        dropped.add("event_of_unknown_type", f"{' '.join(ids)}: {kind!r}")
    elif (milliseconds := event_time(time, " ".join(ids), dropped)) is not None:
        return DatasetEvent(*ids, cast("EventType", kind.lower()), milliseconds)
    return None


def paths_in(value: Any) -> tuple[tuple[str, ...], ...]:
    """Read category paths from a list or from text. Raises ValueError for text that begins like a list and is none."""
    if isinstance(value, str):
        value = list_in(value) if begins_like_list(value) else value.split("|")
    if not isinstance(value, list | tuple):
        return ()
    parts = (part.split(" > ") if isinstance(part, str) else part for part in cast("Sequence[Any]", value))
    return category_paths(parts)


def text_of(value: Any) -> str:
    """The text of a cell; "" for one that is empty. Parquet files of pandas have NaN there."""
    return value.strip() if isinstance(value, str) else "" if value is None or value != value else str(value)  # noqa: PLR0124
