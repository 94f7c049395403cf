"""Parses PNG (W3C, third edition, section 5): a signature, then chunks."""

import struct

from model.containers.contents import Contents, count_part

KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL"})
"""Chunks that determine the pixels, or that tell whether the default image is the first frame of an animation. Texts, colour
profiles and later frames (`fdAT`) are dropped: Pillow decompresses all of them before the first pixel."""

SIGNATURE = 8  # bytes


def read(data: bytes) -> Contents:
    """Keep the chunks that determine the pixels.

    Raises:
        ValueError, struct.error: If the first chunk is not a header, or there is a second header.
        PictureError: `picture_too_complex` for too many chunks.
    """
    header = SIGNATURE + 8
    length = int.from_bytes(data[SIGNATURE : SIGNATURE + 4], "big")
    width, height = struct.unpack_from(">II", data[header : header + length])  # never of what follows a short header
    kept = [data[:SIGNATURE]]
    exif = b""
    parts = 0
    position = SIGNATURE
    while len(data) >= position + 8:
        parts = count_part(parts)
        length, kind = struct.unpack_from(">I4s", data, position)
        if (kind == b"IHDR") != (position == SIGNATURE):
            raise ValueError(f"a chunk {kind!r} at byte {position}")
        body, position = position + 8, position + 12 + length
        if not kind.isalnum():
            kept.append(data[body - 8 :])  # damage: the decoder stops here and reports whether pixels are missing
            break
        if kind in KEPT:
            kept.append(data[body - 8 : position])
        elif kind == b"eXIf":
            exif = data[body : body + length]
        elif kind == b"tEXt" and data.startswith(b"exif\x00", body):
            exif = data[body + 5 : body + length]
        if kind == b"IEND":
            break
    return Contents(width, height, b"".join(kept), exif)
