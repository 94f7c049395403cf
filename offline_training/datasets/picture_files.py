"""Pictures in files, and in ZIP archives that stay packed: `images.zip!/women/B00005N7P0.jpg` is a member of `images.zip`.

A prepared data set names its pictures so; who reads them (embedding, replay, reports) does it here. Archives come from strangers:
what a member claims is checked before anything of it is inflated, and a member that cannot be had costs no more than itself.
"""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from model.exceptions import PictureError
from offline_training.datasets.records import DatasetError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif"})
MAX_BYTES = 10 * 1024**2  # of a member, unpacked; the default of FETCH_MAX_BYTES, which workers hold a picture to
METHODS = frozenset({ZIP_STORED, ZIP_DEFLATED})  # others may take gigabytes for a window
ENCRYPTED = 0x1  # flag of a member
PACKED = re.compile(r"(?P<archive>.*?\.zip)!/(?P<member>.+)", re.IGNORECASE | re.DOTALL)
BROKEN = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises for an archive that is damaged, or is made in a way that it does not know."""


class Place(NamedTuple):
    """Where a picture in an archive is."""

    archive: Path
    member: str


def place_in_archive(picture: str) -> Place | None:
    """The archive and the member that a picture's address means; None where it is a plain file's path."""
    found = PACKED.fullmatch(picture)
    return Place(Path(found["archive"]), found["member"]) if found else None


def pictures_by_item(pictures: Path) -> dict[str, str]:
    """The pictures of a folder, or of a ZIP archive, by their names without the suffix.

    Raises DatasetError when there are none, or the archive cannot be read.
    """
    if pictures.is_dir():
        named = ((path.stem, path.suffix, str(path)) for path in sorted(pictures.rglob("*")))
    elif pictures.suffix.lower() == ".zip":
        named = ((Path(name).stem, Path(name).suffix, f"{pictures}!/{name}") for name in sorted(_members(pictures)))
    else:
        raise DatasetError(f"{pictures}: expected a folder or a .zip of pictures, found none")
    found = {name: picture for name, suffix, picture in named if suffix.lower() in SUFFIXES}
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
        raise DatasetError(f"{archive}: expected a ZIP archive, found what cannot be read: {error}") from error


class PictureFiles:
    """Reads pictures by their addresses, from any thread. A context manager: archives that were read from stay open until its end.

    In memory are the lists of the archives' members and the picture that is being read, one at a time of each archive.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """max_bytes: of a picture in an archive."""
        self._max_bytes = max_bytes
        self._archives: dict[Path, _Archive] = {}
        self._opening = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def open(self, pictures: Iterable[str]) -> None:
        """Open all archives that these pictures are in. Raises DatasetError for one that cannot be read."""
        for archive in dict.fromkeys(place.archive for picture in pictures if (place := place_in_archive(picture))):
            try:
                self._archive(archive)
            except PictureError as error:
                raise DatasetError(str(error)) from error

    def read(self, picture: str) -> bytes:
        """The bytes of a picture.

        Raises PictureError: `unreadable_picture` where it is not there, damaged or encrypted; `picture_too_large` for a member of
        an archive that claims or has more than `max_bytes`, of which nothing, or no more than that, is unpacked.
        """
        place = place_in_archive(picture)
        if place is not None:
            return self._archive(place.archive).read(place.member, self._max_bytes)
        try:
            return Path(picture).read_bytes()
        except (OSError, ValueError) as error:
            raise PictureError("unreadable_picture", f"{picture}: {error}") from error

    def _archive(self, path: Path) -> "_Archive":
        with self._opening:
            if path not in self._archives:
                self._archives[path] = _Archive(path)
            return self._archives[path]


class _Archive:
    """One archive, read by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises PictureError."""
        self._path = path
        self._reading = Lock()
        try:
            self._file = ZipFile(path)
        except OSError as error:
            raise PictureError("unreadable_picture", f"{path}: {error.strerror or error}") from error
        except BROKEN as error:
            raise PictureError("unreadable_picture", f"{path}: not a whole ZIP archive: {error}") from error

    def close(self) -> None:
        self._file.close()

    def read(self, name: str, max_bytes: int) -> bytes:
        at = f"{self._path}!/{name}"
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
            raise PictureError("unreadable_picture", f"{at}: {len(data)} bytes, not {member.file_size} as it claims")
        return data


def _check(member: ZipInfo, at: str, max_bytes: int) -> None:
    """What a member says of itself. Raises PictureError."""
    if member.flag_bits & ENCRYPTED:
        raise PictureError("unreadable_picture", f"{at}: it is encrypted")
    if member.compress_type not in METHODS:
        raise PictureError(
            "unreadable_picture", f"{at}: compressed by method {member.compress_type}, expected stored or deflated"
        )
    if member.file_size > max_bytes:
        raise PictureError("picture_too_large", f"{at}: {member.file_size} bytes, at most {max_bytes} are read")
