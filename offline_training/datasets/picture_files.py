"""Reads pictures from files and from ZIP archives, which stay packed.

Embedding, replays and reports read pictures here. Data sets are untrusted input: only pictures in the folders of the data set are read,
the claims of a member of an archive are checked before anything of it is decompressed, and an unreadable member affects no other.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import BinaryIO, Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from model.containers import picture_format
from model.exceptions import PictureError
from model.limits import MAX_PICTURE_BYTES
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError, Dropped

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif"})
METHODS = frozenset({ZIP_STORED, ZIP_DEFLATED})  # decompressing others may take gigabytes of memory
ENCRYPTED = 0x1  # flag of a member
BROKEN = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises for an archive that is damaged or uses an unknown feature."""


def pictures_by_item(pictures: Path, dropped: Dropped) -> dict[str, PictureRef]:
    """Find the pictures in a folder or a ZIP archive. The name without the suffix is the item.

    Of several pictures of one item, the one with the fewest folders in its path counts, then the one with the shortest path; `dropped`
    counts the others.

    Raises:
        DatasetError: there are no pictures, or the archive cannot be read.
    """
    if pictures.is_dir():
        named = [(path, PictureRef(str(path))) for path in pictures.rglob("*")]
    elif pictures.suffix.lower() == ".zip":
        named = [(Path(name), PictureRef.in_archive(pictures, name)) for name in _members(pictures)]
    else:
        raise DatasetError(f"{pictures}: expected a folder or a .zip of pictures, found none")
    found: dict[str, PictureRef] = {}
    for path, picture in sorted(named, key=lambda pair: (len(pair[0].parts), len(str(pair[0])), str(pair[0]))):
        if path.suffix.lower() in SUFFIXES and (kept := found.setdefault(path.stem, picture)) is not picture:
            dropped.add("second_picture_of_an_item", f"{picture}, {kept} is kept")
    if not found:
        raise DatasetError(f"{pictures}: expected pictures named by item ({', '.join(sorted(SUFFIXES))}), found none")
    return found


def _members(archive: Path) -> list[str]:
    try:
        with ZipFile(archive) as opened:
            return opened.namelist()
    except FileNotFoundError:
        raise DatasetError(f"{archive}: there is no such file") from None
    except OSError as error:
        raise DatasetError(f"{archive}: {error.strerror or error}") from error
    except BROKEN as error:
        raise DatasetError(f"{archive}: expected a ZIP archive, which this is not: {error}") from error


class PictureFiles:
    """Reads local pictures, from any thread. A context manager: it closes the archives that it opened.

    Memory holds the member lists of the archives, and one picture at a time from each archive.
    """

    def __init__(self, folders: PictureFolders, max_bytes: int = MAX_PICTURE_BYTES) -> None:
        """Set the limits.

        Args:
            folders: where the pictures may be.
            max_bytes: maximum size of a picture, bytes.
        """
        self._folders = folders
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
            PictureError: `missing_picture` when there is no such file or member; `unreadable_picture` when it is damaged, encrypted
                or not in one of the folders; `not_a_picture` when its first bytes are not those of a picture; `picture_too_large` when
                it claims or has more than `max_bytes`. At most `max_bytes` + 1 bytes are read.
        """
        packed = picture.archive_member
        data = (
            self._file(picture.path)
            if packed is None
            else self._archive(packed.archive).read(packed.member, self._max_bytes)
        )
        if picture_format(data) is None:
            raise PictureError("not_a_picture", f"{picture}: {len(data)} bytes that start with {data[:12]!r}")
        return data

    def _file(self, path: Path) -> bytes:
        with self._folders.open(path) as file:
            try:
                data = file.read(self._max_bytes + 1)
            except OSError as error:
                raise PictureError("unreadable_picture", f"{path}: {error.strerror or error}") from error
        if len(data) > self._max_bytes:
            raise PictureError("picture_too_large", f"{path}: more than the limit of {self._max_bytes} bytes")
        return data

    def _archive(self, path: Path) -> "_Archive":
        with self._opening:
            if path not in self._archives:
                self._archives[path] = _Archive(path, self._folders.open(path))
            return self._archives[path]


class _Archive:
    """An archive. One thread at a time reads it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Read the list of members. Takes the file. Raises PictureError when it cannot be read."""
        self._path = path
        self._packed = file
        self._reading = Lock()
        try:
            self._file = ZipFile(file)
        except OSError as error:
            file.close()
            raise PictureError("unreadable_picture", f"{path}: {error.strerror or error}") from error
        except BROKEN as error:
            file.close()
            raise PictureError("unreadable_picture", f"{path}: not an intact ZIP archive: {error}") from error

    def close(self) -> None:
        self._file.close()
        self._packed.close()

    def read(self, name: str, max_bytes: int) -> bytes:
        at = str(PictureRef.in_archive(self._path, name))
        try:
            member = self._file.getinfo(name)
        except KeyError:
            raise PictureError("missing_picture", f"{at}: the archive has no such member") from None
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
