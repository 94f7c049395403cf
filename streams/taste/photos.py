"""The photos in some files and folders, each with its time, and how much else is there. Opens files, and decodes nothing."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from model.containers import picture_format
from streams.serve.taste import Kind
from streams.taste.taken import exif_block, time_taken

MAX_PHOTOS = 100_000  # that are remembered, 300 bytes each: the newest
MAX_KINDS, MAX_SUFFIX = 1000, 12  # of files that are no photos: kinds, and characters of a suffix that makes a kind
MAX_UNREADABLE = 20  # that are named
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".heic", ".heif"}
)  # of files that should be pictures
SIGNATURE = 4096  # bytes by which a picture is known
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # a camera whose clock was never set says 1970 or 1980
AHEAD = timedelta(days=1)  # that a camera's clock or zone may be wrong


class Photo(NamedTuple):
    """A file that begins like a picture, or is named like one."""

    path: Path
    name: str  # below the folder that was named
    type: Kind
    format: str  # as `model.containers.picture_format` names it; "" if it only is named like a picture
    taken: datetime
    taken_by: Literal["exif", "file"]  # EXIF, or the time when the file was changed


class Unreadable(NamedTuple):
    """A file or folder that cannot be read."""

    name: str
    error: str


@dataclass
class Found:
    """What is in some folders."""

    photos: list[Photo] = field(default_factory=list[Photo])
    others: Counter[str] = field(
        default_factory=Counter[str]
    )  # files by what they are: `.mov`, `hidden`, `empty`, `link`
    unreadable: list[Unreadable] = field(default_factory=list[Unreadable])  # the first ones
    unreadable_count: int = 0
    files: int = 0


def find(roots: Sequence[tuple[Path, Kind]], now: datetime, seen: Callable[[Found], object] = lambda _: None) -> Found:
    """Look for photos.

    Hidden files and links inside a folder are counted and not followed; so a folder that links to itself ends. A file that is there
    twice, by two arguments or a hard link, counts once.

    Args:
        roots: files and folders, each with what the person did with what its photos show.
        now: the clock.
        seen: called now and then with what is found so far.
    """
    found = Found()
    known: set[tuple[int, int]] = set()  # device and inode
    several = len(roots) > 1
    for root, kind in roots:
        for path in _files(root, found, several):
            found.files += 1
            _add(path, _name(path, root, several), kind, found, known=known, now=now)
            if len(found.photos) >= 2 * MAX_PHOTOS:
                _drop_oldest(found)
            seen(found)
    _drop_oldest(found)
    return found


def newest_first(photos: Sequence[Photo]) -> list[Photo]:
    """The photos in the order of their times, the newest first; of one time, by name."""
    return sorted(photos, key=lambda photo: (-photo.taken.timestamp(), photo.name))


def _drop_oldest(found: Found) -> None:
    if len(found.photos) > MAX_PHOTOS:
        found.others["older photo"] += len(found.photos) - MAX_PHOTOS
        found.photos = nlargest(MAX_PHOTOS, found.photos, key=lambda photo: photo.taken)


def _files(root: Path, found: Found, several: bool) -> Iterator[Path]:
    """The files in a folder and below it; the file itself if it is none. Counts what it passes over."""
    if not root.is_dir():
        yield root
        return
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            _unreadable(found, _name(folder, root, several), error)
            continue
        folders: list[Path] = []
        for entry in listed:
            if entry.name.startswith("."):
                found.others["hidden"] += 1
            elif entry.is_symlink():
                found.others["link"] += 1
            elif entry.is_dir():
                folders.append(Path(entry.path))
            else:
                yield Path(entry.path)
        waiting += reversed(folders)


def _add(path: Path, name: str, kind: Kind, found: Found, *, known: set[tuple[int, int]], now: datetime) -> None:
    """Count a file, as a photo or as something else."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for its other end
            found.others["special file"] += 1
            return
        if (status.st_dev, status.st_ino) in known:
            return
        known.add((status.st_dev, status.st_ino))
        if not status.st_size:
            found.others["empty"] += 1
            return
        with path.open("rb") as file:
            file_format = picture_format(file.read(SIGNATURE))
            if file_format is None and path.suffix.lower() not in SUFFIXES:
                _count(found, path)
                return
            file.seek(0)
            taken = _taken(file, file_format, now) if file_format else None
    except OSError as error:
        _unreadable(found, name, error)
        return
    changed = min(datetime.fromtimestamp(max(status.st_mtime, 0), UTC), now)
    found.photos.append(Photo(path, name, kind, file_format or "", taken or changed, "exif" if taken else "file"))


def _taken(file: BinaryIO, file_format: str, now: datetime) -> datetime | None:
    """The time in the EXIF block, unless the clock of the camera was wrong."""
    taken = time_taken(exif_block(file, file_format))
    return min(taken, now) if taken is not None and EARLIEST <= taken <= now + AHEAD else None


def _count(found: Found, path: Path) -> None:
    suffix = path.suffix.lower() or "no suffix"
    known = suffix in found.others or (len(found.others) < MAX_KINDS and len(suffix) <= MAX_SUFFIX)
    found.others[suffix if known else "other"] += 1


def _unreadable(found: Found, name: str, error: OSError) -> None:
    found.unreadable_count += 1
    if len(found.unreadable) < MAX_UNREADABLE:
        found.unreadable.append(Unreadable(name, error.strerror or str(error)))


def _name(path: Path, root: Path, several: bool) -> str:
    """The name of a file below its root, as text: bytes that are no UTF-8 are replaced. With several roots it begins with the root."""
    shown = path.name if path == root else str(path.relative_to(root.parent if several else root))
    return os.fsencode(shown).decode(errors="replace")
