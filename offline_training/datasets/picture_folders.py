"""Which files of this machine a data set may name as its pictures, and how they are opened.

A data set is written by strangers, and its pictures are served to the workers: it must not name any other file of this machine.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from model.exceptions import PictureError
from offline_training.datasets.picture_ref import PictureRef


class PictureFolders:
    """Folders, and archives, with the pictures of a data set. Links are resolved before paths are compared."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.paths = tuple(dict.fromkeys(Path(os.path.realpath(path)) for path in paths))

    def __contains__(self, picture: PictureRef) -> bool:
        """Whether a local picture is in one of the folders. It may be missing."""
        try:
            self._resolved(self._file(picture))
        except PictureError:
            return False
        return True

    def open(self, path: Path) -> BinaryIO:
        """Open a file for reading.

        Raises:
            PictureError: `missing_picture` when there is no such file; `unreadable_picture` when it is outside the folders, or no
                regular file. Nothing is read from a device, and a pipe is not waited for.
        """
        real = self._resolved(path)
        try:
            file = open(real, "rb", opener=_unblocked)  # noqa: SIM115  (the caller closes it)
        except FileNotFoundError:
            raise PictureError("missing_picture", f"{path}: there is no such file") from None
        except OSError as error:
            raise PictureError("unreadable_picture", f"{path}: {error.strerror or error}") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise PictureError("unreadable_picture", f"{path}: not a regular file")
        return file

    def _file(self, picture: PictureRef) -> Path:
        packed = picture.archive_member
        return picture.path if packed is None else packed.archive

    def _resolved(self, path: Path) -> Path:
        try:
            real = Path(os.path.realpath(path))
        except ValueError as error:
            raise PictureError("unreadable_picture", f"{path}: {error}") from error
        if not any(real.is_relative_to(allowed) for allowed in self.paths):
            at = "" if real == path else f", at {real}"
            raise PictureError("unreadable_picture", f"{path}: outside the folders of the data set{at}")
        return real


def _unblocked(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
