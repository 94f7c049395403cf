"""The last hour is bounded, is in order, and says null where nobody knows."""

from aiokafka import TopicPartition

from streams.serve.overview.history import SECONDS, Rows, rate
from streams.serve.overview.types import Second

ONE, TWO = TopicPartition("in", 0), TopicPartition("in", 1)


def rows(*found: Second) -> Rows:
    made = Rows()
    for row in found:
        made.add(row)
    return made


def test_an_hour_is_kept_and_no_more() -> None:
    kept = rows(*(Second(at=1000 * number, events_in=1.0) for number in range(SECONDS + 100)))
    found = kept.steps(10 * SECONDS, 1)
    assert len(found.at) == SECONDS
    assert found.at[-1] == 1000 * (SECONDS + 99)


def test_a_step_has_the_mean_of_rates_and_the_largest_of_the_rest() -> None:
    kept = rows(
        Second(at=10_000, events_in=1.0, p99=0.5, lag_events=3, lag_seconds=2.0),
        Second(at=11_000, events_in=2.0, p99=0.2),
        Second(at=20_000),
    )
    found = kept.steps(60, 10)
    assert (found.step, found.at) == (10, [10_000, 20_000])
    assert found.events_in == [1.5, None]
    assert found.p99 == [0.5, None]
    assert (found.lag_events, found.lag_seconds) == ([3, None], [2.0, None])
    assert found.events_out == [None, None]


def test_only_the_last_seconds_are_given() -> None:
    kept = rows(*(Second(at=1000 * number) for number in range(100)))
    assert kept.steps(5, 1).at == [94_000, 95_000, 96_000, 97_000, 98_000, 99_000]
    assert rows().steps(5, 1).at == []


def test_a_clock_that_is_set_back_begins_anew() -> None:
    kept = rows(Second(at=2000), Second(at=1000))
    assert kept.steps(60, 1).at == [1000]


def test_the_rate_is_that_of_the_ends() -> None:
    assert rate({ONE: 5, TWO: 7}, {ONE: 15, TWO: 7}, "in", 2.0) == 5
    assert rate({ONE: 5}, {ONE: 5, TWO: 900}, "in", 1.0) == 0, "a new partition"


def test_a_rate_is_unknown_where_an_end_is() -> None:
    assert rate({ONE: 5, TWO: 7}, {ONE: 6}, "in", 1.0) is None
    assert rate({ONE: 5}, {ONE: 4}, "in", 1.0) is None, "the topic was created again"
    assert rate({}, {}, "in", 1.0) is None
    assert rate({ONE: 5}, {ONE: 6}, "in", 0.0) is None
