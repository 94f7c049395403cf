"""Walks through the boxes of a file of the ISO base media file format (ISO/IEC 14496-12): AVIF and HEIC."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from model.containers.contents import count_part
from model.exceptions import PictureError


class Box(NamedTuple):
    kind: bytes
    start: int
    end: int


def boxes(data: bytes, position: int, end: int) -> Iterator[Box]:
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
        yield Box(kind, position + header, min(position + length, end))
        position += length


def only(found: list[Box], kind: bytes) -> Box:
    """The only box of a kind. Two are refused, because the decoder could read the other one."""
    same = [box for box in found if box.kind == kind]
    if len(same) != 1:
        raise ValueError(f"{len(same)} boxes of type {kind!r}, expected one")
    return same[0]


def locations(data: bytes, inside: list[Box], file_format: str) -> dict[int, bytes]:
    """The bytes of each item, from the item location box (ISO/IEC 14496-12, section 8.11.3).

    Args:
        data: the file.
        inside: the boxes of its `meta` box.
        file_format: for messages.

    Raises:
        ValueError, IndexError: the box is missing or inconsistent.
        PictureError: `truncated_picture` for data beyond the end of the file.
    """
    box = only(inside, b"iloc")
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
                start += only(inside, b"idat").start
            total += length
            if start + length > len(data) or total > len(data):
                raise PictureError(
                    "truncated_picture",
                    f"the data of this {file_format} extends beyond its {len(data)} bytes: send the complete file",
                )
            pieces.append(data[start : start + length])
        if item in found:
            raise ValueError(f"two locations of item {item}")
        found[item] = b"".join(pieces)
    return found
