"""Which format a file has, by its signature, and the walk that belongs to it."""

import struct

from model.containers import avif, gif, jpeg, png, webp
from model.containers.contents import Contents
from model.exceptions import PictureError

FORMATS = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "GIF": gif.read,
    "WEBP": webp.read,
    "AVIF": avif.read,
}


def picture_format(data: bytes) -> str | None:
    """One of FORMATS by the signature at the start of `data`, never by a name; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return "AVIF" if avif.is_avif(data) else None


def open_container(file_format: str, data: bytes) -> Contents:
    """Walk through a file of `file_format`.

    Raises:
        PictureError: with reason `not_a_picture` where the parts contradict the format, `truncated_picture` where the
            file says that it goes on, `picture_too_complex` where its parts cost more than a picture may.
    """
    try:
        return FORMATS[file_format](data)
    except (ValueError, IndexError, struct.error) as error:
        raise PictureError(
            "not_a_picture", f"{len(data)} bytes with a {file_format} header that cannot be read: {error}"
        ) from error
