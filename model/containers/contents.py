"""The result of parsing a picture container, and the limit on the number of its parts."""

from typing import NamedTuple

from model.exceptions import PictureError

MAX_PARTS = 20_000
"""Maximum number of segments, chunks, blocks or boxes of a file. Each costs our parser and Pillow a few microseconds of
Python. 10 MB can hold a million of them; a PNG of 10 MB in chunks of 8 KB, the default of libpng, has 1,280."""


class Contents(NamedTuple):
    """What the decoder needs of a picture file."""

    width: int
    """Width of the canvas that the decoder allocates, pixels."""
    height: int
    """Height of that canvas, pixels."""
    data: bytes
    """A file of the same format with the same pixels, and without most of the rest."""
    exif: bytes = b""
    """The EXIF block. Empty if there is none, or if the decoder itself turns the orientation of the format into EXIF."""
    announced: int = 0
    """Length in bytes that the file states. 0 if it states none."""


def count_part(count: int) -> int:
    """Return `count` + 1.

    Raises:
        PictureError: `picture_too_complex` above MAX_PARTS.
    """
    if count >= MAX_PARTS:
        raise PictureError(
            "picture_too_complex", f"a picture file of more than {MAX_PARTS} parts: save it again without its metadata"
        )
    return count + 1
