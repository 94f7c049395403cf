"""The labelled pictures that an embedder is fine-tuned on: files, categories and splits. Reads no pixels."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from offline_training.datasets.formats.folders import ClassFolder
from offline_training.datasets.formats.tables import Tables
from offline_training.datasets.labels import SEPARATOR
from offline_training.datasets.prepare import ITEMS
from offline_training.datasets.records import DatasetItem, Dropped
from offline_training.embedders.exceptions import EmbedderError
from offline_training.embedders.training_data.pictures import GROCERY_CLASSES, LabelledPicture, Split, read_grocery

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
HELD_OUT_SHARE = 0.15
"""Share of the pictures of a category for validation, and again for test, when the data set has no splits."""

HELD_OUT: tuple[Split, ...] = ("validation", "test")


def read_labelled(data: Path, level: int | None = None) -> list[LabelledPicture]:
    """Read a folder of categories, or a data set that `tastestream dataset` prepared.

    Args:
        data: a folder with a folder for each category, with or without `train`, `validation` and `test` above them; or a folder
            with `items.parquet`, whose pictures are files; or the grocery store data set, whose levels are coarse and fine.
        level: number of levels of a category path that name the category (1: its broadest part); None for all of them.

    Returns:
        Each picture once, sorted by name.

    Raises:
        EmbedderError: a split is empty, there are fewer than two categories, or training lacks one of them.
        DatasetError: there is nothing to read.
    """
    if not data.is_dir():
        raise EmbedderError(f"--data {data}: there is no such folder")
    pictures = read_grocery(data, fine=level != 1) if (data / GROCERY_CLASSES).is_file() else _read(data, level)
    _check(pictures, data)
    return sorted(pictures, key=lambda picture: picture.name)


def categories_of(pictures: Iterable[LabelledPicture]) -> list[str]:
    """List their categories, sorted: the order of the classification layer."""
    return sorted({picture.category for picture in pictures})


def _read(data: Path, level: int | None) -> list[LabelledPicture]:
    prepared = (data / ITEMS).is_file()
    source = Tables(None, data / ITEMS, data) if prepared else ClassFolder(data)
    dropped = Dropped()
    found = sorted(
        ((item, category) for item in source.items(dropped) if (category := _category(item.paths, level))),
        key=lambda pair: pair[0].item,
    )
    with_split = [pair for pair in found if _own_split(pair[0])]
    found = with_split or found  # a folder beside train and test holds no examples
    if not found:
        raise EmbedderError(
            f"--data {data}: expected pictures in folders of categories, found none; left out: {dropped}"
        )
    drawn = _drawn_splits(found)
    return [
        LabelledPicture(_file(item, data), item.item, category, data.name, _own_split(item) or split)
        for (item, category), split in zip(found, drawn, strict=True)
    ]


def _category(paths: Sequence[tuple[str, ...]], level: int | None) -> str:
    """Cut the paths at `level` and take the longest; "" when there is none."""
    cut = [path[:level] for path in paths]
    return SEPARATOR.join(max(cut, key=len, default=()))


def _file(item: DatasetItem, data: Path) -> Path:
    """Find the file of a picture. Its path is relative to the data set's folder, or to the working folder."""
    picture = item.picture
    if picture is None:
        raise EmbedderError(f"{data}: {item.item} has no picture: expected files")
    if picture.is_url:
        raise EmbedderError(f"{data}: {item.item} has its picture at {picture}: expected files, fetch them first")
    if picture.archive_member is not None:
        raise EmbedderError(
            f"{data}: {item.item} has its picture at {picture}: expected files, unpack the archive first"
        )
    path = picture.path
    if path.is_file():
        return path
    outside = path.relative_to(data) if path.is_relative_to(data) else path
    if not outside.is_file():
        raise EmbedderError(f"{data}: {item.item} has its picture at {path}: there is no such file")
    return outside


def _own_split(item: DatasetItem) -> Split | None:
    """The split that the first folder of its name says."""
    return SPLIT_FOLDERS.get(item.item.split("/")[0].lower())


def _drawn_splits(found: Sequence[tuple[DatasetItem, str]]) -> list[Split]:
    """Draw splits by a hash of the name within each category: adding a picture moves hardly any other."""
    splits: list[Split] = ["train"] * len(found)
    members: dict[str, list[int]] = {}
    for number, (_, category) in enumerate(found):
        members.setdefault(category, []).append(number)
    for numbers in members.values():
        drawn = sorted(numbers, key=lambda number: hashlib.sha256(found[number][0].item.encode()).digest())
        held_out = round(len(drawn) * HELD_OUT_SHARE)
        for part, split in enumerate(HELD_OUT):
            for number in drawn[part * held_out : (part + 1) * held_out]:
                splits[number] = split
    return splits


def _check(pictures: list[LabelledPicture], data: Path) -> None:
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
