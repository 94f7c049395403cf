"""Records of `category-trend`: what is written is what is read, and what strangers write is refused."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.trend.snapshots import (
    DAYS,
    MAX_BYTES,
    MAX_COUNT,
    MAX_DAY,
    SnapshotError,
    decode_snapshot,
    encode_snapshot,
    partition_in,
    partition_key,
    snapshot_of,
    sum_of,
)
from streams.trend.trend import DAY, WHOLE_ITEM, Trend

D = 3

tables = st.dictionaries(
    st.integers(0, 200), st.lists(st.integers(0, 5), min_size=D, max_size=D).map(np.array), max_size=80
)


@given(tables)
def test_what_is_written_is_what_is_read_and_no_count_is_lost(table: dict[int, np.ndarray]) -> None:
    snapshot = decode_snapshot(encode_snapshot(snapshot_of("v", D, table)))
    days = sorted(day for day, row in table.items() if row.any())
    assert len(snapshot.rows) == min(len(days), DAYS + 1)
    assert {day: snapshot.rows[day] for day in days[-DAYS:]} == {day: table[day].tolist() for day in days[-DAYS:]}
    total = np.sum([np.zeros(D, np.int64), *table.values()], axis=0).tolist()
    assert np.sum([[0] * D, *snapshot.rows.values()], axis=0).tolist() == total


def test_all_windows_are_exact_while_the_newest_day_is_at_most_28_days_ahead() -> None:
    table = {day: np.array([day * WHOLE_ITEM, 0, 1], np.int64) for day in range(1000, 1100)}
    whole = Trend(1, table, D)
    cut = sum_of({0: snapshot_of("v", D, table)}, version=1, labels="v", categories=D)
    for day in (1100, 1099, 1072):
        assert cut.at(day * DAY).tolist()[:2] == whole.at(day * DAY).tolist()[:2]
        assert cut.at(day * DAY).tolist() == whole.at(day * DAY).tolist()


def test_one_day_far_ahead_takes_the_place_of_one_day_only() -> None:
    table = {day: np.array([WHOLE_ITEM, 0, 0], np.int64) for day in [*range(1000, 1100), 5000]}
    trend = sum_of({0: snapshot_of("v", D, table)}, version=1, labels="v", categories=D)
    assert trend.at(1100 * DAY).tolist() == [[7, 0, 0], [28, 0, 0], [100, 0, 0]]


def test_partitions_are_added_up_and_those_of_other_labels_are_not() -> None:
    one = snapshot_of("v", D, {5: np.array([1, 2, 3])})
    two = snapshot_of("v", D, {5: np.array([10, 0, 0]), 6: np.array([0, 0, 7])})
    other = snapshot_of("w", D, {5: np.array([9, 9, 9])})
    wider = snapshot_of("v", 4, {5: np.array([9, 9, 9, 9])})
    trend = sum_of({0: one, 1: two, 2: other, 3: wider}, version=8, labels="v", categories=D)
    assert trend.version == 8
    assert (trend.at(9 * DAY)[2] * WHOLE_ITEM).tolist() == pytest.approx([11, 2, 10])


def test_a_trend_of_an_empty_shop_has_no_version_and_is_zero() -> None:
    for snapshots in ({}, {0: snapshot_of("v", D, {})}):
        trend = sum_of(snapshots, version=3, labels="v", categories=D)
        assert trend.version is None
        assert not trend.at(DAY).any()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"\xc1",
        {"labels": "v", "categories": D},
        {"labels": "", "categories": D, "rows": {}},
        {"labels": "v", "categories": 0, "rows": {}},
        {"labels": "v", "categories": D, "rows": {}, "more": 1},
        {"labels": "v", "categories": D, "rows": {5: [1, 2]}},
        {"labels": "v", "categories": D, "rows": {5: [1, 2, -1]}},
        {"labels": "v", "categories": D, "rows": {5: [1, 2, 0.5]}},
        {"labels": "v", "categories": D, "rows": {5: [1, 2, MAX_COUNT + 1]}},
        {"labels": "v", "categories": D, "rows": {-1: [1, 2, 3]}},
        {"labels": "v", "categories": D, "rows": {MAX_DAY + 1: [1, 2, 3]}},
        {"labels": "v", "categories": D, "rows": {day: [1, 2, 3] for day in range(DAYS + 2)}},
        {"labels": "v" * 65, "categories": D, "rows": {}},
        {"labels": "v", "categories": 10**6, "rows": {5: [0] * 10**6}},
        b"\x91" * 5000,
    ],
)  # fmt: skip
def test_a_value_that_is_no_snapshot_is_refused(content: object) -> None:
    value = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    with pytest.raises(SnapshotError):
        decode_snapshot(value)


def test_a_snapshot_that_fits_no_record_is_refused_before_it_is_sent() -> None:
    table = {day: np.full(4000, 2**40) for day in range(DAYS)}
    with pytest.raises(SnapshotError, match=f"4000 categories make .* at most {MAX_BYTES}"):
        encode_snapshot(snapshot_of("v", 4000, table))
    largest = {day: np.full(1700, MAX_COUNT) for day in range(DAYS + 1)}
    assert len(encode_snapshot(snapshot_of("v", 1700, largest))) <= MAX_BYTES


@pytest.mark.parametrize("key", [None, b"", b"-1", b"08", b"8", b"1.0", b" 1", b"1\x00", b"1" * 5000, "١".encode()])
def test_a_key_that_is_no_partition_is_refused(key: bytes | None) -> None:
    with pytest.raises(SnapshotError, match="none of the partitions 0 to 7"):
        partition_in(key, 8)


def test_a_key_names_its_partition() -> None:
    assert [partition_in(partition_key(number), 8) for number in range(8)] == list(range(8))
