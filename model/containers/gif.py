"""Parses GIF (GIF89a specification, sections 18 to 24): a screen, then extensions and frames made of blocks."""

import struct

from model.containers.contents import Contents, count_part

EXTENSION, FRAME = 0x21, 0x2C
GRAPHIC_CONTROL = 0xF9
"""The extension that names the transparent colour. All others, such as comments, are dropped."""


def read(data: bytes) -> Contents:
    """Keep the screen, the graphic control extension, and everything from the first frame on.

    The canvas is the screen, or larger if the first frame extends beyond the screen.

    Raises:
        ValueError: If there is no frame.
        struct.error, IndexError: If the file ends before the frame.
        PictureError: `picture_too_complex` for too many blocks before the frame.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _colour_table(flags)
    kept = [data[:position]]
    parts = 0
    while data[position] == EXTENSION:
        start = position
        label = data[start + 1]
        position += 2
        while length := data[position]:
            parts = count_part(parts)
            position += 1 + length
        position += 1
        parts = count_part(parts)
        if label == GRAPHIC_CONTROL:
            if position == start + 3:
                raise ValueError("a graphic control extension without its block")
            kept.append(data[start:position])
    if data[position] != FRAME:
        raise ValueError("a GIF file without a frame")
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
    kept.append(data[position:])
    return Contents(max(width, left + frame_width), max(height, top + frame_height), b"".join(kept))


def _colour_table(flags: int) -> int:
    """Return the length in bytes of the colour table that the `flags` of a GIF announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
