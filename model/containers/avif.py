"""Parses AVIF (ISO/IEC 23008-12 and the AV1 Image File Format): boxes that contain items of AV1 data.

Pictures that consist of a grid of tiles are refused, because each tile starts its own decoder.
"""

import struct

from model.containers.av1 import frame_size
from model.containers.boxes import Box, boxes, locations, only
from model.containers.contents import Contents
from model.exceptions import PictureError

BRANDS = frozenset({b"avif", b"avis"})
"""A still picture, and an animation. The decoder only sees the first frame of an animation."""
CONTAINERS = frozenset({b"mif1", b"msf1", b"miaf"})
"""Generic brands: the compatible brands tell whether the content is AVIF."""
MAX_BRANDS = 1024
"""Maximum length of the file type box, bytes."""
MAX_ITEMS = 16
"""Maximum number of AV1 items: the picture, its transparency, thumbnails, gain maps."""
HIDDEN = b"skip"
"""Replaces the type of items that the decoder does not need, for example EXIF blocks, which Pillow would parse."""


def is_avif(data: bytes) -> bool:
    """Whether `data` starts with a file type box that has an AVIF brand."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), MAX_BRANDS)
    compatible = {data[at : at + 4] for at in range(16, end, 4)}
    return data[8:12] in BRANDS or (data[8:12] in CONTAINERS and b"avif" in compatible)


def read(data: bytes) -> Contents:
    """Keep the items of the picture. Hide all other items and the track of an animation, without moving any byte.

    The canvas is the largest size that a size property or an AV1 stream states. The decoder applies the orientation:
    AVIF has its own properties for it, and EXIF does not count.

    Raises:
        ValueError, IndexError, struct.error: If a required box is missing, duplicate or inconsistent.
        PictureError: `truncated_picture` for data beyond the end of the file. `picture_too_complex` for a grid, for
            several frames, or for too many boxes.
    """
    shown = bytearray(data)
    top = list(boxes(data, 0, len(data)))
    for box in top:
        if box.kind == b"moov":
            shown[box.start - 4 : box.start] = b"free"
    if top[0].end > MAX_BRANDS:
        raise ValueError(f"{top[0].end} bytes of brands")
    for at in range(8, top[0].end, 4):
        if data[at : at + 4] == b"avis":
            shown[at : at + 4] = b"avif"
    meta = only(top, b"meta")
    inside = list(boxes(data, meta.start + 4, meta.end))
    properties = only(list(boxes(data, *only(inside, b"iprp")[1:])), b"ipco")
    sizes = [
        struct.unpack_from(">II", data[box.start : box.end], 4)
        for box in boxes(data, *properties[1:])
        if box.kind == b"ispe"
    ]
    found = locations(data, inside, "AVIF")
    coded = _coded_items(data, only(inside, b"iinf"), shown)
    sizes += [frame_size(found[item]) for item in coded if item in found]
    if not coded or not sizes:
        raise ValueError("an AVIF file without a picture")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Contents(width, height, bytes(shown))


def _coded_items(data: bytes, items: Box, shown: bytearray) -> list[int]:
    """Return the numbers of the AV1 items. Hide all other items in `shown`."""
    coded: list[int] = []
    wide_count = data[items.start] > 0
    for box in boxes(data, items.start + (8 if wide_count else 6), items.end):
        entry = data[box.start : box.end]
        version = entry[0]
        number, _, kind = struct.unpack_from(">HH4s" if version == 2 else ">IH4s", entry, 4)
        if kind == b"grid":
            raise PictureError(
                "picture_too_complex", "an AVIF picture made of a grid of pictures: save it as one picture"
            )
        if kind == b"av01":
            coded.append(number)
        else:
            at = box.start + (8 if version == 2 else 10)
            shown[at : at + 4] = HIDDEN
    if len(coded) > MAX_ITEMS:
        raise PictureError(
            "picture_too_complex", f"an AVIF of {len(coded)} pictures, over the limit of {MAX_ITEMS}: save one of them"
        )
    return coded
