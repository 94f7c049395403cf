"""The histogram of events shows what the Prometheus client's would show."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from streams.metrics.histogram import EventHistogram

BOUNDS = (0.001, 0.5, 1, 30)


def shown(registry: CollectorRegistry) -> list[str]:
    """What a scrape shows, without the times at which the client's series began."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(st.lists(st.sampled_from([0.0, 0.001, 0.0011, 0.4, 0.5, 1.0, 2.0, 30.0, 31.0])))
def test_it_shows_what_the_clients_histogram_shows(values: Sequence[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    series = EventHistogram("a_seconds", "What it is.", ["stage"], BOUNDS, ours).labels("fold")
    other = Histogram("a_seconds", "What it is.", ["stage"], buckets=BOUNDS, registry=theirs).labels("fold")
    for value in values:
        series.observe(value)
        other.observe(value)
    assert shown(ours) == shown(theirs)


def test_a_series_is_the_same_each_time_and_a_wrong_number_of_labels_is_refused() -> None:
    histogram = EventHistogram("b_seconds", "What it is.", ["worker", "stage"], BOUNDS, CollectorRegistry())
    assert histogram.labels("embed", "queue") is histogram.labels("embed", "queue")
    with pytest.raises(ValueError, match="worker"):
        histogram.labels("embed")
