"""PNG (W3C, third edition, section 5): a signature, then chunks."""

import struct

from model.containers.contents import Contents, count_part

KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL"})
"""What decides on the pixels, and what tells the first frame of an animation from its stand-in. Texts, profiles and
later frames (`fdAT`) stay behind: Pillow decompresses them, one after the other, before the first pixel."""

SIGNATURE = 8


def read(data: bytes) -> Contents:
    """Keep the chunks that decide on the pixels.

    Raises:
        ValueError, struct.error: when the first chunk is no header, or there is a second one.
        PictureError: `picture_too_complex` for too many chunks.
    """
    width, height = struct.unpack_from(">II", data, SIGNATURE + 8)
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
            kept.append(data[body - 8 :])  # damage: the decoder stops here, and says whether it had enough
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
