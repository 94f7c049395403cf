"""Finds the frame size that an AV1 decoder allocates for a bit stream (AV1 specification, sections 5.3 to 5.5).

The boxes of an AVIF file state a size too, but the stream inside can differ from it.
"""

from model.containers.contents import count_part
from model.exceptions import PictureError

SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6


class _Bits:
    """Reads a sequence of bits, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("an AV1 header that ends early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1


def frame_size(stream: bytes) -> tuple[int, int]:
    """Return the maximum (width, height), pixels, of the one frame in `stream`.

    Raises:
        ValueError: If there is no sequence header, or it ends early.
        PictureError: `picture_too_complex` for more than one frame. Hidden frames cost as much as shown ones.
    """
    sizes: list[tuple[int, int]] = []
    frames = parts = position = 0
    while position < len(stream):
        parts = count_part(parts)
        kind, start, position = _unit(stream, position)
        if kind == SEQUENCE_HEADER:
            sizes.append(_sequence_frame_size(stream[start : min(position, start + 1024)]))
        frames += kind in (FRAME_HEADER, FRAME)
        if frames > 1:
            raise PictureError("picture_too_complex", "an AVIF picture made of several AV1 frames: save it as one")
    if not sizes:
        raise ValueError("an AV1 stream without a sequence header")
    return max(sizes, key=lambda size: size[0] * size[1])


def _unit(stream: bytes, position: int) -> tuple[int, int, int]:
    """Return (type, start of the body, end) of the unit (OBU) at `position`."""
    header = stream[position]
    position += 2 if header & 4 else 1  # the flag of an extension byte
    length = len(stream) - position
    if header & 2:
        length = 0
        for group in range(8):  # leb128
            byte = stream[position]
            position += 1
            length |= (byte & 0x7F) << 7 * group
            if not byte & 0x80:
                break
    return header >> 3 & 15, position, position + length


def _sequence_frame_size(header: bytes) -> tuple[int, int]:
    """Return the maximum frame size that a sequence header allows.

    With `reduced_still_picture_header` that is the size in the header. Without it, a frame may state another size in the
    same number of bits, so it is the largest size that fits these bits.
    """
    bits = _Bits(header)
    bits.take(4)  # profile, still_picture
    reduced = bits.take(1)
    if reduced:
        bits.take(5)  # level
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    return (width, height) if reduced else (1 << width_bits, 1 << height_bits)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing information
        bits.take(64)
        if bits.take(1):  # equal picture intervals
            _skip_uvlc(bits)
        if bits.take(1):  # decoder model information
            delay_bits = bits.take(5) + 1
            bits.take(42)
    initial_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # level
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if initial_display_delay and bits.take(1):
            bits.take(4)


def _skip_uvlc(bits: _Bits) -> None:
    zeros = 0
    while not bits.take(1):
        zeros += 1
    if zeros < 32:
        bits.take(zeros)
