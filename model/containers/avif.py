"""Parses AVIF (ISO/IEC 23008-12 and the AV1 Image File Format): boxes that contain items of AV1 data.

Pictures that consist of a grid of tiles are refused, because each tile starts its own decoder.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from model.containers.av1 import frame_size
from model.containers.contents import Contents, count_part
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


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


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
    top = list(_boxes(data, 0, len(data)))
    for box in top:
        if box.kind == b"moov":
            shown[box.start - 4 : box.start] = b"free"
    if top[0].end > MAX_BRANDS:
        raise ValueError(f"{top[0].end} bytes of brands")
    for at in range(8, top[0].end, 4):
        if data[at : at + 4] == b"avis":
            shown[at : at + 4] = b"avif"
    meta = _only(top, b"meta")
    inside = list(_boxes(data, meta.start + 4, meta.end))
    properties = _only(list(_boxes(data, *_only(inside, b"iprp")[1:])), b"ipco")
    sizes = [
        struct.unpack_from(">II", data[box.start : box.end], 4)
        for box in _boxes(data, *properties[1:])
        if box.kind == b"ispe"
    ]
    locations = _locations(data, inside)
    coded = _coded_items(data, _only(inside, b"iinf"), shown)
    sizes += [frame_size(locations[item]) for item in coded if item in locations]
    if not coded or not sizes:
        raise ValueError("an AVIF file without a picture")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Contents(width, height, bytes(shown))


def _boxes(data: bytes, position: int, end: int) -> Iterator[_Box]:
    """Yield the boxes from `position` to `end`. A box that claims to be longer is cut at `end`."""
    parts = 0
    while position + 8 <= end:
        parts = count_part(parts)
        length, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        elif length == 0:
            length = end - position
        if length < header:
            raise ValueError(f"a box {kind!r} of {length} bytes")
        yield _Box(kind, position + header, min(position + length, end))
        position += length


def _only(boxes: list[_Box], kind: bytes) -> _Box:
    """Return the only box of a kind. Two are refused, because the decoder could read the other one."""
    found = [box for box in boxes if box.kind == kind]
    if len(found) != 1:
        raise ValueError(f"{len(found)} boxes of type {kind!r}, expected one")
    return found[0]


def _coded_items(data: bytes, items: _Box, shown: bytearray) -> list[int]:
    """Return the numbers of the AV1 items. Hide all other items in `shown`."""
    coded: list[int] = []
    wide_count = data[items.start] > 0
    for box in _boxes(data, items.start + (8 if wide_count else 6), items.end):
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


def _locations(data: bytes, inside: list[_Box]) -> dict[int, bytes]:
    """Return the bytes of each item, from the item location box (ISO/IEC 14496-12, section 8.11.3)."""
    box = _only(inside, b"iloc")
    version = data[box.start]
    sizes = data[box.start + 4], data[box.start + 5]
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size = sizes[1] & 15 if version else 0
    position = box.start + 6

    def number(size: int) -> int:
        nonlocal position
        position += size
        if position > box.end:
            raise ValueError("an item location box that ends early")
        return int.from_bytes(data[position - size : position], "big")

    found: dict[int, bytes] = {}
    parts = total = 0
    wide = 4 if version == 2 else 2
    for _ in range(number(wide)):
        item = number(wide)
        method = number(2) & 15 if version else 0
        number(2)  # data reference
        base = number(base_size)
        pieces: list[bytes] = []
        for _ in range(number(2)):
            parts = count_part(parts)
            number(index_size)
            start, length = base + number(offset_size), number(length_size)
            if method > 1:
                raise ValueError(f"item {item} is derived from other items")
            if method == 1:
                start += _only(inside, b"idat").start
            total += length
            if start + length > len(data) or total > len(data):
                raise PictureError(
                    "truncated_picture",
                    f"an AVIF whose data extends beyond its {len(data)} bytes: send the complete file",
                )
            pieces.append(data[start : start + length])
        if item in found:
            raise ValueError(f"two locations of item {item}")
        found[item] = b"".join(pieces)
    return found
