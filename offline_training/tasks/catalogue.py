"""The items of a prepared data set in memory, with their labels and embeddings.

Embeddings come from a file: they are computed once for a catalogue and reused by every experiment.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder
from model.exceptions import PictureError
from model.limits import MAX_PICTURE_BYTES
from model.preprocessing import decode_picture
from model.quantization import MAX_VALUE, NOT_STORABLE, storable
from offline_training.datasets.arrays import opened_arrays
from offline_training.datasets.ids import id_text, same_ids
from offline_training.datasets.parquet import parquet_module
from offline_training.datasets.picture_files import PictureFiles
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.prepare import ITEMS, SUMMARY, DatasetSummary, picture_folders, summary_of
from offline_training.datasets.records import DatasetError, Dropped
from offline_training.progress import Step

PREPARE = "prepare the data set with `tastestream dataset`"
BATCH = 32  # pictures embedded per call of the network
IDS, EMBEDDINGS, EMBEDDER = "ids", ("embeddings", "emb"), "embedder"
WRITE_EVERY = 60.0  # seconds between two writes of the embeddings that are done
WRITE_SHARE = 20  # a write is followed by at least this many times its own duration without one


@dataclass(frozen=True)
class Catalogue:
    """N items with D labels and d-dimensional embeddings. Items without a category are left out.

    Attributes:
        items: N ids.
        labels: D labels.
        embeddings: float32 [N, d], in the order of `items`.
        matrix: bool [N, D], which item has which label.
        missing: number of items that have a category but no embedding; they are left out, too.
        pictures: the local pictures, by item.
        folders: where they may be.
    """

    items: list[str]
    labels: list[str]
    embeddings: NDArray[np.float32]
    matrix: NDArray[np.bool_]
    missing: int
    pictures: dict[str, PictureRef] = field(default_factory=dict[str, PictureRef])
    folders: PictureFolders = field(default_factory=PictureFolders)

    def with_labels_in_order(self, labels: Sequence[str]) -> "Catalogue":
        """The same catalogue with its labels, and the columns of `matrix`, in another order. No item has a label that is new."""
        matrix = np.zeros((len(self.items), len(labels)), bool)
        for column, label in enumerate(labels):
            if label in self.labels:
                matrix[:, column] = self.matrix[:, self.labels.index(label)]
        return replace(self, labels=list(labels), matrix=matrix)


def read_catalogue(folder: Path, embeddings: Path) -> Catalogue:
    """Read the items of a prepared data set that have an embedding.

    Args:
        folder: a folder that `tastestream dataset` wrote.
        embeddings: a `.npz` file with `ids` [n] and `embeddings` (or `emb`) float [n, d].

    Raises:
        DatasetError: something is missing, or no item has an embedding.
    """
    summary = read_summary(folder)
    labels = list(summary.labels)
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
            f"{folder}: none of its {len(table)} items has a category, which training and evaluation need: "
            "prepare it with a table of categories"
        )
    means = same_ids([item for item, _ in labelled], found)
    for item, names in labelled:
        row = found.get(means.get(item, ""))
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
    pictures = {item: picture for item, picture in _pictures(table).items() if picture and not picture.is_url}
    embedded = vectors[rows].astype(np.float32)
    fits = (np.abs(embedded) <= MAX_VALUE).all(axis=1)  # false for NaN, too
    if not fits.all():
        raise DatasetError(
            f"{embeddings}: expected finite numbers up to {MAX_VALUE:,.0f}, found others for item {items[int(fits.argmin())]}: "
            "remove it, or embed the pictures again"
        )
    return Catalogue(items, labels, embedded, matrix, missing, pictures, picture_folders(folder, summary))


def _pictures(table: Any) -> dict[str, PictureRef | None]:
    """The pictures in an items table, by item."""
    rows = zip(table["item"].to_pylist(), table["image"].to_pylist(), strict=True)
    return {item: PictureRef.parse(image) for item, image in rows}


def read_summary(folder: Path) -> DatasetSummary:
    """Read `dataset.json` of a prepared data set. Raises DatasetError when it is missing or damaged."""
    summary = summary_of(folder)
    if summary is None:
        raise DatasetError(f"{folder / SUMMARY}: there is no such file: {PREPARE}")
    return summary


def read_embeddings(path: Path) -> tuple[list[str], NDArray[Any]]:
    """Read item ids and their embeddings, float [n, d], from a `.npz` file. Raises DatasetError when it holds none."""
    if not path.is_file():
        raise DatasetError(
            f"{path}: there is no such file: make it with `tastestream train embed DATASET --out {path}`"
        )
    with opened_arrays(path) as arrays:
        name = next((name for name in EMBEDDINGS if name in arrays.files), "")
        if IDS not in arrays.files or not name:
            raise DatasetError(f"{path}: expected the arrays ids and embeddings, found {', '.join(arrays.files)}")
        ids, vectors = arrays[IDS], arrays[name]
    if vectors.ndim != 2 or len(ids) != len(vectors) or not len(ids):
        raise DatasetError(f"{path}: expected ids [n] and embeddings [n, d], found {ids.shape} and {vectors.shape}")
    return [id_text(name) for name in cast("list[object]", ids.tolist())], vectors


Embedded = NDArray[np.float32] | tuple[str, str]
"""An embedding, float32 [d]; or the reason and the message of a failure."""

Outcome = tuple[str, Embedded]
"""A URL and what became of its picture."""

EmbedUrls = Callable[[Sequence[str]], Generator[Outcome]]
"""Fetches and embeds the pictures at distinct URLs. The outcomes come in any order."""


def embed_catalogue(
    folder: Path, embedder: Embedder, out: Path, step: Step, *, by_url: EmbedUrls, max_bytes: int = MAX_PICTURE_BYTES
) -> Dropped:
    """Embed the pictures of a prepared data set and write them to `out`, which `read_catalogue` reads.

    Embeddings that `out` already has are kept. An interruption loses only the last minute of work.

    Args:
        folder: a folder that `tastestream dataset` wrote.
        embedder: makes the embeddings.
        out: the `.npz` file to write.
        step: shows the progress.
        by_url: embeds the pictures at URLs. The command passes the fetching code of the workers, which this package does not import.
        max_bytes: maximum size of a picture, bytes.

    Returns:
        What was left out.

    Raises:
        DatasetError: no picture can be embedded, `out` holds embeddings of another embedder, or `out` cannot be written.
    """
    pictures = _pictures(parquet_module().read_table(_existing(folder / ITEMS), columns=["item", "image"]))
    folders = picture_folders(folder, summary_of(folder))
    kept = _EmbeddingFile(out, embedder)
    dropped = Dropped()
    files: dict[PictureRef, list[str]] = {}
    urls: dict[PictureRef, list[str]] = {}
    for item, picture in pictures.items():
        if item in kept.known:
            continue
        if picture is None:
            dropped.add("no_picture", item)
        else:
            (urls if picture.is_url else files).setdefault(picture, []).append(item)
    try:
        for title, embed, items_of in (
            ("pictures in files", partial(embed_files, embedder, folders=folders, max_bytes=max_bytes), files),
            ("pictures by URL", partial(_embed_urls, by_url), urls),
        ):
            if not items_of:
                continue
            with step(title, sum(map(len, items_of.values()))) as advance, closing(embed(list(items_of))) as outcomes:
                for picture, found in outcomes:
                    for item in items_of[picture]:
                        if isinstance(found, tuple):
                            dropped.add(found[0], f"{item}: {found[1]}")
                        else:
                            kept.add(item, found)
                    advance(len(items_of[picture]))
    finally:
        kept.write()
    if not kept.known:
        raise DatasetError(f"{folder}: none of its {len(pictures)} pictures could be embedded: {dropped.explained()}")
    return dropped


def _embed_urls(by_url: EmbedUrls, pictures: Sequence[PictureRef]) -> Generator[tuple[PictureRef, Embedded]]:
    with closing(by_url([picture.text for picture in pictures])) as outcomes:
        for url, found in outcomes:
            yield PictureRef(url), found


def embed_files(
    embedder: Embedder, pictures: Sequence[PictureRef], folders: PictureFolders, max_bytes: int = MAX_PICTURE_BYTES
) -> Generator[tuple[PictureRef, Embedded]]:
    """Embed distinct local pictures. The outcomes come in any order.

    Args:
        embedder: makes the embeddings.
        pictures: files, or members of archives.
        folders: where they may be.
        max_bytes: maximum size of a picture, bytes.
    """
    with PictureFiles(folders, max_bytes) as files:
        for start in range(0, len(pictures), BATCH):
            decoded: dict[PictureRef, NDArray[np.uint8]] = {}
            for picture in pictures[start : start + BATCH]:
                pixels = _pixels(files, picture, embedder.image_size)
                if isinstance(pixels, tuple):
                    yield picture, pixels
                else:
                    decoded[picture] = pixels
            if decoded:
                for picture, found in zip(decoded, embedder.embed(np.stack(list(decoded.values()))), strict=True):
                    yield picture, found if storable(found) else ("invalid_embedding", f"{picture}: {NOT_STORABLE}")


def _pixels(files: PictureFiles, picture: PictureRef, size: int) -> NDArray[np.uint8] | tuple[str, str]:
    """Decode a picture to uint8 [size, size, 3]; or return the reason and the message of the failure."""
    try:
        data = files.read(picture)
    except PictureError as error:
        return error.reason, str(error)
    try:
        return decode_picture(data, size)
    except PictureError as error:
        return error.reason, f"{picture}: {error}"


class _EmbeddingFile:
    """A file of embeddings that grows. It is rewritten as a whole about once a minute, so that an interruption loses little."""

    def __init__(self, path: Path, embedder: Embedder) -> None:
        """Read the embeddings that the file has.

        Raises:
            DatasetError: the file is from another embedder, or its folder cannot be made.
        """
        self._path = path
        self._embedder = embedder.version
        self.known: dict[str, NDArray[np.float32]] = {}
        self._changed = False
        self._next = monotonic() + WRITE_EVERY
        if path.is_file():
            ids, vectors = read_embeddings(path)
            if vectors.shape[1] != embedder.embedding_size:
                raise DatasetError(
                    f"{path} has {vectors.shape[1]} numbers per item, expected {embedder.embedding_size}: remove it"
                )
            made_by = _made_by(path)
            if made_by and made_by != embedder.version:
                raise DatasetError(f"{path} is from the embedder {made_by}, expected {embedder.version}: remove it")
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
        """Write all embeddings, if some are new. Raises DatasetError when the disk is full."""
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
    """Read which embedder made a file; "" when the file does not say."""
    with opened_arrays(path) as arrays:
        return str(arrays[EMBEDDER]) if EMBEDDER in arrays.files else ""


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file: {PREPARE}")
    return path
