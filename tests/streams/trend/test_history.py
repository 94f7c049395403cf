"""The trend as of any offset of the topic."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.records import Record
from streams.trend.history import History, Latest
from streams.trend.snapshots import encode_snapshot, partition_key, snapshot_of
from streams.trend.trend import DAY
from tests.records import record, unreadable

TOPIC = "category-trend"


def snapshot(partition: int, offset: int, count: int, *, labels: str = "v") -> Record:
    value = encode_snapshot(snapshot_of(labels, 1, {1: np.array([count])}))
    return record(TOPIC, 0, offset, key=partition_key(partition), value=value)


RECORDS = [
    snapshot(0, 0, 10_000),
    snapshot(1, 1, 20_000),
    snapshot(0, 3, 50_000),
    record(TOPIC, 0, 4, key=b"nobody", value=b"x"),
    record(TOPIC, 0, 5, key=b"1", value=b"damaged"),
    unreadable(TOPIC, 0, 6, 8),
    snapshot(2, 9, 70_000, labels="w"),
    record(TOPIC, 0, 10, key=b"0", value=None),
    snapshot(0, 12, 30_000),
]
EXPECTED = {0: 1, 1: 3, 2: 3, 3: 7, 4: 7, 5: 7, 8: 7, 9: 7, 10: 2, 11: 2, 12: 5, 99: 5}  # items by version


def test_a_version_is_the_sum_over_the_latest_record_of_each_partition_up_to_it() -> None:
    history = History("v", 1, partitions=3)
    for one in RECORDS:
        history.add(one)
    assert {version: history.at(version).at(2 * DAY)[2, 0] for version in EXPECTED} == EXPECTED
    assert history.at(3).version == 3
    assert not history.at(None).at(2 * DAY).any()
    assert [problem.partition(":")[0] for problem in history.problems] == ["offset 4", "offset 5", "offset 8"]


@given(st.integers(0, len(RECORDS)), st.integers(0, len(RECORDS)))
def test_a_reader_that_follows_the_topic_has_the_trend_of_that_version(first: int, count: int) -> None:
    latest, history = Latest(3), History("v", 1)
    latest.apply(RECORDS[: min(first, count)])
    latest.apply(RECORDS[min(first, count) : count])
    for one in RECORDS:
        history.add(one)
    trend = latest.trend("v", 1)
    assert trend.version == (RECORDS[count - 1].offset if count else None)
    assert trend.at(2 * DAY).tolist() == history.at(trend.version).at(2 * DAY).tolist()


def test_a_record_that_cannot_be_used_leaves_the_snapshot_and_shows_as_the_latest_of_its_partition() -> None:
    latest = Latest(3)
    problems = latest.apply(RECORDS[:6])
    assert [problem.partition(":")[0] for problem in problems] == ["offset 4", "offset 5", "offset 8"]
    assert latest.offsets == {0: 3, 1: 5}
    assert latest.trend("v", 1).at(2 * DAY)[2, 0] == 7
