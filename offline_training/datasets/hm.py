"""The H&M data of the Kaggle competition "H&M Personalized Fashion Recommendations": transactions, articles, pictures.

Whole or an excerpt, CSV or Parquet. A category is a path of a field and its value, such as colour group > Black.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offline_training.datasets import files, tables
from offline_training.datasets.records import DatasetError, DatasetEvent, Dropped, Item
from offline_training.progress import Advance

FIELDS = (
    "product_type_name",
    "product_group_name",
    "colour_group_name",
    "index_name",
    "section_name",
    "garment_group_name",
)
TRANSACTIONS = ("transactions_train.csv", "transactions_train.csv.gz", "purchases.parquet", "purchases.csv")
ARTICLES = ("articles.csv", "articles.csv.gz", "articles.parquet")


def find(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of these files that is there. Raises DatasetError."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder}: expected one of {', '.join(names)}, found none")


@dataclass(frozen=True)
class HM:
    """A `records.Source`."""

    folder: Path
    transactions: Path | None = None
    advance: Advance = files.nothing

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        path = self.transactions or find(self.folder, TRANSACTIONS)
        for row in tables.records(path, tables.EVENT_COLUMNS, dropped, self.advance):
            found = tables.interaction(row["user"], row["item"], "purchase", row["time"], dropped)
            if found is not None:
                yield found

    def items(self, dropped: Dropped) -> Iterator[Item]:
        needed = {name: (name,) for name in FIELDS} | {"item": ("article_id",)}
        for row in tables.records(find(self.folder, ARTICLES), needed, dropped, self.advance):
            item = str(row["item"]).strip().zfill(10)
            paths = tuple(
                (name.removesuffix("_name").replace("_", " "), str(row[name])) for name in FIELDS if row[name]
            )
            yield Item(item, self._picture(item), paths)

    def _picture(self, item: str) -> str:
        for path in (
            self.folder / "images" / item[:3] / f"{item}.jpg",
            self.folder / "images" / f"{item}.jpg",
        ):
            if path.is_file():
                return str(path)
        return ""
