"""Reads the orientation from an EXIF block.

Pillow is not used for it. Its TIFF reader reads every tag, and warns or raises on damaged blocks. A picture with a damaged
EXIF block is still readable, and only one tag is needed.
"""

import struct

ORIENTATION_TAG = 0x0112
SHORT = 3
"""TIFF type number of a 16-bit integer."""


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, of an EXIF block (CIPA DC-008, section 4.6.5). Return 1 if it cannot be read.

    Args:
        exif: The block, with or without its `Exif` prefix.
    """
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
