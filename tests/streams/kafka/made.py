"""Batches for tests: built by aiokafka, and then changed at will, with a checksum that is right again."""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.kafka.batches import HEADER_BYTES

ATTRIBUTES_AT, LAST_DELTA_AT, COUNT_AT = 21, 23, 57


class Made(NamedTuple):
    """What a record is made of."""

    key: bytes | None = b"key"
    value: bytes | None = b"value"
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = 1_700_000_000_000


def batch(
    records: Sequence[Made], *, codec: int = 0, base: int = 0, producer: int = -1, transactional: bool = False
) -> bytes:
    """A batch in format 2 with these records, at the offsets from `base` on."""
    builder: Any = DefaultRecordBatchBuilder(2, codec, int(transactional), producer, -1, -1, 2**31 - 1)
    for offset, (key, value, headers, timestamp) in enumerate(records):
        builder.append(offset, timestamp, key, value, list(headers))
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    return bytes(made)


def changed(made: bytes, at: int, layout: str, value: int) -> bytes:
    """The batch with a field of its header changed, and the checksum of the result."""
    result = bytearray(made)
    struct.pack_into(layout, result, at, value)
    return with_checksum(result)


def with_records(made: bytes, records: bytes, *, codec: int | None = None) -> bytes:
    """The batch with these bytes in place of its records, and in a codec's name."""
    result = bytearray(made[:HEADER_BYTES] + records)
    struct.pack_into(">i", result, 8, len(result) - 12)
    if codec is not None:
        struct.pack_into(">h", result, ATTRIBUTES_AT, codec)
    return with_checksum(result)


def with_checksum(made: bytes | bytearray) -> bytes:
    result = bytearray(made)
    struct.pack_into(">I", result, 17, calc_crc32c(bytes(result[21:])))
    return bytes(result)


def varint(value: int) -> bytes:
    """In zigzag encoding."""
    left, out = (value << 1) ^ (value >> 63), bytearray()
    while left > 0x7F:
        out.append(0x80 | left & 0x7F)
        left >>= 7
    return bytes([*out, left])


def record(
    offset: int, *, key: bytes = b"k", value: bytes = b"v", headers: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """A record as bytes, whose header names are bytes too."""
    body = bytearray(b"\0" + varint(0) + varint(offset))
    for content in (key, value):
        body += varint(len(content)) + content
    body += varint(len(headers))
    for pair in headers:
        for content in pair:
            body += varint(len(content)) + content
    return varint(len(body)) + bytes(body)
