"""A folder of pictures for each category. Each picture is an item; its folders are its category path. There are no events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from offline_training.datasets.ids import item_id
from offline_training.datasets.picture_files import SUFFIXES
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem, Dropped

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test"})  # folders that are no categories


@dataclass(frozen=True)
class ClassFolder:
    """A `DatasetSource` of one folder."""

    folder: Path

    @property
    def folders(self) -> Sequence[Path]:
        return (self.folder,)

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        del dropped
        return iter(())

    def items(self, dropped: Dropped) -> Iterator[DatasetItem]:
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: there is no such folder")
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file():
                continue
            name = path.relative_to(self.folder)
            if path.suffix.lower() not in SUFFIXES:
                dropped.add("no_picture", name)
                continue
            folders = name.parts[:-1]
            if folders and folders[0].lower() in SPLITS:
                folders = folders[1:]
            item = item_id(name.as_posix(), name, dropped)
            if item:
                yield DatasetItem(item, PictureRef(str(path)), (folders,) if folders else ())
