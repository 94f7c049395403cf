"""The items of a prepared data set in memory: what is known of each picture, row by row.

Embeddings come from a file, for they are computed once for a catalogue, and serve every experiment.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, cast
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder
from model.exceptions import PictureError
from model.preprocessing import decode_picture
from offline_training.datasets.picture_files import MAX_BYTES, PictureFiles
from offline_training.datasets.prepare import ITEMS, SUMMARY, DatasetSummary
from offline_training.datasets.records import DatasetError, Dropped, is_url
from offline_training.datasets.tables import parquet_module
from offline_training.progress import Step

BATCH = 32
IDS, EMBEDDINGS, EMBEDDER = "ids", ("embeddings", "emb"), "embedder"
WRITE_EVERY, WRITE_SHARE = (
    60.0,
    20,
)  # seconds between two writings of what is done, and at least so many times what one takes


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
    """Items of the data set that have a category but no embedding, and are left out, as those without a category are."""
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
    labelled = [
        pair for pair in zip(*(table[name].to_pylist() for name in ("item", "categories")), strict=True) if pair[1]
    ]
    if not labelled:
        raise DatasetError(
            f"{folder}: none of its {len(table)} items has a category, so there is nothing to learn or to be right about: "
            "prepare it with a table of categories"
        )
    for item, names in labelled:
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
    return bool(picture) and not is_url(picture)


def read_summary(folder: Path) -> DatasetSummary:
    """`dataset.json` of a prepared data set. Raises DatasetError."""
    path = _existing(folder / SUMMARY)
    try:
        return msgspec.json.decode(path.read_bytes(), type=DatasetSummary)
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


Outcome = tuple[str, NDArray[np.float32] | tuple[str, str]]
"""A picture and its embedding, float32 [d], or the reason and the message why there is none."""

EmbedAll = Callable[[Sequence[str]], Generator[Outcome]]
"""Embeds pictures, each of which stands in the list once; the outcomes come in any order."""


def embed_catalogue(
    folder: Path, embedder: Embedder, out: Path, step: Step, *, by_url: EmbedAll, max_bytes: int = MAX_BYTES
) -> Dropped:
    """Embed the pictures of a prepared data set to `out`, which `read_catalogue` reads; tells what was left out.

    Pictures that `out` has are not embedded again, and what is done is kept when it is interrupted.

    Args:
        by_url: for the pictures whose address is a URL. Fetching is not this package's: the command hands in the workers' way.
        max_bytes: of a picture in an archive.

    Raises:
        DatasetError: when no picture can be had, or `out` is of another embedder or cannot be written.
    """
    table = parquet_module().read_table(_existing(folder / ITEMS), columns=["item", "image"])
    pictures = dict(zip(table["item"].to_pylist(), table["image"].to_pylist(), strict=True))
    kept = _Kept(out, embedder)
    dropped = Dropped()
    files: dict[str, list[str]] = {}
    urls: dict[str, list[str]] = {}
    for item, picture in pictures.items():
        if item in kept.known:
            continue
        if not picture:
            dropped.add("no_picture", item)
        else:
            (urls if is_url(picture) else files).setdefault(picture, []).append(item)
    try:
        for title, embed, wanted in (
            ("pictures in files", partial(embed_files, embedder, max_bytes=max_bytes), files),
            ("pictures by URL", by_url, urls),
        ):
            if not wanted:
                continue
            with step(title, sum(map(len, wanted.values()))) as advance, closing(embed(list(wanted))) as outcomes:
                for picture, found in outcomes:
                    for item in wanted[picture]:
                        if isinstance(found, tuple):
                            dropped.add(found[0], f"{item}: {found[1]}")
                        else:
                            kept.add(item, found)
                    advance(len(wanted[picture]))
    finally:
        kept.write()
    if not kept.known:
        raise DatasetError(f"{folder}: none of its {len(pictures)} pictures could be had: {dropped.explained()}")
    return dropped


def embed_files(embedder: Embedder, paths: Sequence[str], max_bytes: int = MAX_BYTES) -> Generator[Outcome]:
    """An `EmbedAll` for pictures in files and archives. max_bytes: of one in an archive."""
    with PictureFiles(max_bytes) as files:
        for start in range(0, len(paths), BATCH):
            decoded: dict[str, NDArray[np.uint8]] = {}
            for path in paths[start : start + BATCH]:
                pixels = _pixels(files, path, embedder.image_size)
                if isinstance(pixels, tuple):
                    yield path, pixels
                else:
                    decoded[path] = pixels
            if decoded:
                yield from zip(decoded, embedder.embed(np.stack(list(decoded.values()))), strict=True)


def _pixels(files: PictureFiles, path: str, size: int) -> NDArray[np.uint8] | tuple[str, str]:
    """uint8 [size, size, 3], or the reason and the message why there is none."""
    try:
        data = files.read(path)
    except PictureError as error:
        return error.reason, str(error)
    try:
        return decode_picture(data, size)
    except PictureError as error:
        return error.reason, f"{path}: {error}"


class _Kept:
    """The embeddings of a file: those that it has, and those that come. Written now and then, and whole each time."""

    def __init__(self, path: Path, embedder: Embedder) -> None:
        """Raises DatasetError when the file is of another embedder, or there is no place for it."""
        self._path = path
        self._embedder = embedder.version
        self.known: dict[str, NDArray[np.float32]] = {}
        self._changed = False
        self._next = monotonic() + WRITE_EVERY
        if path.is_file():
            ids, vectors = read_embeddings(path)
            if vectors.shape[1] != embedder.embedding_size:
                raise DatasetError(
                    f"{path} has {vectors.shape[1]} numbers for an item, not {embedder.embedding_size}: remove it"
                )
            made_by = _made_by(path)
            if made_by and made_by != embedder.version:
                raise DatasetError(f"{path} is of the embedder {made_by}, not {embedder.version}: remove it")
            self.known = dict(zip(ids, vectors, strict=True))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{path} cannot be written: {error.strerror}") from error

    def add(self, item: str, embedding: NDArray[np.float32]) -> None:
        self.known[item] = embedding
        self._changed = True
        if monotonic() > self._next:
            self.write()

    def write(self) -> None:
        """Raises DatasetError when the disk does not take it."""
        if not self._changed:
            return
        begun = monotonic()
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with part.open("wb") as file:
                np.savez(
                    file,
                    ids=np.array(list(self.known)),
                    embeddings=np.stack(list(self.known.values())),
                    embedder=np.array(self._embedder),
                )
            part.replace(self._path)
        except OSError as error:
            raise DatasetError(f"{self._path} cannot be written: {error.strerror or error}") from error
        self._changed = False
        ended = monotonic()
        self._next = ended + max(WRITE_EVERY, WRITE_SHARE * (ended - begun))


def _made_by(path: Path) -> str:
    """The version of the embedder that made a file; "" when it does not say."""
    with np.load(path) as arrays:
        return str(arrays[EMBEDDER]) if EMBEDDER in arrays.files else ""


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file: `tastestream dataset` makes the folder")
    return path
