"""Reads pictures from files and from ZIP archives, which stay packed.

Embedding, replays and reports read pictures here. Archives are untrusted input: the claims of a member are checked before anything
of it is decompressed, and an unreadable member affects no other.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from model.exceptions import PictureError
from model.limits import MAX_PICTURE_BYTES
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif"})
METHODS = frozenset({ZIP_STORED, ZIP_DEFLATED})  # decompressing others may take gigabytes of memory
ENCRYPTED = 0x1  # flag of a member
BROKEN = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises for an archive that is damaged or uses an unknown feature."""


def pictures_by_item(pictures: Path) -> dict[str, PictureRef]:
    """Find the pictures in a folder or a ZIP archive. The name without the suffix is the item.

    Raises:
        DatasetError: there are no pictures, or the archive cannot be read.
    """
    if pictures.is_dir():
        named = ((path, PictureRef(str(path))) for path in sorted(pictures.rglob("*")))
    elif pictures.suffix.lower() == ".zip":
        named = ((Path(name), PictureRef.in_archive(pictures, name)) for name in sorted(_members(pictures)))
    else:
        raise DatasetError(f"{pictures}: expected a folder or a .zip of pictures, found none")
    found = {path.stem: picture for path, picture in named if path.suffix.lower() in SUFFIXES}
    if not found:
        raise DatasetError(f"{pictures}: expected pictures named by item ({', '.join(sorted(SUFFIXES))}), found none")
    return found


def _members(archive: Path) -> list[str]:
    try:
        with ZipFile(archive) as opened:
            return opened.namelist()
    except OSError as error:
        raise DatasetError(f"{archive}: {error.strerror or error}") from error
    except BROKEN as error:
        raise DatasetError(f"{archive}: expected a ZIP archive, which this is not: {error}") from error


class PictureFiles:
    """Reads local pictures, from any thread. A context manager: it closes the archives that it opened.

    Memory holds the member lists of the archives, and one picture at a time from each archive.
    """

    def __init__(self, max_bytes: int = MAX_PICTURE_BYTES) -> None:
        """Set the limits.

        Args:
            max_bytes: maximum size of a decompressed member of an archive, bytes.
        """
        self._max_bytes = max_bytes
        self._archives: dict[Path, _Archive] = {}
        self._opening = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def open(self, pictures: Iterable[PictureRef]) -> None:
        """Open all archives that hold these pictures.

        Raises:
            DatasetError: an archive cannot be read.
        """
        members = (member for picture in pictures if (member := picture.archive_member))
        for archive in dict.fromkeys(member.archive for member in members):
            try:
                self._archive(archive)
            except PictureError as error:
                raise DatasetError(str(error)) from error

    def read(self, picture: PictureRef) -> bytes:
        """Read a local picture.

        Raises:
            PictureError: `unreadable_picture` when it is missing, damaged or encrypted; `picture_too_large` when a member of an
                archive claims or has more than `max_bytes`. At most `max_bytes` + 1 bytes of a member are decompressed.
        """
        packed = picture.archive_member
        if packed is not None:
            return self._archive(packed.archive).read(packed.member, self._max_bytes)
        try:
            return picture.path.read_bytes()
        except (OSError, ValueError) as error:
            raise PictureError("unreadable_picture", f"{picture}: {error}") from error

    def _archive(self, path: Path) -> "_Archive":
        with self._opening:
            if path not in self._archives:
                self._archives[path] = _Archive(path)
            return self._archives[path]


class _Archive:
    """An archive. One thread at a time reads it."""

    def __init__(self, path: Path) -> None:
        """Open the archive. Raises PictureError when it cannot be read."""
        self._path = path
        self._reading = Lock()
        try:
            self._file = ZipFile(path)
        except OSError as error:
            raise PictureError("unreadable_picture", f"{path}: {error.strerror or error}") from error
        except BROKEN as error:
            raise PictureError("unreadable_picture", f"{path}: not an intact ZIP archive: {error}") from error

    def close(self) -> None:
        self._file.close()

    def read(self, name: str, max_bytes: int) -> bytes:
        at = str(PictureRef.in_archive(self._path, name))
        try:
            member = self._file.getinfo(name)
        except KeyError:
            raise PictureError("unreadable_picture", f"{at}: the archive has no such member") from None
        _check(member, at, max_bytes)
        with self._reading:
            try:
                with self._file.open(member) as file:
                    data = file.read(max_bytes + 1)
            except (OSError, *BROKEN) as error:
                raise PictureError("unreadable_picture", f"{at}: {error}") from error
        if len(data) != member.file_size:
            raise PictureError(
                "unreadable_picture", f"{at}: {len(data)} bytes, but the archive claims {member.file_size}"
            )
        return data


def _check(member: ZipInfo, at: str, max_bytes: int) -> None:
    """Check what the archive claims about a member. Raises PictureError."""
    if member.flag_bits & ENCRYPTED:
        raise PictureError("unreadable_picture", f"{at}: it is encrypted")
    if member.compress_type not in METHODS:
        raise PictureError(
            "unreadable_picture", f"{at}: compressed by method {member.compress_type}, expected stored or deflated"
        )
    if member.file_size > max_bytes:
        raise PictureError("picture_too_large", f"{at}: {member.file_size} bytes, more than the limit of {max_bytes}")
