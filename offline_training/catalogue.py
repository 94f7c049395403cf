"""The items of a prepared data set in memory: what is known of each picture, row by row.

Embeddings come from a file, for they are computed once for a catalogue, and serve every experiment.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder
from model.exceptions import PictureError
from model.preprocessing import decode_picture
from offline_training.datasets.prepare import ITEMS, SUMMARY, Summary
from offline_training.datasets.records import DatasetError, Dropped
from offline_training.datasets.tables import parquet_module
from offline_training.progress import Step

BATCH = 32
IDS, EMBEDDINGS = "ids", ("embeddings", "emb")


@dataclass(frozen=True)
class Catalogue:
    """N items and D labels.

    embeddings: float32 [N, d]. matrix: bool [N, D], which item has which label. Both in the order of the names.
    """

    items: list[str]
    labels: list[str]
    embeddings: NDArray[np.float32]
    matrix: NDArray[np.bool_]
    missing: int
    """Items of the data set that have no embedding, and are left out."""
    pictures: dict[str, str] = field(default_factory=dict[str, str])
    """Paths of the items' pictures, where they are local files."""


def read_catalogue(folder: Path, embeddings: Path) -> Catalogue:
    """The items of the prepared data set `folder` that `embeddings` knows.

    Args:
        folder: what `tastestream dataset` wrote.
        embeddings: a `.npz` file with `ids` [n] and `embeddings` (or `emb`) float [n, d].

    Raises:
        DatasetError: when something is missing, or no item has an embedding.
    """
    labels = list(read_summary(folder).labels)
    table = parquet_module().read_table(_existing(folder / ITEMS), columns=["item", "image", "categories"])
    ids, vectors = read_embeddings(embeddings)
    found = {name: row for row, name in enumerate(ids)}
    column = {name: number for number, name in enumerate(labels)}
    items: list[str] = []
    rows: list[int] = []
    columns: list[list[int]] = []
    missing = 0
    for item, names in zip(table["item"].to_pylist(), table["categories"].to_pylist(), strict=True):
        row = found.get(item)
        if row is None:
            missing += 1
            continue
        items.append(item)
        rows.append(row)
        columns.append([column[name] for name in names])
    if not items:
        raise DatasetError(
            f"{embeddings}: none of its {len(ids)} ids, the first {ids[0]!r}, is an item of {folder}, "
            f"which has {missing}, the first {table['item'][0].as_py()!r}"
        )
    matrix = np.zeros((len(items), len(labels)), bool)
    for row, numbers in enumerate(columns):
        matrix[row, numbers] = True
    images = zip(table["item"].to_pylist(), table["image"].to_pylist(), strict=True)
    pictures = {item: image for item, image in images if is_local(image)}
    return Catalogue(items, labels, vectors[rows].astype(np.float32), matrix, missing, pictures)


def is_local(picture: str) -> bool:
    """Whether it is a path, no URL and not "", which stands for none."""
    return bool(picture) and "://" not in picture


def read_summary(folder: Path) -> Summary:
    """`dataset.json` of a prepared data set. Raises DatasetError."""
    path = _existing(folder / SUMMARY)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except msgspec.DecodeError as error:
        raise DatasetError(f"{path}: {error}: prepare the data set again") from error


def read_embeddings(path: Path) -> tuple[list[str], NDArray[Any]]:
    """Names, and their embeddings float [n, d] as they are stored. Raises DatasetError."""
    try:
        with np.load(_existing(path)) as arrays:
            name = next((name for name in EMBEDDINGS if name in arrays.files), "")
            if IDS not in arrays.files or not name:
                raise DatasetError(f"{path}: expected the arrays ids and embeddings, found {', '.join(arrays.files)}")
            ids, vectors = arrays[IDS], arrays[name]
    except (ValueError, OSError, BadZipFile) as error:
        raise DatasetError(f"{path}: not a file of arrays (.npz): {error}") from error
    if vectors.ndim != 2 or len(ids) != len(vectors) or not len(ids):
        raise DatasetError(f"{path}: expected ids [n] and embeddings [n, d], found {ids.shape} and {vectors.shape}")
    return [str(name) for name in cast("list[object]", ids.tolist())], vectors


def embed_catalogue(folder: Path, embedder: Embedder, out: Path, step: Step) -> Dropped:
    """Embed the pictures of a prepared data set to `out`, which `read_catalogue` reads; tells what was left out.

    Pictures that `out` has are not embedded again, and what is done is kept when it is interrupted.

    Raises:
        DatasetError: when no picture can be read, or `out` is of another embedder.
    """
    table = parquet_module().read_table(_existing(folder / ITEMS), columns=["item", "image"])
    pictures = dict(zip(table["item"].to_pylist(), table["image"].to_pylist(), strict=True))
    known: dict[str, NDArray[np.float32]] = {}
    if out.is_file():
        ids, vectors = read_embeddings(out)
        if vectors.shape[1] != embedder.embedding_size:
            raise DatasetError(
                f"{out} has {vectors.shape[1]} numbers for an item, not {embedder.embedding_size}: remove it"
            )
        known = dict(zip(ids, vectors, strict=True))
    dropped = Dropped()
    missing = [item for item in pictures if item not in known]
    with step("embedding", len(missing)) as advance:
        try:
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                decoded = {
                    item: pixels
                    for item in batch
                    if (pixels := _pixels(item, pictures[item], embedder, dropped)) is not None
                }
                if decoded:
                    known |= zip(decoded, embedder.embed(np.stack(list(decoded.values()))), strict=True)
                advance(len(batch))
        finally:
            if known:
                out.parent.mkdir(parents=True, exist_ok=True)
                np.savez(out, ids=np.array(list(known)), embeddings=np.stack(list(known.values())))
    if not known:
        raise DatasetError(f"{folder}: none of its {len(pictures)} pictures could be read: {dropped}")
    return dropped


def _pixels(item: str, picture: str, embedder: Embedder, dropped: Dropped) -> NDArray[np.uint8] | None:
    if not is_local(picture):
        dropped.add("no_local_picture", f"{item} {picture}")
        return None
    try:
        return decode_picture(Path(picture).read_bytes(), embedder.image_size)
    except OSError as error:
        dropped.add("unreadable_picture", f"{item} {error}")
    except PictureError as error:
        dropped.add(error.reason, f"{item} {picture}: {error}")
    return None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file: `tastestream dataset` makes the folder")
    return path
