"""Events of a prepared data set are in the order of time, however many there are."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.datasets.prepare import in_order_of_time
from offline_training.datasets.records import DatasetEvent


@pytest.mark.parametrize("size", [7, 50, 99, 100, 1000])
def test_events_come_in_the_order_of_time_and_those_of_one_time_as_they_came(size: int, tmp_path: Path) -> None:
    chance = random.Random(0)
    events = [DatasetEvent(f"user-{n}", f"item-{n}", "purchase", chance.randrange(20)) for n in range(100)]
    assert list(in_order_of_time(iter(events), tmp_path, size)) == sorted(events, key=lambda event: event.time)
    assert list(tmp_path.iterdir()) == [], "what was needed for sorting is gone"


def test_an_error_of_the_source_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[DatasetEvent]:
        yield from (DatasetEvent("user", "item", "view", time) for time in range(25))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_order_of_time(broken(), tmp_path, 10))
    assert not list(tmp_path.glob("*.runs"))
