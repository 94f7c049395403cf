"""Latency over the course of a run."""

import numpy as np
import pytest

from offline_training.replay.answers.latency import SPANS, over_time

BEGUN = 1_700_000_000_000.0


def test_answers_are_grouped_into_spans_of_equal_time() -> None:
    at = np.asarray(BEGUN + np.arange(100) * 100, np.float64)  # an answer every 0.1 s, for ten seconds
    latency = np.where(np.arange(100) < 50, 10, 30).astype(np.float32)
    spans = over_time(at[::-1], latency[::-1])
    assert [span.answers for span in spans] == [25, 25, 25, 25]
    assert [span.p50 for span in spans] == [10, 10, 30, 30]
    assert (spans[0].begin, spans[-1].end) == (0, pytest.approx(9.9))


def test_a_pause_is_not_part_of_the_running_time() -> None:
    at = np.asarray(BEGUN + np.concatenate([np.arange(50), 864_000 + np.arange(50)]) * 100, np.float64)
    spans = over_time(at, np.full(100, 10, np.float32))
    assert spans[-1].end == pytest.approx(9.8)
    assert sum(span.answers for span in spans) == 100


def test_answers_without_a_time_or_a_latency_are_left_out() -> None:
    at = np.array([BEGUN, np.nan, BEGUN + 5])
    latency = np.array([1, 2, np.nan], np.float32)
    [span] = over_time(at, latency)
    assert (span.answers, span.p50, span.p99) == (1, 1, 1)
    assert over_time(at[1:2], latency[1:2]) == []


def test_the_number_of_spans_has_a_maximum() -> None:
    assert len(over_time(np.asarray(BEGUN + np.arange(100_000) * 5, np.float64), np.ones(100_000, np.float32))) == SPANS
