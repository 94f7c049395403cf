"""The size of a canvas comes from the part that states it. A part that is too short is refused, whatever follows it.

The parts that follow may be dropped before the decoder sees the file. A size that was read from them would not be the decoded
one.
"""

import struct

import pytest

from model.containers import open_container, picture_format
from model.exceptions import PictureError
from tests.model.containers import box, jpeg, png_chunk, riff
from tests.model.hostile_pictures import header, sound


def short_jpeg(length: int) -> bytes:
    """A JPEG whose frame header has this length."""
    whole = jpeg()
    at = whole.index(b"\xff\xc0") + 2
    return whole[:at] + struct.pack(">H", length) + whole[at + length :]


def short_png(length: int) -> bytes:
    """A PNG whose header has this length."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header(8, 8)[:length]) + png_chunk(b"tEXt", bytes(20))


def short_webp(kind: bytes, length: int) -> bytes:
    """A WebP whose first chunk has this length."""
    return riff(kind + struct.pack("<I", length) + bytes(length) + b"EXIF" + struct.pack("<I", 20) + bytes(20))


def short_riff(kind: bytes, length: int) -> bytes:
    """A WebP whose first chunk is complete, and which says of itself that it has this length."""
    whole = riff(kind + struct.pack("<I", 10) + bytes(10) + b"EXIF" + struct.pack("<I", 20) + bytes(20))
    return whole[:4] + struct.pack("<I", length) + whole[8:]


def short_avif(length: int) -> bytes:
    """An AVIF whose size property has this length. The rest of the property is another box."""
    whole = sound("AVIF")
    at = whole.index(b"ispe") - 4
    return (
        whole[:at] + box(b"ispe", whole[at + 8 : at + 8 + length]) + box(b"free", bytes(4 - length)) + whole[at + 20 :]
    )


@pytest.mark.parametrize(
    "data",
    [
        short_jpeg(2),
        short_jpeg(6),
        short_png(0),
        short_png(7),
        short_webp(b"VP8X", 6),
        short_webp(b"VP8X", 8),
        short_webp(b"VP8 ", 6),
        short_webp(b"VP8L", 4),
        short_riff(b"VP8X", 0),
        short_riff(b"VP8X", 21),
        short_riff(b"VP8 ", 21),
        short_avif(4),
    ],
    ids=[
        "JPEG 2",
        "JPEG 6",
        "PNG 0",
        "PNG 7",
        "WebP 6",
        "WebP 8",
        "lossy WebP",
        "lossless WebP",
        "WebP of 0 bytes",
        "WebP of 21 bytes",
        "lossy WebP of 21 bytes",
        "AVIF",
    ],
)
def test_a_part_that_ends_before_the_size_is_refused(data: bytes) -> None:
    file_format = picture_format(data)
    assert file_format is not None
    with pytest.raises(PictureError) as caught:
        open_container(file_format, data)
    assert caught.value.reason == "not_a_picture"
