"""The labelled pictures that the default bundle is trained on: files, categories and splits. Reads no pixels."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from offline_training.datasets.records import DatasetError

Split = Literal["train", "validation", "test"]

CLOTHING_NAMES = {"longsleeve": "long sleeve", "outwear": "outerwear"}
"""The folder names of the data set that are misspelt or joined, and the right words."""

GROCERY_CLASSES = "classes.csv"


@dataclass(frozen=True)
class LabelledPicture:
    """A photo of one category. `name` is its path within its source, which is the same on every machine."""

    path: Path
    name: str
    category: str
    source: str
    split: Split


def read_clothing(folder: Path) -> list[LabelledPicture]:
    """Read the clothing data set: `{train,validation,test}/<category>/*.jpg`."""
    splits: tuple[Split, ...] = ("train", "validation", "test")
    pictures = [
        _picture(folder, path, CLOTHING_NAMES.get(path.parent.name, path.parent.name), "clothing", split)
        for split in splits
        for path in sorted((folder / split).glob("*/*.jpg"))
    ]
    return _not_empty(pictures, folder, "train/<category>/*.jpg")


def read_grocery(folder: Path, *, fine: bool = False) -> list[LabelledPicture]:
    """Read the grocery store data set: lines `path, fine class, coarse class` in train.txt, val.txt and test.txt.

    Args:
        folder: the folder with classes.csv.
        fine: use its 81 fine classes (golden delicious) instead of the 43 coarse ones (apple).
    """
    if not (folder / GROCERY_CLASSES).is_file():
        raise DatasetError(f"{folder}: expected the grocery data set with {GROCERY_CLASSES}, found none: check --data")
    with (folder / GROCERY_CLASSES).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kind = "" if fine else "Coarse "
    names = {row[f"{kind}Class ID (int)"]: row[f"{kind}Class Name (str)"].lower().replace("-", " ") for row in rows}
    files: dict[Split, str] = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
    pictures: list[LabelledPicture] = []
    for split, name in files.items():
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            path, *classes = (part.strip() for part in line.split(","))
            pictures.append(_picture(folder, folder / path, names[classes[0 if fine else 1]], "grocery", split))
    return _not_empty(pictures, folder, "train.txt")


def read_catalogue(folder: Path) -> list[LabelledPicture]:
    """Read the demo's catalogue. The products that the demo shows, split `demo`, become the split `test`."""
    path = folder / "catalogue.json"
    if not path.is_file():
        raise DatasetError(f"{folder}: expected the demo's catalogue.json, found none: check --catalogue")
    products = json.loads(path.read_text(encoding="utf-8"))["products"]
    pictures = [
        _picture(
            folder,
            folder / product["file"],
            product["category"].lower(),
            "catalogue",
            "train" if product["split"] == "train" else "test",
        )
        for product in products
    ]
    return _not_empty(pictures, folder, "products in catalogue.json")


def category_names(pictures: list[LabelledPicture]) -> list[str]:
    """List the distinct categories: sources in order of appearance, categories sorted within a source."""
    by_source: dict[str, set[str]] = {}
    for picture in pictures:
        by_source.setdefault(picture.source, set()).add(picture.category)
    return list(dict.fromkeys(name for names in by_source.values() for name in sorted(names)))


def _picture(folder: Path, path: Path, category: str, source: str, split: Split) -> LabelledPicture:
    return LabelledPicture(path, f"{source}/{path.relative_to(folder).as_posix()}", category, source, split)


def _not_empty(pictures: list[LabelledPicture], folder: Path, expected: str) -> list[LabelledPicture]:
    if not pictures:
        raise DatasetError(f"{folder}: expected {expected}, found none: check --data and --catalogue")
    return pictures
