"""Tables, CSV or Parquet, row by row; and the plain form of a data set, for everybody whose shop is no Amazon:

    events: user, item, type, time        items: item, image, categories

type is view, cart, purchase or return, and purchase where the column is missing; time is RFC 3339, a date, or integer
milliseconds (or seconds) since the epoch; categories is a list, or text: levels are separated by ` > `, several paths by `|`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast, get_args

from offline_training.datasets import files
from offline_training.datasets.records import (
    DatasetError,
    DatasetEvent,
    Dropped,
    Item,
    Type,
    category_paths,
    is_url,
)
from offline_training.progress import Advance
from streams.times import milliseconds_of

PARQUET = frozenset({".parquet", ".pq"})
PARQUET_ROWS = 8192  # read in one step
TYPES = frozenset(get_args(Type))
EVENT_COLUMNS = {
    "user": ("user", "user_id", "customer_id"),
    "item": ("item", "item_id", "article_id", "product_id"),
    "time": ("time", "timestamp", "t_dat", "date"),
}
ITEM_COLUMNS = {"item": EVENT_COLUMNS["item"]}
TYPE = ("type", "event_type", "event")
IMAGE = ("image", "image_url", "picture", "img_url")
CATEGORIES = ("categories", "category", "labels")


def records(
    path: Path, needed: Mapping[str, Sequence[str]], dropped: Dropped, advance: Advance = files.nothing
) -> Iterator[dict[str, Any]]:
    """The rows by the names of their columns, and each needed column by the name it has here.

    Raises DatasetError when a needed column is missing, naming those there are.
    """
    read = _parquet(path, advance) if path.suffix.lower() in PARQUET else _csv(path, dropped, advance)
    columns = next(read)
    lower = {name.strip().lower(): name for name in reversed(list(columns))}
    found = {
        name: next((lower[one] for one in ones if one in lower), None)  # the likeliest name first
        for name, ones in needed.items()
    }
    missing = [f"{name} ({', '.join(needed[name])})" for name, column in found.items() if column is None]
    if missing:
        raise DatasetError(f"{path}: expected a column {' and '.join(missing)}, found {', '.join(columns) or 'none'}")
    for row in read:
        yield {**row, **{name: row[cast("str", column)] for name, column in found.items()}}


def _csv(path: Path, dropped: Dropped, advance: Advance) -> Iterator[dict[str, Any]]:
    """First the columns' names, then the rows."""
    rows = files.rows(path, dropped, advance)
    header = next(rows, [])
    yield dict.fromkeys(header)
    for row in rows:
        if len(row) != len(header):
            dropped.add("broken_line", f"{path.name}: {row}")
        else:
            yield dict(zip(header, row, strict=True))


def _parquet(path: Path, advance: Advance) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file")
    table = parquet_module().ParquetFile(path)
    yield dict.fromkeys(table.schema_arrow.names)
    rows = table.metadata.num_rows
    size = path.stat().st_size
    for batch in table.iter_batches(PARQUET_ROWS):
        yield from batch.to_pylist()
        advance(size * batch.num_rows // rows)


def parquet_module() -> Any:
    """pyarrow.parquet. Raises DatasetError when it is not installed."""
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise DatasetError("Parquet needs pyarrow: pip install 'tastestream[parquet]'") from None


@dataclass(frozen=True)
class Tables:
    """The plain form, a `records.Source`. `folder`: what relative paths of pictures are relative to."""

    events: Path | None
    item_table: Path
    folder: Path
    advance: Advance = files.nothing

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        if self.events is None:
            return
        for row in records(self.events, EVENT_COLUMNS, dropped, self.advance):
            kind = next((row[name] for name in TYPE if row.get(name)), "purchase")
            found = interaction(row["user"], row["item"], kind, row["time"], dropped)
            if found is not None:
                yield found

    def items(self, dropped: Dropped) -> Iterator[Item]:
        for row in records(self.item_table, ITEM_COLUMNS, dropped, self.advance):
            item = _text(row["item"])
            if not item:
                dropped.add("item_without_id", str(row)[:100])
                continue
            picture = _text(next((row[name] for name in IMAGE if row.get(name)), ""))
            if picture and not is_url(picture):
                picture = str(self.folder / picture)
            yield Item(item, picture, paths_in(next((row[name] for name in CATEGORIES if row.get(name)), "")))


def interaction(user: Any, item: Any, kind: Any, time: Any, dropped: Dropped) -> DatasetEvent | None:
    """A row of events, or None, which `dropped` then knows the reason of."""
    user, item = _text(user), _text(item)
    if not user or not item:
        dropped.add("event_without_user_or_item", f"user {user!r}, item {item!r}")
    elif kind not in TYPES:
        dropped.add("event_of_unknown_type", f"{user} {item}: {kind!r}")
    elif (milliseconds := milliseconds_of(time)) is None:
        dropped.add("event_without_time", f"{user} {item}: {time!r}")
    else:
        return DatasetEvent(user, item, cast("Type", kind), milliseconds)
    return None


def paths_in(value: Any) -> tuple[tuple[str, ...], ...]:
    """Category paths of a list, or of text."""
    if isinstance(value, str):
        value = value.split("|")
    if not isinstance(value, list | tuple):
        return ()
    parts = (part.split(" > ") if isinstance(part, str) else part for part in cast("Sequence[Any]", value))
    return category_paths(parts)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else "" if value is None else str(value)
