"""A source to a folder: `events.parquet`, `items.parquet` and `dataset.json`, which training and replay read.

Events are read twice and items once, so that only items that somebody touched are held in memory, however large the metadata.
Events are written in the order of their times; those of one time stay as the source has them.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from heapq import merge
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from offline_training.datasets.labels import LabelRule, labels_of, vocabulary
from offline_training.datasets.records import DatasetError, DatasetEvent, Dropped, Source, is_url
from offline_training.datasets.tables import parquet_module

EVENTS, ITEMS, SUMMARY = "events.parquet", "items.parquet", "dataset.json"
RUNS = "events.runs"  # while events are sorted
ROWS = 65_536  # written in one step
RUN = 4 * ROWS  # events that are sorted in memory; what is more is merged from disk
MERGED = 1024  # events of each run that are in memory while runs are merged
PAGE = 64 * 1024  # bytes that are read of a column at a time; the default is all of a run

Step = Callable[[str], AbstractContextManager[object]]
"""Opens a progress bar with a title."""


class DatasetSummary(msgspec.Struct, frozen=True):
    """What a prepared data set is."""

    source: str
    users: int
    items: int
    events: int
    from_time: int  # milliseconds
    to_time: int
    labels: dict[str, int]  # how many items have it
    dropped: dict[str, int]
    examples: dict[str, str]
    noted: dict[str, int] = {}
    """What was kept, and is worth knowing."""


class _Known(NamedTuple):
    picture: str
    labels: tuple[str, ...]


def prepare(
    source: Source,
    name: str,
    out: Path,
    *,
    rule: LabelRule,
    pictures: Mapping[str, str] | None,
    step: Step,
    pictureless: bool = False,
    untouched: bool = False,
    uncategorized: bool = False,
) -> DatasetSummary:
    """Read `source` and write the folder `out`; a data set that is there is replaced.

    Args:
        name: what the source is, for the summary.
        rule: which categories become labels.
        pictures: files by item, instead of the pictures that the source names.
        step: shows the progress.
        untouched: whether items that no event is about are kept, too: their labels teach what pictures look like.
        pictureless: whether items without a picture are kept; their embeddings have to come from elsewhere.
        uncategorized: whether items without a category are kept: they can be replayed, and teach nothing.

    Raises DatasetError, when something is missing or nothing is left.
    """
    dropped = Dropped()
    with step("events, first time"):
        touched = {event.item for event in source.interactions(Dropped())}
    with step("items"):
        known = _items(
            source,
            set() if untouched else touched,
            rule,
            pictures,
            dropped,
            pictureless=pictureless,
            uncategorized=uncategorized,
        )
    counts = Counter(label for item in known.values() for label in item.labels)
    kept = set(vocabulary(counts, len(known), rule))
    for item, one in list(known.items()):
        labels = tuple(label for label in one.labels if label in kept)
        known[item] = _Known(one.picture, labels)
        if not labels and one.labels:
            (dropped.note if uncategorized else dropped.add)("item_without_frequent_label", item)
            if not uncategorized:
                del known[item]
    needed = "a picture" if uncategorized else "a picture and a label"
    if not known:
        raise DatasetError(f"{name}: nothing is left: no item with {needed}; left out: {dropped}")
    out.mkdir(parents=True, exist_ok=True)
    with step("events, second time"):
        seen = _Seen(dropped)
        with closing(
            in_order_of_time(seen.watch(_of_known(source.interactions(dropped), known, dropped)), out)
        ) as events:
            _write(out / EVENTS, _columns(events))
    if touched and not seen.events:
        raise DatasetError(f"{name}: nothing is left: no event of an item with {needed}")
    _write(out / ITEMS, _item_columns(known))
    summary = DatasetSummary(
        source=name,
        users=len(seen.users),
        items=len(known),
        events=seen.events,
        from_time=seen.first,
        to_time=seen.last,
        labels={label: counts[label] for label in sorted(kept)},
        dropped=dict(dropped.counts.most_common()),
        examples=dropped.examples,
        noted=dict(dropped.notes.most_common()),
    )
    (out / SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    return summary


def _items(
    source: Source,
    touched: set[str],
    rule: LabelRule,
    pictures: Mapping[str, str] | None,
    dropped: Dropped,
    *,
    pictureless: bool,
    uncategorized: bool,
) -> dict[str, _Known]:
    """Items with a picture and labels, or without what need not be: those that were touched, or all where there are no events."""
    known: dict[str, _Known] = {}
    described: set[str] = set()
    for item in source.items(dropped):
        if (touched and item.item not in touched) or item.item in known:
            continue
        described.add(item.item)
        picture = item.picture if pictures is None else pictures.get(item.item, "")
        labels = labels_of(item.paths, rule)
        if not picture and not pictureless:
            dropped.add("item_without_picture", item.item)
        elif not labels and not uncategorized:
            dropped.add("item_without_category", item.item)
        else:
            if not labels:
                dropped.note("item_without_category", item.item)
            known[item.item] = _Known(_from_anywhere(picture), labels)
    for item in touched - described:
        dropped.add("item_not_described", item)
    return known


def _from_anywhere(picture: str) -> str:
    """A file's path from the root, since a data set is read from other folders than it was made in; URLs of any scheme as they are."""
    return picture if not picture or is_url(picture) else str(Path(picture).absolute())


def _of_known(events: Iterable[DatasetEvent], known: Mapping[str, _Known], dropped: Dropped) -> Iterator[DatasetEvent]:
    for event in events:
        if event.item in known:
            yield event
        else:
            dropped.add("event_of_item_left_out", f"{event.user} {event.item}")


class _Seen:
    """What went by; `dropped` is told of times that went backwards, which are sorted afterwards."""

    def __init__(self, dropped: Dropped) -> None:
        self._dropped = dropped
        self.users: set[str] = set()
        self.events, self.first, self.last = 0, 0, 0

    def watch(self, events: Iterable[DatasetEvent]) -> Iterator[DatasetEvent]:
        for event in events:
            if self.events and event.time < self.last:
                self._dropped.note("event_after_a_later_one", f"{event.user} {event.item}")
            self.first = min(self.first, event.time) if self.events else event.time
            self.last = max(self.last, event.time)
            self.users.add(event.user)
            self.events += 1
            yield event


def in_order_of_time(events: Iterator[DatasetEvent], folder: Path, size: int = RUN) -> Generator[DatasetEvent]:
    """The events sorted by time, those of one time in the order in which they come.

    What is more than `size` events goes through a file in `folder`, in sorted runs that are merged: memory holds one run, then
    `MERGED` events of each.
    """
    by_time = attrgetter("time")
    first = sorted(islice(events, size), key=by_time)
    following = sorted(islice(events, size), key=by_time)
    if not following:
        yield from first
        return
    path = folder / RUNS

    def runs() -> Iterator[dict[str, list[Any]]]:
        run = following
        yield _as_columns(first)
        while run:
            yield _as_columns(run)
            run = sorted(islice(events, size), key=by_time)

    try:
        _write(path, runs())
        with parquet_module().ParquetFile(path, buffer_size=PAGE) as file:
            yield from merge(*(_run(file, number) for number in range(file.num_row_groups)), key=by_time)
    finally:
        path.unlink(missing_ok=True)


def _run(file: Any, number: int) -> Iterator[DatasetEvent]:
    for batch in file.iter_batches(MERGED, row_groups=[number], columns=list(DatasetEvent._fields)):
        yield from map(DatasetEvent, *(batch.column(name).to_pylist() for name in DatasetEvent._fields))


def _columns(events: Iterator[DatasetEvent]) -> Iterator[dict[str, list[Any]]]:
    while True:
        rows = list(islice(events, ROWS))
        yield _as_columns(rows)
        if len(rows) < ROWS:
            return


def _as_columns(rows: list[DatasetEvent]) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in DatasetEvent._fields}


def _item_columns(known: Mapping[str, _Known]) -> Iterator[dict[str, list[Any]]]:
    yield {
        "item": list(known),
        "image": [one.picture for one in known.values()],
        "categories": [list(one.labels) for one in known.values()],
    }


def _write(path: Path, pieces: Iterator[dict[str, list[Any]]]) -> None:
    """A Parquet file; one that is not whole is not left behind."""
    parquet = parquet_module()
    import pyarrow as pa  # noqa: PLC0415  (an extra)

    types = {"time": pa.int64(), "categories": pa.list_(pa.string())}
    part = path.with_suffix(".part")
    writer: Any = None
    try:
        for piece in pieces:
            table = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in piece.items()})
            writer = writer or parquet.ParquetWriter(part, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    part.replace(path)
