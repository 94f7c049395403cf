"""How long answers took in the course of a run. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPANS = 40  # of a run, at most
ANSWERS = 25  # of a span on average, at least: a p95 of fewer is one of them
PAUSE = 60.0  # seconds without an answer that are not the run's: it was stopped, and goes on


@dataclass
class Span:
    """Answers that came one after the other. begin, end: seconds of running time; the rest milliseconds."""

    begin: float
    end: float
    answers: int
    p50: float
    p95: float
    p99: float


def over_time(at: NDArray[np.float64], latency: NDArray[np.float32]) -> list[Span]:
    """Percentiles over spans of equal time; nothing where the times are not known.

    Args:
        at: [answers], milliseconds since the epoch when each came, NaN where that is not known.
        latency: [answers], milliseconds, NaN where there is none.
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
    of = np.minimum((running / width).astype(int), spans - 1)
    found: list[Span] = []
    for number in np.unique(of).tolist():
        some = took[of == number]
        p50, p95, p99 = (float(one) for one in np.percentile(some, (50, 95, 99)))
        found.append(Span(number * width, (number + 1) * width, len(some), p50, p95, p99))
    return found
