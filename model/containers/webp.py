"""Parses WebP (RFC 9649, section 2): one chunk of pixels, or an extended header followed by chunks."""

import struct
from collections.abc import Iterator

from model.containers.contents import Contents, count_part

HEADER = 12  # bytes before the first chunk
PIXELS = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
"""Data of a still picture, or one frame of an animation."""
CANVAS_BYTES = {b"VP8X": 10, b"VP8 ": 10, b"VP8L": 5}
"""Least length of a first chunk, up to the size of the canvas."""
KEPT = frozenset({b"ANIM", b"ALPH"})


def read(data: bytes) -> Contents:
    """Keep the header and the pixels of the first frame.

    Raises:
        ValueError: If the first chunk is not `VP8X`, `VP8 ` or `VP8L`, or it or the file is too short for the size of the canvas.
        struct.error: If the file ends inside that chunk.
        PictureError: `picture_too_complex` for too many chunks.
    """
    announced = 8 + int.from_bytes(data[4:8], "little")
    width, height = _canvas(data)
    if announced < HEADER + 8 + CANVAS_BYTES[data[12:16]]:  # libwebp refuses it, and what is kept would have no canvas
        raise ValueError(f"a WebP file of {announced} bytes by its header, which end before the size of the canvas")
    if data[12:16] != b"VP8X" or len(data) < announced:
        return Contents(width, height, data, announced=announced)
    kept: list[bytes] = []
    exif = b""
    pixels_found = False
    for kind, start, end in _chunks(data, announced):
        if start == HEADER or kind in KEPT or (kind in PIXELS and not pixels_found):
            kept.append(data[start:end])
            pixels_found |= kind in PIXELS
        elif kind == b"EXIF":
            exif = data[start + 8 : end]
    body = b"WEBP" + b"".join(kept)
    return Contents(width, height, b"RIFF" + struct.pack("<I", len(body)) + body, exif)


def _canvas(data: bytes) -> tuple[int, int]:
    """Return (width, height), pixels, from the first chunk."""
    chunk, length = data[12:16], int.from_bytes(data[16:20], "little")
    if length < CANVAS_BYTES.get(chunk, 0):
        raise ValueError(f"a WebP file whose first chunk, {chunk!r}, has {length} bytes")
    if chunk == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", data, 24)
        return 1 + (width | width_high << 16), 1 + (height | height_high << 16)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise ValueError(f"a WebP file whose first chunk is {chunk!r}")


def _chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of each chunk up to `end`, including its header and padding."""
    parts = 0
    position = HEADER
    while position + 8 <= end:
        parts = count_part(parts)
        kind, length = struct.unpack_from("<4sI", data, position)
        start, position = position, position + 8 + length + length % 2
        yield kind, start, min(position, end)
