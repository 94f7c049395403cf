"""How targets are grouped by time, and how a difference is described."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np
import pytest

from model.metrics import Interval
from offline_training.replay.evaluation.baselines import POPULARITY
from offline_training.replay.evaluation.prequential import SERVED, Rules
from offline_training.replay.evaluation.summaries import DAY, Difference, MetricSummary, spans_of
from offline_training.replay.report.words import leads

START = int(datetime(2020, 9, 1, tzinfo=UTC).timestamp() * 1000) + 5  # a Tuesday


def spans(days: Sequence[int]) -> tuple[str, list[str]]:
    kind, found = spans_of(START + np.array(days, np.int64) * DAY)
    return kind, [str(one) for one in found]


def test_a_long_stream_is_grouped_by_month() -> None:
    assert spans([0, 29, 30, 300]) == ("month", ["2020-09", "2020-09", "2020-10", "2021-06"])


def test_a_short_stream_is_grouped_by_weeks_that_start_on_monday() -> None:
    kind, found = spans([0, 5, 6, 100])
    assert (kind, found) == ("week", ["2020-08-31", "2020-08-31", "2020-09-07", "2020-12-07"])
    assert {date.fromisoformat(one).weekday() for one in found} == {0}


def test_a_very_short_stream_is_grouped_by_day() -> None:
    assert spans([0, 1, 20]) == ("day", ["2020-09-01", "2020-09-02", "2020-09-21"])


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.01, 0.03), "The recommendations against popularity: ahead in hit@1 +.020 [.010, .030]"),
        ((-0.01, 0.03), "not significantly different in hit@1 +.020 [-.010, .030]"),
        (None, "without an interval, which needs the targets of both, in hit@1 +.020"),
    ],
)
def test_a_difference_is_significant_if_its_interval_does_not_contain_zero(
    ends: tuple[float, float] | None, said: str
) -> None:
    names: list[str] = ["hit@1", "recall@1", "MRR"]
    figures = {SERVED: dict.fromkeys(names, 0.52), POPULARITY: dict.fromkeys(names, 0.5)}
    intervals = {} if ends is None else {name: Interval(*ends) for name in names}
    summary = MetricSummary("all", "all", 9, 3, figures, {}, differences=[Difference(SERVED, POPULARITY, intervals)])
    [sentence] = leads(summary, Rules(ks=(1,)))
    assert said in sentence
    behind = MetricSummary(
        "all", "all", 9, 3, figures, {},
        differences=[Difference(POPULARITY, SERVED, {name: Interval(-0.03, -0.01) for name in names})],
    )  # fmt: skip
    assert "behind in hit@1 -.020" in leads(behind, Rules(ks=(1,)))[0]
