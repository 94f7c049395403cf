"""The labelled pictures that an embedder is fine-tuned on: which file, which category, which split. Reads no pixels."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from offline_training.datasets.folders import ClassFolder
from offline_training.datasets.labels import SEPARATOR
from offline_training.datasets.picture_files import place_in_archive
from offline_training.datasets.prepare import ITEMS
from offline_training.datasets.records import Dropped, Item
from offline_training.datasets.tables import Tables
from offline_training.embedders.exceptions import EmbedderError
from offline_training.embedders.pictures import GROCERY_CLASSES, Picture, Split, read_grocery

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
HELD_OUT_SHARE = 0.15
"""Of a category's pictures, for validation and for test each, where the data set has no splits of its own."""

HELD_OUT: tuple[Split, ...] = ("validation", "test")


def read_labelled(data: Path, level: int | None = None) -> list[Picture]:
    """Read a folder of classes, or a data set that `tastestream dataset` prepared.

    Args:
        data: a folder with a folder for each category, within `train`, `validation` and `test` or without them; or one with
            `items.parquet`, whose pictures are files; or the grocery store data set, whose levels are coarse and fine.
        level: how much of a category path names the category (1: its broadest part); None for all of it.

    Returns:
        Each picture once, sorted by name.

    Raises:
        EmbedderError: when a split is empty, there are fewer than two categories, or training lacks one of them.
        DatasetError: when there is nothing to read.
    """
    if not data.is_dir():
        raise EmbedderError(f"--data {data}: there is no such folder")
    pictures = read_grocery(data, fine=level != 1) if (data / GROCERY_CLASSES).is_file() else _read(data, level)
    _check(pictures, data)
    return sorted(pictures, key=lambda picture: picture.name)


def categories_of(pictures: Iterable[Picture]) -> list[str]:
    """Their categories, sorted: the order of the classification layer."""
    return sorted({picture.category for picture in pictures})


def _read(data: Path, level: int | None) -> list[Picture]:
    prepared = (data / ITEMS).is_file()
    source = Tables(None, data / ITEMS, data) if prepared else ClassFolder(data)
    dropped = Dropped()
    found = sorted(
        ((item, category) for item in source.items(dropped) if (category := _category(item.paths, level))),
        key=lambda pair: pair[0].item,
    )
    with_split = [pair for pair in found if _own_split(pair[0])]
    found = with_split or found  # beside train and test, other folders hold no examples
    if not found:
        raise EmbedderError(
            f"--data {data}: expected pictures in folders of categories, found none; left out: {dropped}"
        )
    drawn = _drawn_splits(found)
    return [
        Picture(_file(item, data), item.item, category, data.name, _own_split(item) or split)
        for (item, category), split in zip(found, drawn, strict=True)
    ]


def _category(paths: Sequence[tuple[str, ...]], level: int | None) -> str:
    """The longest path down to `level`; "" where there is none."""
    cut = [path[:level] for path in paths]
    return SEPARATOR.join(max(cut, key=len, default=()))


def _file(item: Item, data: Path) -> Path:
    """A prepared data set names pictures as it was given them: from the working folder, or from its own."""
    if "://" in item.picture:
        raise EmbedderError(f"{data}: {item.item} has its picture at {item.picture}: expected files, fetch them first")
    if place_in_archive(item.picture) is not None:
        raise EmbedderError(
            f"{data}: {item.item} has its picture at {item.picture}: expected files, unpack the archive first"
        )
    path = Path(item.picture)
    if path.is_file():
        return path
    outside = path.relative_to(data) if path.is_relative_to(data) else path
    if not outside.is_file():
        raise EmbedderError(f"{data}: {item.item} has its picture at {path}: there is no such file")
    return outside


def _own_split(item: Item) -> Split | None:
    """That which the first folder of its name says."""
    return SPLIT_FOLDERS.get(item.item.split("/")[0].lower())


def _drawn_splits(found: Sequence[tuple[Item, str]]) -> list[Split]:
    """By a hash of the name within each category, so that another picture hardly moves others from split to split."""
    splits: list[Split] = ["train"] * len(found)
    members: dict[str, list[int]] = {}
    for number, (_, category) in enumerate(found):
        members.setdefault(category, []).append(number)
    for numbers in members.values():
        drawn = sorted(numbers, key=lambda number: hashlib.sha256(found[number][0].item.encode()).digest())
        held_out = round(len(drawn) * HELD_OUT_SHARE)
        for place, split in enumerate(HELD_OUT):
            for number in drawn[place * held_out : (place + 1) * held_out]:
                splits[number] = split
    return splits


def _check(pictures: list[Picture], data: Path) -> None:
    counts = Counter(picture.split for picture in pictures)
    for split in ("train", *HELD_OUT):
        if not counts[split]:
            raise EmbedderError(
                f"--data {data}: expected pictures for {split}, found none (of {len(pictures)} pictures)"
            )
    trained = {picture.category for picture in pictures if picture.split == "train"}
    if len(trained) < 2:
        raise EmbedderError(
            f"--data {data}: expected two categories or more, found {', '.join(trained)}: check --level"
        )
    unknown = {picture.category for picture in pictures} - trained
    if unknown:
        raise EmbedderError(f"--data {data}: no training picture of {min(unknown)}, which validation or test has")
