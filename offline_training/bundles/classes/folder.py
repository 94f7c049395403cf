"""Reads a folder of classes: one sub-folder for each class, with its pictures in it, and nothing below."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.embedder import Backbone
from model.exceptions import PictureError
from model.limits import MAX_PICTURE_BYTES
from model.preprocessing import decode_picture
from model.quantization import dequantize
from offline_training.datasets.picture_files import SUFFIXES, PictureFiles
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError, Dropped
from offline_training.progress import Step
from streams.text import visible

LEAST = 2
"""Pictures of a class, so that each can be named by the others."""
ENOUGH = 5
"""Pictures of a class to start with."""
BATCH = 32  # pictures in one call of the backbone


@dataclass(frozen=True)
class ClassPictures:
    """N pictures of C classes.

    Attributes:
        classes: C names, sorted.
        names: N paths within the folder.
        numbers: int64 [N], the class of each picture.
        features: float32 [N, f], as stored.
    """

    classes: list[str]
    names: list[str]
    numbers: NDArray[np.int64]
    features: NDArray[np.float32]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pictures of each class, int64 [C]."""
        return np.bincount(self.numbers, minlength=len(self.classes))


def find_pictures(folder: Path, dropped: Dropped) -> dict[str, list[Path]]:
    """Find the picture files of each class, sorted.

    Raises:
        DatasetError: there is no such folder, there are fewer than two classes, a class has folders inside, too few pictures, or a
            name that cannot be shown.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            dropped.add("outside_of_the_classes", path.name)
            continue
        if not path.name.isprintable():
            raise DatasetError(
                f"{folder}: expected names of classes in printable characters, found {visible(path.name)!r}"
            )
        found[path.name] = []
        for inside in sorted(path.iterdir()):
            if inside.is_dir():
                raise DatasetError(
                    f"{folder}: expected pictures in the folder of a class, found the folder {path.name}/{inside.name}: "
                    f"name a folder further down, such as {path}, or move the pictures up"
                )
            if inside.suffix.lower() in SUFFIXES:
                found[path.name].append(inside)
            elif not inside.name.startswith("."):
                dropped.add("no_picture", f"{path.name}/{inside.name}")
    if len(found) < 2:
        raise DatasetError(
            f"{folder}: expected a sub-folder for each of two classes or more, found {', '.join(found) or 'none'}"
        )
    _check_counts(folder, {name: len(paths) for name, paths in found.items()}, dropped)
    return found


def read_classes(folder: Path, backbone: Backbone, dropped: Dropped, step: Step) -> ClassPictures:
    """Read the pictures and make their features. Broken pictures, and further copies of a picture, are left out and counted.

    Raises:
        DatasetError: see `find_pictures`; one picture is in two classes; or a class has fewer than two pictures that can be read.
    """
    found = find_pictures(folder, dropped)
    classes = list(found)
    names: list[str] = []
    numbers: list[int] = []
    rows: list[bytes] = []
    waiting: list[NDArray[np.uint8]] = []
    seen: dict[bytes, str] = {}

    def embed() -> None:
        if waiting:
            rows.extend(backbone.features(np.stack(waiting)))
            waiting.clear()

    with (
        PictureFiles(PictureFolders([folder]), MAX_PICTURE_BYTES) as files,
        step(f"embedding {folder.name}", sum(map(len, found.values()))) as advance,
    ):
        for number, paths in enumerate(found.values()):
            for path in paths:
                name = path.relative_to(folder).as_posix()
                advance(1)
                try:
                    content = files.read(PictureRef(str(path)))
                    picture = decode_picture(content, backbone.image_size)
                except PictureError as error:
                    dropped.add(error.reason, f"{name}: {error}")
                    continue
                first = seen.setdefault(hashlib.sha256(content).digest(), name)
                if first != name:
                    if not first.startswith(f"{classes[number]}/"):
                        raise DatasetError(f"{folder}: expected a picture in one class, found {first} again as {name}")
                    dropped.add("second_copy_of_a_picture", f"{name}, of {first}")
                    continue
                names.append(name)
                numbers.append(number)
                waiting.append(picture)
                if len(waiting) == BATCH:
                    embed()
        embed()
    made = ClassPictures(
        classes, names, np.array(numbers, np.int64), dequantize(rows, backbone.feature_size).reshape(len(rows), -1)
    )
    _check_counts(folder, dict(zip(classes, made.counts.tolist(), strict=True)), dropped)
    return made


def _check_counts(folder: Path, counts: dict[str, int], dropped: Dropped) -> None:
    """Raise DatasetError when a class has too few pictures."""
    for name, count in counts.items():
        if count < LEAST:
            left_out = f" (left out: {dropped.explained().strip()})" if dropped.counts else ""
            raise DatasetError(
                f"{folder}: expected {LEAST} pictures or more of each class, better {ENOUGH}, "
                f"found {count} of {name!r}{left_out}"
            )
