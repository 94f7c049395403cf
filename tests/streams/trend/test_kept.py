"""The trend that a reader keeps for its next start."""

import logging
from pathlib import Path

import pytest

from streams.settings import read_settings
from streams.trend.follower import TrendFollower
from streams.trend.kept import KeptTrend, read_kept, write_kept
from streams.trend.snapshots import Snapshot
from streams.trend.trend import DAY

SNAPSHOT = Snapshot("labels-1", 2, {19_000: [30_000, 0]})
KEPT = KeptTrend("topic-1", 7, {0: 7}, {0: SNAPSHOT})


def test_the_next_start_has_the_trend_before_a_broker_answers(tmp_path: Path) -> None:
    write_kept(tmp_path / "trend", KEPT)
    follower = TrendFollower(read_settings(), 4, "labels-1", 2, file=tmp_path / "trend")
    trend = follower.trend("labels-1", 2)
    assert follower.caught_up.is_set()
    assert trend.version == 7
    assert trend.at(19_001 * DAY).tolist() == [[3, 0], [3, 0], [3, 0]]


def test_a_trend_of_other_labels_counts_nothing(tmp_path: Path) -> None:
    write_kept(tmp_path / "trend", KEPT)
    follower = TrendFollower(read_settings(), 4, "labels-2", 2, file=tmp_path / "trend")
    assert not follower.trend("labels-2", 2).at(19_001 * DAY).any()


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x91" * 100_000])
def test_a_damaged_file_is_as_none_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "trend"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_kept(path) is None
    assert str(path) in caplog.text
    assert not TrendFollower(read_settings(), 4, "labels-1", 2, file=path).caught_up.is_set()


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    assert read_kept(tmp_path / "trend") is None
