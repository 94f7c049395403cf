"""Reads the wire format of Protocol Buffers: the fields of one message, without a schema. Pure; copies nothing.

Only what `model.bundle.onnx_check` needs. https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types. 3 and 4, groups, are deprecated and refused."""

_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
_EMPTY = memoryview(b"")


class WireError(ValueError):
    """Bytes are not a message. The text is a noun phrase: what was found instead."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire: int
    value: int
    """Of a VARINT, 0 to 2**64 - 1; else 0."""
    content: memoryview
    """Of the other wire types; empty for a VARINT."""


def read_fields(data: memoryview) -> Iterator[Field]:
    """Read the fields of a message in the order of the file.

    Raises:
        WireError: The message ends early, or is none.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield Field(number, wire, value, _EMPTY)
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in _FIXED_SIZES:
            size = _FIXED_SIZES[wire]
        else:
            raise WireError(f"wire type {wire}")
        if size > len(data) - at:
            raise WireError("a file that ends early")
        yield Field(number, wire, 0, data[at : at + size])
        at += size


def read_integers(field: Field) -> Iterator[int]:
    """Read the signed integers, int32 or int64, of a repeated field: one by itself, or many that are packed."""
    if field.wire == VARINT:
        yield _signed(field.value)
        return
    at = 0
    while at < len(field.content):
        value, at = _varint(field.content, at)
        yield _signed(value)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a number of at most 64 bits. Returns it, and the place of the next byte."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("a file that ends early")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise WireError("a number of more than ten bytes")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
