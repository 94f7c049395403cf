"""Latency over the course of a run. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPANS = 40  # maximum number of spans of a run
ANSWERS = 25  # minimum average number of answers per span: with fewer, the p95 is a single answer
PAUSE = 60.0  # seconds; a longer gap between answers means that the run was stopped and resumed, and does not count


@dataclass
class LatencySpan:
    """Latency percentiles of consecutive answers.

    Attributes:
        begin: start, seconds of running time.
        end: end, seconds of running time.
        answers: number of answers.
        p50, p95, p99: percentiles of the latency, milliseconds.
    """

    begin: float
    end: float
    answers: int
    p50: float
    p95: float
    p99: float


def over_time(at: NDArray[np.float64], latency: NDArray[np.float32]) -> list[LatencySpan]:
    """Compute percentiles over spans of equal length.

    Args:
        at: [answers], when each came, milliseconds since the epoch; NaN where that is unknown.
        latency: [answers], milliseconds; NaN where there is none.

    Returns:
        The spans that have answers; none when all times are unknown.
    """
    known = ~np.isnan(at) & ~np.isnan(latency)
    order = np.argsort(at[known], kind="stable")
    came, took = at[known][order] / 1000, latency[known][order]
    if not len(came):
        return []
    gaps = np.diff(came, prepend=came[0])
    running = np.cumsum(np.where(gaps > PAUSE, 0.0, gaps))
    spans = int(np.clip(len(came) // ANSWERS, 1, SPANS))
    width = max(float(running[-1]), 0.001) / spans
    span_of = np.minimum((running / width).astype(int), spans - 1)
    found: list[LatencySpan] = []
    for number in np.unique(span_of).tolist():
        in_span = took[span_of == number]
        p50, p95, p99 = (float(one) for one in np.percentile(in_span, (50, 95, 99)))
        found.append(LatencySpan(number * width, (number + 1) * width, len(in_span), p50, p95, p99))
    return found
