"""The features that the work folder keeps: of local pictures, and of pictures that were fetched here and are not on the topic.

So a run that was interrupted computes nothing twice. What has been sent to the topic is removed here: what is forgotten there is
forgotten for good.
"""

import sqlite3
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError

FILE = "features.sqlite"
KEPT = 64  # features between two commits


class FeatureTable:
    """The features that the work folder keeps, by backbone and picture. A context manager.

    Every method raises DatasetError when the disk is full.
    """

    def __init__(self, folder: Path, version: str) -> None:
        """Open the file.

        Args:
            folder: the work folder.
            version: of the backbone. The features of other backbones are removed.

        Raises:
            DatasetError: the file cannot be written, or another run has it open.
        """
        self._path = folder / FILE
        self._version = version
        self._uncommitted = 0
        with self._on_disk():
            self._rows = sqlite3.connect(self._path, isolation_level=None, timeout=0)
            self._rows.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._rows.execute("BEGIN EXCLUSIVE")
            self._rows.execute(
                "CREATE TABLE IF NOT EXISTS features (version TEXT, picture TEXT, row BLOB, PRIMARY KEY (version, picture))"
            )
            self._rows.execute("DELETE FROM features WHERE version != ?", (version,))
            self._commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            with self._on_disk():
                self._rows.execute("COMMIT")
        finally:
            self._rows.close()

    def find(self, pictures: Iterable[PictureRef]) -> dict[PictureRef, bytes]:
        """The features of those of `pictures` that the table has. A file that was changed since is not found."""
        found: dict[PictureRef, bytes] = {}
        with self._on_disk():
            for picture in pictures:
                row = self._one(picture)
                if row is not None:
                    found[picture] = row
        return found

    def add(self, picture: PictureRef, row: bytes) -> None:
        with self._on_disk():
            self._rows.execute("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", (self._version, _key(picture), row))
            self._uncommitted += 1
            if self._uncommitted >= KEPT:
                self._commit()

    def fetched(self) -> dict[str, bytes]:
        """The features of pictures on the web, by URL."""
        with self._on_disk():
            rows: list[tuple[str, bytes]] = self._rows.execute("SELECT picture, row FROM features").fetchall()
        return {name: row for name, row in rows if PictureRef(name).is_web_url}

    def remove(self, urls: Iterable[str]) -> None:
        with self._on_disk():
            self._rows.executemany(
                "DELETE FROM features WHERE version = ? AND picture = ?", [(self._version, url) for url in urls]
            )
            self._commit()

    def _one(self, picture: PictureRef) -> bytes | None:
        found: Any = self._rows.execute(
            "SELECT row FROM features WHERE version = ? AND picture = ?", (self._version, _key(picture))
        ).fetchone()
        return None if found is None else found[0]

    def _commit(self) -> None:
        self._rows.execute("COMMIT")
        self._rows.execute("BEGIN EXCLUSIVE")
        self._uncommitted = 0

    @contextmanager
    def _on_disk(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            what = str(error)
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise DatasetError(
                    f"work folder {self._path.parent} is in use by another retrain: wait for its end, or choose another --work"
                ) from error
            raise DatasetError(f"{self._path} cannot be used: {what}: make room, or choose another --work") from error


def _key(picture: PictureRef) -> str:
    """The name of a picture in the table. That of a local picture says which state of the file it is of."""
    if picture.is_url:
        return picture.text
    member = picture.archive_member
    try:
        state = (member.archive if member else picture.path).stat()
    except OSError:
        return picture.text
    return f"{picture.text}\0{state.st_size}\0{state.st_mtime_ns}"
