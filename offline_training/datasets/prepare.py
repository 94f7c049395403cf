"""Writes a data set as the folder that training and replay read: `events.parquet`, `items.parquet` and `dataset.json`.

The events are read twice and the items once. Memory holds only the items that have an event, however large the metadata is.
Events are written in time order; events of one time keep the order of the source.
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

from offline_training.datasets.ids import matching_key, same_ids
from offline_training.datasets.labels import LabelRule, labels_of, vocabulary
from offline_training.datasets.parquet import parquet_module
from offline_training.datasets.picture_files import pictures_by_item
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import (
    NOT_DECODED,
    DatasetError,
    DatasetEvent,
    DatasetItem,
    DatasetSource,
    Dropped,
    unpaired,
)

EVENTS, ITEMS, SUMMARY = "events.parquet", "items.parquet", "dataset.json"
RUNS = "events.runs"  # temporary file of the external sort
ROWS = 65_536  # rows per write
RUN = 4 * ROWS  # events that are sorted in memory; more are merged from disk
MERGED = 1024  # events of each sorted run in memory during the merge
PAGE = 64 * 1024  # bytes read from a column at a time; pyarrow's default is the whole run

ShowStep = Callable[[str], AbstractContextManager[object]]
"""Opens a progress bar with a title."""


class DatasetSummary(msgspec.Struct, frozen=True):
    """The contents of `dataset.json`."""

    source: str
    users: int
    items: int
    events: int
    from_time: int  # milliseconds since the epoch
    to_time: int
    labels: dict[str, int]  # number of items with each label
    dropped: dict[str, int]
    examples: dict[str, str]
    noted: dict[str, int] = {}
    """What was kept and is worth knowing, with its count."""
    untouched: int = 0
    """Items that were left out because no event names them."""
    of_every_item: list[str] = []
    """Labels that were left out because every item has them: they tell no item from another."""
    pictures_in: list[str] = []
    """Folders and archives that local pictures may be in, besides the folder itself."""


def summary_of(folder: Path) -> DatasetSummary | None:
    """Read `dataset.json` of a prepared data set; None without one. Raises DatasetError when it is damaged."""
    path = folder / SUMMARY
    try:
        return msgspec.json.decode(path.read_bytes(), type=DatasetSummary) if path.is_file() else None
    except msgspec.DecodeError as error:
        raise DatasetError(f"{path}: {error}: prepare the data set again with `tastestream dataset`") from error


def picture_folders(folder: Path, summary: DatasetSummary | None) -> PictureFolders:
    """Where the local pictures of the prepared data set in `folder` may be."""
    return PictureFolders([folder, *map(Path, summary.pictures_in if summary else ())])


class _KeptItem(NamedTuple):
    picture: PictureRef | None
    labels: tuple[str, ...]


def prepare(
    source: DatasetSource,
    name: str,
    out: Path,
    *,
    rule: LabelRule,
    pictures: Path | None,
    step: ShowStep,
    pictureless: bool = False,
    untouched: bool = False,
    uncategorized: bool = False,
) -> DatasetSummary:
    """Read `source` and write the folder `out`, replacing a data set that is there.

    Args:
        source: the data set to read.
        name: describes the source in the summary.
        out: the folder to write.
        rule: which categories become labels.
        pictures: a folder or an archive of pictures named by item, to use instead of those that the source names.
        step: shows the progress.
        pictureless: keep items without a picture; their embeddings must come from elsewhere.
        untouched: keep items without an event, too; their labels teach what pictures look like.
        uncategorized: keep items without a category; they can be replayed, but training ignores them.

    Returns:
        The contents of `dataset.json`.

    Raises:
        DatasetError: something is missing, or nothing is left.
    """
    dropped, unread = Dropped(), Dropped()
    folders = PictureFolders(source.folders if pictures is None else [pictures])
    by_item = None if pictures is None else pictures_by_item(pictures, dropped)
    with step("events, first pass"):
        touched = {event.item for event in source.interactions(unread)}
    if unread.counts and not touched:
        raise DatasetError(f"{name}: nothing is left: no event can be read; left out: {unread.explained()}")
    with step("items"):
        described, without_event = _described_items(
            source, None if untouched or not touched else touched, rule, dropped
        )
    means = same_ids(touched, described)
    for item in sorted(touched - means.keys()):
        dropped.add("item_not_described", item)
    if touched and not untouched:
        meant = set(means.values())
        described = {item: found for item, found in described.items() if item in meant}  # in the order of the source
    pictured = _pictured(described, by_item, folders, dropped)
    kept = dict(_kept_items(pictured, dropped, pictureless=pictureless, uncategorized=uncategorized))
    counts = Counter(label for item in kept.values() for label in item.labels)
    frequent = set(vocabulary(counts, len(kept), rule))
    of_all = {label for label, count in counts.items() if count == len(kept) and label not in frequent}
    for name_of_item, item in list(kept.items()):
        labels = tuple(label for label in item.labels if label in frequent)
        kept[name_of_item] = _KeptItem(item.picture, labels)
        if not labels and item.labels:
            reason = (
                "item_with_labels_of_every_item_only"
                if of_all.issuperset(item.labels)
                else "item_without_frequent_label"
            )
            (dropped.note if uncategorized else dropped.add)(reason, f"{name_of_item}: {', '.join(item.labels)}")
            if not uncategorized:
                del kept[name_of_item]
    needed = "a picture" if uncategorized else "a picture and a label"
    if not kept:
        raise DatasetError(f"{name}: nothing is left: no item with {needed}; left out: {dropped.explained()}")
    out.mkdir(parents=True, exist_ok=True)
    with step("events, second pass"):
        seen = _Seen(dropped)
        with closing(
            in_time_order(seen.watch(_of_kept_items(source.interactions(dropped), means, kept, dropped)), out)
        ) as events:
            _write(out / EVENTS, _columns(events))
    if touched and not seen.events:
        raise DatasetError(
            f"{name}: nothing is left: no event of an item with {needed}; left out: {dropped.explained()}"
        )
    _write(out / ITEMS, _item_columns(kept))
    summary = DatasetSummary(
        source=name,
        users=len(seen.users),
        items=len(kept),
        events=seen.events,
        from_time=seen.first,
        to_time=seen.last,
        labels={label: counts[label] for label in sorted(frequent)},
        dropped=dict(dropped.counts.most_common()),
        examples=dropped.examples,
        noted=dict(dropped.notes.most_common()),
        untouched=without_event,
        of_every_item=sorted(of_all),
        pictures_in=list(map(str, folders.paths)),
    )
    (out / SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    return summary


def _described_items(
    source: DatasetSource, touched: set[str] | None, rule: LabelRule, dropped: Dropped
) -> tuple[dict[str, _KeptItem], int]:
    """Read the items that `touched` may mean, by id. None stands for all items. Returns the number of the others, too."""
    keys = None if touched is None else set(map(matching_key, touched))
    described: dict[str, _KeptItem] = {}
    without_event = 0
    for item in source.items(dropped):
        if keys is not None and matching_key(item.item) not in keys:
            without_event += 1
        elif item.item not in described:
            described[item.item] = _KeptItem(item.picture, labels_of(_decoded(item, dropped), rule))
    return described, without_event


def _decoded(item: DatasetItem, dropped: Dropped) -> Iterator[tuple[str, ...]]:
    """The category paths of an item, each up to the first name that could not be decoded."""
    for path in item.paths:
        bad = next((level for level, name in enumerate(path) if unpaired(name)), None)
        if bad is not None:
            dropped.add("category_not_decoded", f"{item.item}: {path[bad]} {NOT_DECODED}")
        yield path[:bad]


def _pictured(
    described: Mapping[str, _KeptItem],
    by_item: Mapping[str, PictureRef] | None,
    folders: PictureFolders,
    dropped: Dropped,
) -> Iterator[tuple[str, _KeptItem]]:
    """Choose the picture of each item: that in `by_item`, or its own one, if it is on the web or in one of the folders."""
    named = same_ids(described.keys(), by_item or {})
    for item, (own, labels) in described.items():
        picture = by_item[named[item]] if by_item and item in named else own
        if picture is not None and unpaired(picture.text):
            dropped.add("picture_not_decoded", f"{item}: {picture} {NOT_DECODED}")
            picture = None
        elif picture is not None and picture.is_url:
            picture = picture if by_item is None else None
        elif picture is not None and picture not in folders:
            dropped.add("picture_outside_the_data_set", f"{item}: {picture}; name its folder with --pictures")
            picture = None
        yield item, _KeptItem(picture, labels)


def _kept_items(
    pictured: Iterable[tuple[str, _KeptItem]], dropped: Dropped, *, pictureless: bool, uncategorized: bool
) -> Iterator[tuple[str, _KeptItem]]:
    """Select the items to keep, with absolute paths of pictures."""
    for item, (picture, labels) in pictured:
        if picture is None and not pictureless:
            dropped.add("item_without_picture", item)
        elif not labels and not uncategorized:
            dropped.add("item_without_category", item)
        else:
            if not labels:
                dropped.note("item_without_category", item)
            yield item, _KeptItem(picture and picture.absolute(), labels)


def _of_kept_items(
    events: Iterable[DatasetEvent], means: Mapping[str, str], kept: Mapping[str, _KeptItem], dropped: Dropped
) -> Iterator[DatasetEvent]:
    """Select the events of items that are kept, under the ids in `kept`. means: the described item by the item of an event."""
    for event in events:
        item = means.get(event.item)
        if item is not None and item in kept:
            yield event if item == event.item else event._replace(item=item)
        else:
            dropped.add("event_of_item_left_out", f"{event.user} {event.item}")


class _Seen:
    """Counts the events that pass. Notes events that come after a later one; sorting puts them in order."""

    def __init__(self, dropped: Dropped) -> None:
        self._dropped = dropped
        self.users: set[str] = set()
        self.events, self.first, self.last = 0, 0, 0

    def watch(self, events: Iterable[DatasetEvent]) -> Iterator[DatasetEvent]:
        for event in events:
            if self.events and event.time < self.last:
                self._dropped.note("event_put_in_time_order", f"{event.user} {event.item}")
            self.first = min(self.first, event.time) if self.events else event.time
            self.last = max(self.last, event.time)
            self.users.add(event.user)
            self.events += 1
            yield event


def in_time_order(events: Iterator[DatasetEvent], folder: Path, size: int = RUN) -> Generator[DatasetEvent]:
    """Sort events by time. Events of one time keep their order.

    More than `size` events are sorted externally: sorted runs of `size` events go to a file in `folder` and are merged. Memory
    holds one run, then `MERGED` events of each run.
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


def _item_columns(kept: Mapping[str, _KeptItem]) -> Iterator[dict[str, list[Any]]]:
    yield {
        "item": list(kept),
        "image": [str(item.picture or "") for item in kept.values()],
        "categories": [list(item.labels) for item in kept.values()],
    }


def _write(path: Path, pieces: Iterator[dict[str, list[Any]]]) -> None:
    """Write a Parquet file under a temporary name, and rename it when it is complete."""
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
