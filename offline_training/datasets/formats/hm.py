"""The data of the Kaggle competition "H&M Personalized Fashion Recommendations": transactions, articles and pictures.

Reads all of it or an excerpt, as CSV or Parquet. A category is a field and its value, such as colour group > Black.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from offline_training.datasets.formats import tables, text_files
from offline_training.datasets.formats.tables import text_of
from offline_training.datasets.ids import item_id
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem, Dropped
from offline_training.progress import Advance

FIELDS = (
    "product_type_name",
    "product_group_name",
    "colour_group_name",
    "index_name",
    "section_name",
    "garment_group_name",
)
"""Columns of the articles that become fields, unless others are named. The department, with some hundred values, is not among them."""
DIGITS = 10  # of an article id, which names its picture; a table of integers has lost the leading zeros
TRANSACTIONS = ("transactions_train.csv", "transactions_train.csv.gz", "purchases.parquet", "purchases.csv")
ARTICLES = ("articles.csv", "articles.csv.gz", "articles.parquet")


def field_name(column: str) -> str:
    """How the labels name the field of a column."""
    return column.removesuffix("_name").replace("_", " ")


def parsed_fields(text: str) -> tuple[str, ...]:
    """The columns that a list such as `product type, department` names. Raises DatasetError for an empty name or the same one twice."""
    names = [name.strip().replace(" ", "_").removesuffix("_name") for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise DatasetError(
            f"--fields {text!r}: expected different names, separated by commas, such as product type,department"
        )
    return tuple(f"{name}_name" for name in names)


def find(folder: Path, names: tuple[str, ...]) -> Path:
    """Find the first of these files that exists. Raises DatasetError when none does."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder}: expected one of {', '.join(names)}, found none")


@dataclass(frozen=True)
class HM:
    """A `DatasetSource` of the competition's folder."""

    folder: Path
    transactions: Path | None = None
    advance: Advance = text_files.nothing
    encoding: str | None = None
    fields: Sequence[str] = FIELDS

    @property
    def folders(self) -> Sequence[Path]:
        return (self.folder,)

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        path = self.transactions or find(self.folder, TRANSACTIONS)
        for row in tables.records(path, tables.EVENT_COLUMNS, dropped, self.advance, self.encoding):
            found = tables.interaction(row["user"], row["item"], "purchase", row["time"], dropped)
            if found is not None:
                yield found

    def items(self, dropped: Dropped) -> Iterator[DatasetItem]:
        needed = {name: (name,) for name in self.fields} | {"item": ("article_id",)}
        for row in tables.records(find(self.folder, ARTICLES), needed, dropped, self.advance, self.encoding):
            item = item_id(row["item"], row, dropped)
            if not item:
                continue
            item = item.zfill(DIGITS)
            paths = tuple((field_name(name), value) for name in self.fields if (value := text_of(row[name])))
            yield DatasetItem(item, self._picture(item), paths)

    def _picture(self, item: str) -> PictureRef | None:
        for path in (
            self.folder / "images" / item[:3] / f"{item}.jpg",
            self.folder / "images" / f"{item}.jpg",
        ):
            if path.is_file():
                return PictureRef(str(path))
        return None
