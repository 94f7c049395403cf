"""Finds the format of a file by its signature, and calls the parser of that format."""

import struct

from model.containers import avif, gif, heic, jpeg, png, webp
from model.containers.contents import Contents
from model.exceptions import PictureError

FORMATS = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "GIF": gif.read,
    "WEBP": webp.read,
    "AVIF": avif.read,
    "HEIC": heic.read,
}


def picture_format(data: bytes) -> str | None:
    """Return a key of FORMATS by the signature at the start of `data`, or None. File names do not count."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if avif.is_avif(data):
        return "AVIF"
    return "HEIC" if heic.is_heic(data) else None


def open_container(file_format: str, data: bytes) -> Contents:
    """Parse the container of a file.

    Args:
        file_format: Key of FORMATS.
        data: Content of the file.

    Raises:
        PictureError: `not_a_picture` if the parts violate the format, `truncated_picture` if data is missing at the end,
            `picture_too_complex` if the parts exceed a limit.
    """
    try:
        return FORMATS[file_format](data)
    except (ValueError, IndexError, struct.error) as error:
        raise PictureError(
            "not_a_picture", f"{len(data)} bytes with a {file_format} header that cannot be read: {error}"
        ) from error
