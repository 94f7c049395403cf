"""The parser of record batches: the same result as aiokafka's for good ones, and bounds and plain words for the rest."""

import struct
import tracemalloc
import zlib
from typing import Any

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from streams.exceptions import MessageError
from streams.kafka.batches import (
    CODECS,
    GZIP,
    HEADER_BYTES,
    LZ4,
    MAX_HEADERS,
    MAX_UNREADABLE,
    SNAPPY,
    XERIAL,
    ZSTD,
    Unreadable,
    batch_at,
    inflate,
    records_of,
    uncompressed,
)
from tests.streams.kafka.made import COUNT_AT, LAST_DELTA_AT, Made, batch, changed, record, varint, with_records

LIMIT = 1024**2

maybe_bytes = st.none() | st.binary(max_size=300)
made_records = st.builds(
    Made,
    key=maybe_bytes,
    value=maybe_bytes,
    headers=st.lists(st.tuples(st.text(max_size=10), maybe_bytes), max_size=5),
    timestamp=st.integers(-1, 2**50),
)


def as_tuple(one: Any) -> tuple[Any, ...]:
    return (one.offset, one.timestamp, one.timestamp_type, one.key, one.value, list(one.headers), one.checksum)


def parsed(made: bytes, limit: int = LIMIT) -> list[Any]:
    return list(records_of(uncompressed(memoryview(made), limit)))


def problems(made: bytes) -> list[Unreadable]:
    return [one for one in parsed(made) if isinstance(one, Unreadable)]


@given(st.lists(made_records, min_size=1, max_size=8), st.integers(0, 4), st.integers(0, 2**60))
def test_a_good_batch_gives_what_aiokafka_gives(records: list[Made], codec: int, base: int) -> None:
    made = batch(records, codec=codec, base=base)
    assert [as_tuple(one) for one in parsed(made)] == [as_tuple(one) for one in DefaultRecordBatch(made)]
    plain: Any = uncompressed(memoryview(made), LIMIT)
    assert [as_tuple(one) for one in DefaultRecordBatch(plain)] == [as_tuple(one) for one in DefaultRecordBatch(made)]


@given(st.data())
def test_damaged_records_give_records_and_what_is_unreadable_and_nothing_else(data: st.DataObject) -> None:
    made = bytearray(batch(data.draw(st.lists(made_records, min_size=1, max_size=5)), base=100))
    for _ in range(data.draw(st.integers(1, 4))):
        made[data.draw(st.integers(HEADER_BYTES, len(made) - 1))] = data.draw(st.integers(0, 255))
    before = 99
    for one in records_of(memoryview(bytes(made))):
        assert before < (one.first if isinstance(one, Unreadable) else one.offset)
        before = one.last if isinstance(one, Unreadable) else one.offset


@given(st.binary(max_size=2000), st.integers(1, 7))
def test_garbage_under_the_name_of_a_codec_is_a_message_error(garbage: bytes, codec: int) -> None:
    made = with_records(batch([Made()]), garbage, codec=codec)
    try:
        uncompressed(memoryview(made), LIMIT)
    except MessageError as error:
        assert error.reason in {"unreadable_batch", "batch_too_large"}


# -- inflating


def compressed(codec: int, content: bytes) -> bytes:
    match codec:
        case 1:
            return zlib.compress(content, wbits=31)
        case 2:
            return bytes(cramjam.snappy.compress_raw(content))
        case 3:
            return bytes(cramjam.lz4.compress(content))
        case _:
            return bytes(cramjam.zstd.compress(content))


def xerial(*blocks: bytes) -> bytes:
    return XERIAL + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(block)) + block for block in blocks)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT - 1, LIMIT])
def test_a_batch_of_the_limit_is_inflated(codec: int, size: int) -> None:
    content = (b"tastes" * (size // 6 + 1))[:size]
    assert bytes(inflate(codec, memoryview(compressed(codec, content)), LIMIT, head=b"head")) == b"head" + content


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [LIMIT + 1, 64 * LIMIT])
def test_a_batch_above_the_limit_is_refused_before_it_takes_memory(codec: int, size: int) -> None:
    data = memoryview(compressed(codec, bytes(size)))
    tracemalloc.start()
    try:
        with pytest.raises(MessageError, match="more than 1048576 bytes") as caught:
            inflate(codec, data, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "batch_too_large"
    assert peak < 4 * LIMIT + 2 * len(data)


def test_the_blocks_of_xerial_share_the_limit() -> None:
    block = compressed(SNAPPY, bytes(LIMIT // 4))
    assert len(inflate(SNAPPY, memoryview(xerial(*[block] * 4)), LIMIT)) == LIMIT
    with pytest.raises(MessageError, match="more than"):
        inflate(SNAPPY, memoryview(xerial(*[block] * 5)), LIMIT)


DAMAGED = {
    "gzip, cut off": (GZIP, compressed(GZIP, b"taste" * 99)[:-9]),
    "gzip, with a wrong checksum": (GZIP, compressed(GZIP, b"taste" * 99)[:-8] + bytes(8)),
    "gzip, with bytes behind it": (GZIP, compressed(GZIP, b"taste" * 99) + b"more"),
    "gzip, empty": (GZIP, b""),
    "snappy, cut off": (SNAPPY, compressed(SNAPPY, b"taste" * 99)[:-3]),
    "snappy, empty": (SNAPPY, XERIAL),
    "xerial, a negative block": (SNAPPY, xerial() + b"\xff\xff\xff\xff" + b"x" * 20),
    "xerial, a block of 2 GB": (SNAPPY, xerial() + b"\x7f\xff\xff\xff" + b"x" * 20),
    "xerial, an empty block": (SNAPPY, xerial() + bytes(4)),
    "xerial, half a size": (SNAPPY, xerial() + b"\0\0"),
    "lz4, cut off": (LZ4, compressed(LZ4, b"taste" * 99)[:-9]),
    "lz4, empty": (LZ4, b""),
    "zstd, cut off": (ZSTD, compressed(ZSTD, b"taste" * 99)[:-3]),
    "zstd, something else": (ZSTD, compressed(GZIP, b"taste" * 99)),
    "codec 5": (5, b"taste"),
    "codec 7": (7, b"taste"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_inflated_is_named(name: str) -> None:
    codec, data = DAMAGED[name]
    if name == "snappy, empty":
        assert not inflate(codec, memoryview(data), LIMIT)  # the parser misses its records
        return
    with pytest.raises(MessageError, match=f"codec {codec}|{CODECS.get(codec)}") as caught:
        inflate(codec, memoryview(data), LIMIT)
    assert caught.value.reason == "unreadable_batch"


# -- records that lie


def of(*records: bytes, count: int | None = None) -> bytes:
    """A batch of records that are given as bytes."""
    made = with_records(batch([Made()] * len(records), base=10), b"".join(records))
    return made if count is None else changed(made, COUNT_AT, ">i", count)


def test_a_header_name_that_is_not_utf_8_is_escaped_and_the_record_is_kept() -> None:
    [one] = parsed(of(record(0, key=b"ada", value=b"{}", headers=[(b"tr\xffce", b"\xfe"), (b"\xc3\xa9", b"7")])))
    assert (one.key, one.value) == (b"ada", b"{}")
    assert one.headers == [("tr\\xffce", b"\xfe"), ("é", b"7")]


BROKEN = {
    "negative length of the key": b"\0" + varint(0) + varint(1) + varint(-2) + varint(2**62),
    "a value longer than the record": b"\0" + varint(0) + varint(1) + varint(-1) + varint(2**31) + b"x",
    "a length of 2^63 - 1": b"\0" + varint(0) + varint(1) + varint(2**63 - 1) + b"x" * 40,
    "a number of 11 bytes": b"\0" + b"\xff" * 11 + b"\0",
    "a number above 64 bits": b"\0" + b"\xff" * 9 + b"\x7f",
    "2^31 - 1 headers": b"\0" + varint(0) + varint(1) + varint(-1) * 2 + varint(2**31 - 1),
    "-1 headers": b"\0" + varint(0) + varint(1) + varint(-1) * 2 + varint(-1),
    "a header without a name": b"\0" + varint(0) + varint(1) + varint(-1) * 2 + varint(1) + varint(-1) * 2,
    "bytes behind the last header": b"\0" + varint(0) + varint(1) + varint(-1) * 2 + varint(0) + b"xyz",
    "an offset behind the batch": record(1_000_000)[1:],
    "an offset before the batch": b"\0" + varint(0) + varint(-5) + varint(-1) * 2 + varint(0),
    "the offset of the record before": record(0)[1:],
    "nothing": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_leaves_the_records_around_it_readable(name: str) -> None:
    broken = varint(len(BROKEN[name])) + BROKEN[name]
    if name == "an offset behind the batch":
        broken = record(1_000_000)
    first, bad, third = parsed(of(record(0, value=b"first"), broken, record(2, value=b"third")))
    assert (first.offset, first.value) == (10, b"first")
    assert (third.offset, third.value) == (12, b"third")
    assert (bad.first, bad.last, bad.raw, bad.error.reason) == (11, 11, broken, "unreadable_record")


@pytest.mark.parametrize(
    ("length", "said"), [(varint(-1), "length of -1"), (varint(2**40), "length of 1099"), (b"\xff" * 11, "ten bytes")]
)
def test_behind_a_record_whose_length_lies_the_rest_of_the_batch_is_unreadable(length: bytes, said: str) -> None:
    rest = length + b"body" + record(2)
    first, bad = parsed(of(record(0, value=b"first"), rest, b""))
    assert first.value == b"first"
    assert (bad.first, bad.last, bad.raw, bad.error.reason) == (11, 12, rest, "unreadable_batch")
    assert said in str(bad.error)


def test_a_count_of_2_to_the_31_reads_what_is_there() -> None:
    made = changed(of(record(0), record(1)), LAST_DELTA_AT, ">i", 2**31 - 2)
    one, two, bad = parsed(changed(made, COUNT_AT, ">i", 2**31 - 1))
    assert (one.offset, two.offset) == (10, 11)
    assert (bad.first, bad.last) == (12, 10 + 2**31 - 2)
    assert "after 2 of 2147483647 records" in str(bad.error)


@pytest.mark.parametrize("count", [0, -1, 1])
def test_records_above_the_count_are_unreadable(count: int) -> None:
    made = of(record(0), record(1), count=count)
    *read, bad = parsed(made)
    assert [one.offset for one in read] == [10][: max(count, 0)]
    assert (bad.last, bad.error.reason) == (11, "unreadable_batch")
    assert bad.raw.endswith(record(1))


@pytest.mark.parametrize(("delta", "parts"), [(0, 2), (2**31 - 2, MAX_UNREADABLE + 1)])
def test_garbage_in_which_each_byte_may_be_a_record_is_a_few_unreadable_parts(delta: int, parts: int) -> None:
    """Brokers that do not look into a compressed batch accept it. Each part is a dead letter, or a line of the log."""
    made = with_records(batch([Made()]), bytes(100_000))
    made = changed(changed(made, LAST_DELTA_AT, ">i", delta), COUNT_AT, ">i", 2**31 - 1)
    found = problems(made)
    assert len(found) == parts
    assert found[-1].last == delta
    assert sum(len(one.raw) for one in found) == 100_000


def test_the_headers_of_a_record_are_bounded() -> None:
    assert not problems(of(record(0, headers=[(b"", b"")] * MAX_HEADERS)))
    [bad] = problems(of(record(0, headers=[(b"", b"")] * (MAX_HEADERS + 1))))
    assert "1001 headers" in str(bad.error)


def test_records_before_the_position_are_left_out_without_being_parsed() -> None:
    broken = b"\0" + varint(0) + varint(0) + varint(2**31)  # a key longer than the record
    made = of(varint(len(broken)) + broken, record(1), record(2))
    [one] = records_of(memoryview(made), position=12)
    assert not isinstance(one, Unreadable)
    assert one.offset == 12
    assert isinstance(next(records_of(memoryview(made), position=10)), Unreadable)


def test_a_batch_that_compaction_has_thinned_out_is_whole() -> None:
    made = changed(of(record(3), record(7)), LAST_DELTA_AT, ">i", 9)
    assert [one.offset for one in parsed(made)] == [13, 17]


# -- batches in a response


def test_the_batch_at_the_end_of_a_response_may_be_cut_off() -> None:
    made = batch([Made()])
    for cut in range(1, len(made)):
        assert batch_at(memoryview(made + made[:-cut]), len(made)) is None


@pytest.mark.parametrize(
    ("at", "layout", "value", "said"),
    [
        (8, ">i", -1, "length of -1"),
        (8, ">i", 48, "length of 48"),
        (8, ">i", 2**31 - 1, "cut off"),
        (16, ">B", 3, "format 3"),
        (16, ">B", 255, "format 255"),
    ],
)
def test_a_batch_whose_frame_lies_is_unreadable(at: int, layout: str, value: int, said: str) -> None:
    with pytest.raises(MessageError, match=said) as caught:
        batch_at(memoryview(changed(batch([Made()]), at, layout, value)), 0)
    assert caught.value.reason == "unreadable_batch"
