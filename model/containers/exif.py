"""The orientation in an EXIF block. Read here, since Pillow's TIFF reader warns and raises on damaged blocks and reads
every tag of them, while a damaged EXIF block does not make a picture unreadable and one tag is wanted."""

import struct

ORIENTATION_TAG = 0x0112
SHORT = 3
"""TIFF's type number of a 16-bit integer."""


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
