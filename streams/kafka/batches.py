"""Record batches as Kafka encodes them: inflated with a bound, and parsed as far as they can be parsed.

Pure: bytes in, values out. aiokafka's parser is fast and gives up at the first thing that is wrong; `records_of` is slow and
goes on behind it. `reading.py` decides which of the two parses a batch.
"""

import struct
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import cramjam
import numpy as np

from streams.exceptions import MessageError

OVERHEAD = 12  # bytes in front of what the length of a batch counts: the base offset, and the length
MAGIC = 16  # place of the byte that names the format, the same in all formats
MIN_LENGTHS = {0: 14, 1: 22, 2: 49}  # bytes that the length counts at least, by format

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = {GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}
CODEC_BITS = 0x07  # of the attributes
LOG_APPEND_TIME = 0x08  # of the attributes: the broker's time counts, not the producer's
CONTROL = 0x20  # of the attributes: the batch holds the end of a transaction, and no records

# Kafka's producers put xerial's framing around snappy: blocks of up to 32 KiB, each behind its size.
XERIAL, XERIAL_HEADER = b"\x82SNAPPY\0", 16

# Most batches inflate to less than this many times their size. A buffer of that size comes from the heap; one of the size of
# the limit would be mapped and unmapped for each batch. The few batches that need more are inflated a second time.
USUAL_RATIO, SMALLEST_BUFFER = 32, 64 * 1024
FULL = "whole buffer"  # in the error of cramjam when the result does not fit the buffer

# Records of one batch that are unreadable by themselves. More of them are garbage, of which each byte may be a record: they and
# all behind them are one part that cannot be read.
MAX_UNREADABLE = 100

MAX_HEADERS = 1000  # of one record. Two bytes are enough for a header, which takes 70 bytes once it is parsed.


class BatchHeader(NamedTuple):
    """What stands in front of the records of a batch, in format 2."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int  # milliseconds since the epoch
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int  # how many

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta


_HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = _HEADER.size  # 61
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_AT = 21
_LEGACY_KEY_AT = (18, 26)  # place of the key's length, by format


def header_of(batch: memoryview) -> BatchHeader:
    """The header of a batch in format 2."""
    return BatchHeader(*_HEADER.unpack_from(batch))


class ParsedRecord(NamedTuple):
    """A record, with the names that aiokafka's own records have."""

    offset: int
    timestamp: int  # milliseconds since the epoch; -1 if the producer gave none
    timestamp_type: int  # 0: the producer's, 1: the broker's
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class Unreadable(NamedTuple):
    """A part of a batch that cannot be read. `first` is above `last` if no offset belongs to it."""

    first: int  # offsets
    last: int
    raw: bytes
    error: MessageError


def batch_at(data: memoryview, start: int) -> memoryview | None:
    """The batch that starts at `start`, or None if the data end before it does, which is normal for the last one of a response.

    Raises:
        MessageError: It states a format that does not exist, or a length that it cannot have. It is not whole although it is
            the first: brokers send that one whole.
    """
    if len(data) - start > MAGIC:
        (length,) = struct.unpack_from(">i", data, start + 8)
        magic = data[start + MAGIC]
        if magic not in MIN_LENGTHS:
            raise MessageError("unreadable_batch", f"the batch has format {magic}; Kafka has the formats 0 to 2")
        if length < MIN_LENGTHS[magic]:
            raise MessageError(
                "unreadable_batch", f"the batch states a length of {length} bytes; {MIN_LENGTHS[magic]} is the least"
            )
        end = start + OVERHEAD + length
        if end <= len(data):
            return data[start:end]
    if start == 0:
        raise MessageError("unreadable_batch", f"the batch is cut off after {len(data)} bytes")
    return None


def behind_damaged(data: memoryview, start: int, position: int) -> tuple[int, int]:
    """Where to go on behind a batch whose header may lie.

    The length and the base offset are not covered by a checksum, and the broker itself relies on them. Everything else may be
    wrong: one wrong bit must not skip events behind the batch.

    Args:
        data: Batches of a partition.
        start: Where the damaged batch starts in it.
        position: The next offset to read.

    Returns:
        The offset to go on at, and where the batch behind starts in `data`; its end if there is none. The offset is above the
        position, unless the next batch starts at the position: then the damaged batch only claims the offsets behind it.
    """
    if len(data) - start < HEADER_BYTES:
        return position + 1, len(data)
    header = header_of(data[start:])
    following = start + OVERHEAD + header.length
    if header.length > 0 and len(data) - following > MAGIC and data[following + MAGIC] == 2:
        (base,) = struct.unpack_from(">q", data, following)
        return max(base, position), following
    if header.magic != 2:  # formats 0 and 1 state the last offset
        return max(header.base_offset, position) + 1, len(data)
    records = min(header.last_offset_delta + 1, header.records)
    return max(header.base_offset + records, position + 1), len(data)


def uncompressed(batch: memoryview, limit: int) -> memoryview:
    """A batch in format 2 without compression: the same batch if it has none. Its checksum is that of the compressed one.

    Args:
        batch: Header and records.
        limit: Maximum size of the records, bytes.

    Raises:
        MessageError: The records cannot be inflated, or are larger than the limit. Nothing larger was allocated.
    """
    (attributes,) = _ATTRIBUTES.unpack_from(batch, _ATTRIBUTES_AT)
    codec = attributes & CODEC_BITS
    if not codec:
        return batch
    head = bytearray(batch[:HEADER_BYTES])
    _ATTRIBUTES.pack_into(head, _ATTRIBUTES_AT, attributes & ~CODEC_BITS)
    return inflate(codec, batch[HEADER_BYTES:], limit, head=bytes(head))


def check_legacy(batch: memoryview, limit: int) -> int:
    """The size that a message of format 0 or 1 inflates to, which is 0 if it is not compressed. If it is, it holds others.

    No producer of today writes these formats, so that the cost of inflating them once more does not matter.

    Raises:
        MessageError: The message cannot be inflated, or the result is larger than `limit`.
        ValueError: A length in the message is wrong.
    """
    codec = batch[MAGIC + 1] & CODEC_BITS
    if not codec:
        return 0
    _, place = _legacy_bytes(batch, _LEGACY_KEY_AT[batch[MAGIC]])
    value, _ = _legacy_bytes(batch, place)
    return len(inflate(codec, value, limit))


def _legacy_bytes(batch: memoryview, place: int) -> tuple[memoryview, int]:
    """Bytes behind their length in formats 0 and 1, and the place behind them. Raises ValueError."""
    size = max(int.from_bytes(batch[place : place + 4], "big", signed=True), 0)  # -1 stands for null
    place += 4
    if size > len(batch) - place:
        raise ValueError(f"a field states {size} bytes, and {len(batch) - place} follow")
    return batch[place : place + size], place + size


def inflate(codec: int, data: memoryview, limit: int, *, head: bytes = b"") -> memoryview:
    """What `data` inflates to, behind `head`.

    Args:
        codec: As the attributes of a batch state it.
        data: Compressed.
        limit: Maximum size of the result without `head`, bytes.
        head: Bytes to put in front.

    Raises:
        MessageError: The data cannot be inflated, or the result is larger than the limit.
    """
    if codec == SNAPPY:
        return _unsnap(data, limit, head)
    if codec not in CODECS:
        raise MessageError("unreadable_batch", f"the batch states codec {codec}; Kafka has the codecs 0 to 4")
    into = {GZIP: cramjam.gzip, LZ4: cramjam.lz4, ZSTD: cramjam.zstd}[codec].decompress_into
    for size in sorted({min(limit, max(SMALLEST_BUFFER, USUAL_RATIO * len(data))), limit}):
        out = _buffer(head, size)
        try:
            return out[: len(head) + into(data, out[len(head) :])]
        except cramjam.DecompressionError as error:
            if FULL not in str(error):
                raise _damaged(codec, error) from error
    raise _too_large(limit)


def _unsnap(data: memoryview, limit: int, head: bytes) -> memoryview:
    blocks = list(_xerial_blocks(data)) if bytes(data[: len(XERIAL)]) == XERIAL else [data]
    try:
        sizes = [cramjam.snappy.decompress_raw_len(block) for block in blocks]
        if sum(sizes) > limit:
            raise _too_large(limit)
        out = _buffer(head, sum(sizes))
        place = len(head)
        for block, size in zip(blocks, sizes, strict=True):
            place += cramjam.snappy.decompress_raw_into(block, out[place : place + size])
    except cramjam.DecompressionError as error:
        raise _damaged(SNAPPY, error) from error
    return out[:place]


def _xerial_blocks(data: memoryview) -> Iterator[memoryview]:
    place = XERIAL_HEADER
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        place += 4
        if not 0 < size <= len(data) - place:
            raise _damaged(SNAPPY, f"a block states {size} bytes, and {len(data) - place} follow")
        yield data[place : place + size]
        place += size


def _buffer(head: bytes, size: int) -> memoryview:
    """`head`, and room for `size` bytes, which take no memory until something is written to them."""
    out = np.empty(len(head) + size, np.uint8).data
    out[: len(head)] = head
    return out


def _damaged(codec: int, what: object) -> MessageError:
    return MessageError(
        "unreadable_batch", f"the batch is compressed with {CODECS[codec]} and cannot be inflated: {what}"
    )


def _too_large(limit: int) -> MessageError:
    return MessageError("batch_too_large", f"the batch inflates to more than {limit} bytes (MAX_BATCH_BYTES)")


def records_of(
    batch: memoryview, *, skip: int = 0, after: int | None = None, position: int = 0
) -> Iterator[ParsedRecord | Unreadable]:
    """The records of a batch in format 2 without compression, and what cannot be read between and behind them.

    A name of a header that is not UTF-8 gets backslash escapes. A record whose offset is not between that of the record before
    it and the last one of the batch cannot be acknowledged, so it is unreadable, at the next offset.

    Args:
        batch: Header and records.
        skip: Number of records that were read before.
        after: The offset of the last one of those; None: there are none.
        position: Records below this offset are left out, which takes a fraction of the time of parsing them.
    """
    header = header_of(batch)
    last, before = header.last_offset, header.base_offset - 1 if after is None else after
    place, unreadable = HEADER_BYTES, 0
    for number in count():
        try:
            bounds = _bounds(batch, place, number, header.records)
        except ValueError as error:
            yield Unreadable(before + 1, last, bytes(batch[place:]), MessageError("unreadable_batch", str(error)))
            return
        if bounds is None:
            return
        start, end = bounds
        if number >= skip:
            try:
                offset, time, behind = _start(batch[start:end], header, before)
                record = None if offset < position else _record(batch[start:end], behind, header, offset, time)
            except ValueError as error:
                if before == last or unreadable == MAX_UNREADABLE:
                    yield Unreadable(
                        before + 1, last, bytes(batch[place:]), MessageError("unreadable_batch", str(error))
                    )
                    return
                unreadable += 1
                before += 1
                yield Unreadable(before, before, bytes(batch[place:end]), MessageError("unreadable_record", str(error)))
            else:
                before = offset
                if record is not None:
                    yield record
        place = end


def _bounds(batch: memoryview, place: int, number: int, records: int) -> tuple[int, int] | None:
    """Start and end of the record whose length is at `place`; None behind the last of the batch's records. Raises ValueError."""
    if number >= records:
        if place < len(batch):
            raise ValueError(f"{len(batch) - place} bytes follow the last of {records} records")
        return None
    if place == len(batch):
        raise ValueError(f"the batch ends after {number} of {records} records")
    length, start = _varint(batch, place, len(batch))
    if not 0 <= length <= len(batch) - start:
        raise ValueError(f"a record states a length of {length} bytes, and {len(batch) - start} follow")
    return start, start + length


def _start(data: memoryview, header: BatchHeader, before: int) -> tuple[int, int, int]:
    """Offset and time of a record, and the place behind them. `before`: the offset of the record before. Raises ValueError."""
    time, place = _varint(data, 1, len(data))  # behind the attributes, which have no meaning
    delta, place = _varint(data, place, len(data))
    offset = header.base_offset + delta
    if not before < offset <= header.last_offset:
        raise ValueError(f"the record states offset {offset}, outside of {before + 1} to {header.last_offset}")
    return offset, time, place


def _record(data: memoryview, place: int, header: BatchHeader, offset: int, time: int) -> ParsedRecord:
    """Parse the rest of a record. Raises ValueError."""
    end = len(data)
    key, place = _bytes(data, place)
    value, place = _bytes(data, place)
    number, place = _varint(data, place, end)
    if not 0 <= number <= MAX_HEADERS:
        raise ValueError(f"the record states {number} headers; at most {MAX_HEADERS} are accepted")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(number):
        name, place = _bytes(data, place)
        if name is None:
            raise ValueError("a header has no name")
        content, place = _bytes(data, place)
        headers.append((name.decode(errors="backslashreplace"), content))
    if place != end:
        raise ValueError(f"the record has {end} bytes, and ends after {place}")
    appended = bool(header.attributes & LOG_APPEND_TIME)
    timestamp = header.max_timestamp if appended else header.first_timestamp + time
    return ParsedRecord(offset, timestamp, int(appended), key, value, headers)


def _bytes(data: memoryview, place: int) -> tuple[bytes | None, int]:
    """Bytes behind their length, where a negative one stands for null, and the place behind them. Raises ValueError."""
    size, place = _varint(data, place, len(data))
    if size < 0:
        return None, place
    if size > len(data) - place:
        raise ValueError(f"a field states {size} bytes, and {len(data) - place} follow")
    return bytes(data[place : place + size]), place + size


def _varint(data: memoryview, place: int, end: int) -> tuple[int, int]:
    """A number of at most 64 bits in zigzag encoding, and the place behind it. Raises ValueError."""
    found = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise ValueError("the record ends within a number")
        byte = data[place]
        place += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise ValueError("a number has more than ten bytes")
    if found >= 2**64:
        raise ValueError("a number does not fit 64 bits")
    return (found >> 1) ^ -(found & 1), place
