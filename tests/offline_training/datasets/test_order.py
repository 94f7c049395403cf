"""The events of a prepared data set are in time order, however many there are."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.datasets.prepare import in_time_order
from offline_training.datasets.records import DatasetEvent


@pytest.mark.parametrize("size", [7, 50, 99, 100, 1000])
def test_events_are_sorted_by_time_and_ties_keep_their_order(size: int, tmp_path: Path) -> None:
    chance = random.Random(0)
    events = [DatasetEvent(f"user-{n}", f"item-{n}", "purchase", chance.randrange(20)) for n in range(100)]
    assert list(in_time_order(iter(events), tmp_path, size)) == sorted(events, key=lambda event: event.time)
    assert list(tmp_path.iterdir()) == [], "the temporary file is gone"


def test_an_error_of_the_source_leaves_no_file_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[DatasetEvent]:
        yield from (DatasetEvent("user", "item", "view", time) for time in range(25))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_time_order(broken(), tmp_path, 10))
    assert not list(tmp_path.glob("*.runs"))
