"""What a walk through a picture's file gives, and the bound on its steps."""

from typing import NamedTuple

from model.exceptions import PictureError

MAX_PARTS = 20_000
"""Segments, chunks, blocks or boxes that a file may be made of. Each costs our walk, and Pillow's, some microseconds of
Python, and 10 MB have room for a million; a PNG of 10 MB in chunks of 8 KB, libpng's default, has 1,280."""


class Contents(NamedTuple):
    """What a decoder has to know and to get."""

    width: int
    """Pixels, of the canvas that the decoder allocates."""
    height: int
    data: bytes
    """A file of the same format with the same pixels, and little else."""
    exif: bytes = b""
    """The EXIF block; empty where there is none, or where the decoder translates the format's own orientation into one."""
    announced: int = 0
    """Bytes that the file says it has, where it says so."""


def count_part(count: int) -> int:
    """`count` + 1. Raises PictureError with reason `picture_too_complex` above MAX_PARTS."""
    if count >= MAX_PARTS:
        raise PictureError(
            "picture_too_complex", f"a picture file of more than {MAX_PARTS} parts: save it anew without its metadata"
        )
    return count + 1
