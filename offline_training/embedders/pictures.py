"""The labelled pictures that the default bundle learns from: which files, which category, which split. Reads no pixels."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from offline_training.datasets.records import DatasetError

Split = Literal["train", "validation", "test"]

CLOTHING_NAMES = {"longsleeve": "long sleeve", "outwear": "outerwear"}
"""The data set's folder names that are no words."""

GROCERY_CLASSES = "classes.csv"


@dataclass(frozen=True)
class Picture:
    """One photo of one category. `name` is its path within its source: stable between machines."""

    path: Path
    name: str
    category: str
    source: str
    split: Split


def read_clothing(folder: Path) -> list[Picture]:
    """The clothing data set: `{train,validation,test}/<category>/*.jpg`."""
    splits: tuple[Split, ...] = ("train", "validation", "test")
    pictures = [
        _picture(folder, path, CLOTHING_NAMES.get(path.parent.name, path.parent.name), "clothing", split)
        for split in splits
        for path in sorted((folder / split).glob("*/*.jpg"))
    ]
    return _not_empty(pictures, folder, "train/<category>/*.jpg")


def read_grocery(folder: Path, *, fine: bool = False) -> list[Picture]:
    """The grocery store data set: lines `path, fine class, coarse class` in train.txt, val.txt and test.txt.

    fine: its 81 classes (golden delicious), instead of the 43 coarse ones (apple).
    """
    if not (folder / GROCERY_CLASSES).is_file():
        raise DatasetError(f"{folder}: expected the grocery data set with {GROCERY_CLASSES}, found none: check --data")
    with (folder / GROCERY_CLASSES).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kind = "" if fine else "Coarse "
    names = {row[f"{kind}Class ID (int)"]: row[f"{kind}Class Name (str)"].lower().replace("-", " ") for row in rows}
    files: dict[Split, str] = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
    pictures: list[Picture] = []
    for split, name in files.items():
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            path, *classes = (part.strip() for part in line.split(","))
            pictures.append(_picture(folder, folder / path, names[classes[0 if fine else 1]], "grocery", split))
    return _not_empty(pictures, folder, "train.txt")


def read_catalogue(folder: Path) -> list[Picture]:
    """The demo's catalogue: products of `catalogue.json` with split `train`, and those the demo shows, split `demo`, as `test`."""
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


def category_names(pictures: list[Picture]) -> list[str]:
    """Distinct categories in the order of their first appearance by source, sorted within a source."""
    by_source: dict[str, set[str]] = {}
    for picture in pictures:
        by_source.setdefault(picture.source, set()).add(picture.category)
    return list(dict.fromkeys(name for names in by_source.values() for name in sorted(names)))


def _picture(folder: Path, path: Path, category: str, source: str, split: Split) -> Picture:
    return Picture(path, f"{source}/{path.relative_to(folder).as_posix()}", category, source, split)


def _not_empty(pictures: list[Picture], folder: Path, expected: str) -> list[Picture]:
    if not pictures:
        raise DatasetError(f"{folder}: expected {expected}, found none: check --data and --catalogue")
    return pictures
