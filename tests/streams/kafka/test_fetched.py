"""What one response holds is read as far as it is whole; what cannot be read hides nothing behind it."""

import struct

import pytest

from streams.kafka.batches import CONTROL, GZIP, LOG_APPEND_TIME, ZSTD
from streams.kafka.fetched import INFLATED, first_time, records_in
from tests.streams.kafka.made import ATTRIBUTES_AT, Made, batch, changed

NOW = 1_700_000_060_000
TIMES = [1_700_000_000_000, 1_700_000_000_500, 1_700_000_002_000]
RECORDS = [Made(timestamp=time) for time in TIMES]


@pytest.mark.parametrize("codec", [0, GZIP, ZSTD])
@pytest.mark.parametrize("offset", [10, 11, 12])
def test_the_time_of_a_record_within_a_batch(codec: int, offset: int) -> None:
    assert first_time(batch(RECORDS, codec=codec, base=10), offset) == TIMES[offset - 10]


def test_a_batch_before_the_position_does_not_count() -> None:
    data = batch(RECORDS[:2], base=10) + batch(RECORDS[2:], base=12)
    assert first_time(data, 12) == TIMES[2]
    assert first_time(data, 13) is None
    assert first_time(data + b"\0" * 7, 12) == TIMES[2], "the last batch is cut off"


def test_the_end_of_a_transaction_is_no_event() -> None:
    end = changed(batch([Made()], base=10), ATTRIBUTES_AT, ">h", CONTROL)
    assert first_time(end, 10) is None
    assert first_time(end + batch(RECORDS[1:], base=11), 10) == TIMES[1]


def test_the_brokers_time_counts_where_it_is_kept() -> None:
    data = bytearray(changed(batch(RECORDS, base=10), ATTRIBUTES_AT, ">h", LOG_APPEND_TIME))
    struct.pack_into(">q", data, 35, NOW)  # max_timestamp
    assert first_time(bytes(data), 11) == NOW


def test_a_batch_that_cannot_be_inflated_has_the_time_of_its_first_record() -> None:
    data = changed(batch(RECORDS, base=10), ATTRIBUTES_AT, ">h", GZIP)
    assert first_time(data, 12) == TIMES[0]


@pytest.mark.parametrize("data", [b"", b"\0" * 5, b"\xff" * 80])
def test_what_is_no_batch_has_no_time(data: bytes) -> None:
    assert first_time(data, 0) is None


def test_a_record_without_a_time_has_none() -> None:
    data = bytearray(batch(RECORDS, base=10))
    struct.pack_into(">q", data, 27, -1)  # first_timestamp
    assert first_time(bytes(data), 10) is None


def offsets(data: bytes, position: int) -> tuple[list[int], int]:
    found, behind = records_in(data, position)
    return [one.offset for one in found], behind


def test_records_from_a_position_on_and_where_to_go_on() -> None:
    data = batch(RECORDS, base=10) + batch(RECORDS, base=13, codec=ZSTD)
    assert offsets(data, 11) == ([11, 12, 13, 14, 15], 16)
    assert offsets(data, 16) == ([], 16)
    assert offsets(data[:-1], 11) == ([11, 12], 13), "the last batch is cut off"
    assert offsets(b"", 11) == ([], 11)


def test_what_cannot_be_read_is_passed_over() -> None:
    bomb = batch([Made(value=b"\0" * (INFLATED + 1))], base=10, codec=ZSTD)
    assert len(bomb) < 1000
    damaged = changed(batch(RECORDS, base=11), ATTRIBUTES_AT, ">h", GZIP)
    end = changed(batch([Made()], base=14), ATTRIBUTES_AT, ">h", CONTROL)
    assert offsets(bomb + damaged + end + batch(RECORDS, base=15), 10) == ([15, 16, 17], 18)
