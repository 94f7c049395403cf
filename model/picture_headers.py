"""What the first bytes of a picture say, read without a decoder: the format, the canvas of a GIF or WebP, the EXIF orientation.

Pillow's GIF and WebP classes allocate (and warn) while they open a file, so that their size has to be known before;
JPEG and PNG are opened lazily, and Pillow may read their headers. EXIF is read here since Pillow's TIFF reader warns
and raises on damaged EXIF blocks, and a damaged EXIF block does not make a picture unreadable.
"""

import struct

ORIENTATION_TAG = 0x0112
SHORT = 3
"""TIFF's type number of a 16-bit integer."""


def picture_format(data: bytes) -> str | None:
    """`JPEG`, `PNG`, `GIF` or `WEBP` by the signature at the start of `data`; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def webp_canvas(data: bytes) -> tuple[int, int]:
    """(width, height) of a WebP file by its first chunk (RFC 9649, section 2).

    Raises:
        ValueError: when the chunk is not one of `VP8X`, `VP8 `, `VP8L`.
        struct.error: when the file ends before.
    """
    chunk = data[12:16]
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


def gif_canvas(data: bytes) -> tuple[int, int]:
    """(width, height) that decoding the first frame of a GIF needs: its screen, or its first frame where that reaches beyond.

    Source: GIF89a specification, sections 18 to 24.

    Raises:
        ValueError: when there is no frame.
        struct.error, IndexError: when the file ends before.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _colour_table(flags)
    while data[position] == 0x21:  # an extension: label, then sub-blocks up to an empty one
        position += 2
        while length := data[position]:
            position += 1 + length
        position += 1
    if data[position] != 0x2C:
        raise ValueError("a GIF file without a frame")
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def exif_orientation(exif: bytes) -> int:
    """The orientation 1 to 8 of an EXIF block (CIPA DC-008, section 4.6.5), with or without its `Exif` preamble; 1
    where it cannot be read."""
    tiff = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if tag == ORIENTATION_TAG and kind == SHORT:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _colour_table(flags: int) -> int:
    """Bytes of the colour table that a GIF's `flags` announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
