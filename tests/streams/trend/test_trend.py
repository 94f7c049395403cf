"""The windows of the trend at a moment."""

import numpy as np

from streams.trend.trend import DAY, WHOLE_ITEM, Trend, no_trend


def row(*items: float) -> np.ndarray:
    return np.array([WHOLE_ITEM * count for count in items], np.int64)


ROWS = {100: row(1, 0), 121: row(0, 2), 127: row(4, 0), 128: row(0, 8)}


def test_windows_hold_the_days_that_began_before_the_moment() -> None:
    trend = Trend(7, ROWS, 2)
    assert trend.at(128 * DAY).tolist() == [[4, 2], [5, 2], [5, 2]]  # 128 begins at that moment
    assert trend.at(128 * DAY + 1).tolist() == [[4, 8], [4, 10], [5, 10]]
    assert trend.at(100 * DAY).tolist() == [[0, 0]] * 3
    assert trend.at(400 * DAY).tolist() == [[0, 0], [0, 0], [5, 10]]


def test_a_trend_of_nothing_is_zero_at_any_moment() -> None:
    trend = no_trend(3)
    assert trend.at(0).tolist() == trend.at(128 * DAY).tolist() == [[0, 0, 0]] * 3
