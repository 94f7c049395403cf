"""Parses HEIC (ISO/IEC 23008-12): boxes that contain items of HEVC data, most often the tiles of a grid."""

import struct

from model.containers.avif import HIDDEN, MAX_BRANDS
from model.containers.boxes import Box, boxes, locations, only
from model.containers.contents import Contents
from model.exceptions import PictureError

BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis"})
"""Still pictures of 8 bits and of more, also in several layers. Videos have others."""
CONTAINERS = frozenset({b"mif1", b"miaf"})
"""Generic brands: the compatible brands tell whether the content is HEIC."""
SHOWN = frozenset({b"hvc1", b"grid", b"iden"})
"""Types of items that make the picture: HEVC data, a grid of them, and one of them that is turned or cut."""
MAX_ITEMS = 1024
"""Maximum number of such items. A photo of 48 megapixels in tiles of 512 x 512 pixels has 192, and thumbnails."""


def is_heic(data: bytes) -> bool:
    """Whether `data` starts with a file type box that has a HEIC brand."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), MAX_BRANDS)
    compatible = {data[at : at + 4] for at in range(16, end, 4)}
    return data[8:12] in BRANDS or (data[8:12] in CONTAINERS and not BRANDS.isdisjoint(compatible))


def read(data: bytes) -> Contents:
    """Keep the items of the picture. Hide all others, EXIF blocks among them, without moving any byte.

    The canvas is the largest size that a size property states. The decoder applies the orientation: HEIC has its own properties for it,
    and EXIF does not count.

    Raises:
        ValueError, IndexError, struct.error: If a required box is missing, duplicate or inconsistent.
        PictureError: `truncated_picture` for data beyond the end of the file. `picture_too_complex` for too many items or boxes.
    """
    meta = only(list(boxes(data, 0, len(data))), b"meta")
    inside = list(boxes(data, meta.start + 4, meta.end))
    properties = only(list(boxes(data, *only(inside, b"iprp")[1:])), b"ipco")
    sizes: list[tuple[int, int]] = [
        struct.unpack_from(">II", data[box.start : box.end], 4)
        for box in boxes(data, *properties[1:])
        if box.kind == b"ispe"
    ]
    shown = bytearray(data)
    if not _shown_items(data, only(inside, b"iinf"), shown) or not sizes:
        raise ValueError("a HEIC file without a picture")
    locations(data, inside, "HEIC")  # the decoder would make something up for data that is missing
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Contents(width, height, bytes(shown))


def _shown_items(data: bytes, items: Box, shown: bytearray) -> int:
    """Return the number of items that make the picture. Hide all others in `shown`."""
    count = 0
    wide_count = data[items.start] > 0
    for box in boxes(data, items.start + (8 if wide_count else 6), items.end):
        version = data[box.start]
        if version not in (2, 3):
            raise ValueError(f"an item entry of version {version}")
        at = box.start + (8 if version == 2 else 10)
        if at + 4 > box.end:  # what follows belongs to another box
            raise ValueError(f"an item entry of {box.end - box.start} bytes")
        if data[at : at + 4] in SHOWN:
            count += 1
        else:
            shown[at : at + 4] = HIDDEN
    if count > MAX_ITEMS:
        raise PictureError(
            "picture_too_complex", f"a HEIC of {count} pictures, over the limit of {MAX_ITEMS}: save it as a JPEG"
        )
    return count
