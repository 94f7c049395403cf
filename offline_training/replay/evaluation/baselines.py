"""What needs no bundle: popularity, and the trends of the last days, by the labels of what all users in the stream took. Pure.

A baseline says as much as a recommendation does: as many categories, and values of fields if the recommendations have them.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offline_training.replay.answers.bags import is_before
from offline_training.replay.answers.table import Listed
from offline_training.replay.evaluation.fields import VALUES, FieldLayout
from streams.trend.trend import DAY

POPULARITY, WEEK, MONTH = "popularity", "7-day trend", "28-day trend"
BASELINES = (POPULARITY, WEEK, MONTH)
WINDOWS = {WEEK: 7, MONTH: 28}  # days
EVER = 5.0  # items that are added to those of all days, spread as the prior of the bundle
RECENT = 50.0  # items that are added to those of a window, spread as those of all days


class Form(NamedTuple):
    """What a recommendation says.

    Attributes:
        top: maximum number of categories.
        layout: the fields.
        with_values: whether it names the best values of each field.
    """

    top: int
    layout: FieldLayout
    with_values: bool

    def of(self, scores: NDArray[np.floating], shares: NDArray[np.floating]) -> Listed:
        """Say the best of scores [D], and of shares [D] the best of each field. Of equal ones, the lower number comes first."""
        categories = best(scores, self.top)
        if not self.with_values:
            return Listed(categories, scores[categories].astype(np.float32))
        values = np.concatenate(
            [np.array(columns, np.int32)[best(shares[columns], VALUES)] for columns in self.layout.columns]
        )
        return Listed(categories, scores[categories].astype(np.float32), values, shares[values].astype(np.float32))

    def of_prior(self, prior: NDArray[np.float32]) -> Listed:
        """Say what a bundle answers for an empty bag."""
        return self.of(prior, self.within_fields(prior.astype(np.float64)))

    def within_fields(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Divide values [D] by their sum in each field; by the prior where it is 0."""
        found = values.copy()
        for columns in self.layout.columns:
            total = found[columns].sum()
            found[columns] = found[columns] / total if total > 0 else self.layout.weights[columns]
        return found


class Popularity:
    """How many targets had each category, as of the current event."""

    def __init__(self, prior: NDArray[np.float32], form: Form, delay: int) -> None:
        self._form, self._delay = form, delay
        self._counts = np.zeros(len(prior), np.int64)
        self._targets = 0
        self._waiting: deque[tuple[int, tuple[int, ...]]] = deque()
        self._best = form.of_prior(prior)

    def add(self, time: int, labels: Sequence[int]) -> None:
        """Count a target, for the times after it."""
        self._waiting.append((time, tuple(labels)))

    def at(self, time: int) -> Listed:
        """The most frequent categories and their shares of the targets; before the first target, those of the prior."""
        changed = False
        while self._waiting and is_before(self._waiting[0][0], time, self._delay):
            self._counts[list(self._waiting.popleft()[1])] += 1
            self._targets += 1
            changed = True
        if changed:
            counts = self._counts.astype(np.float64)
            shares = self._form.within_fields(counts) if self._form.with_values else counts
            self._best = self._form.of(counts / self._targets, shares)
        return self._best


class Trends:
    """What was wanted in the last days: the labels of the targets of strictly earlier days, as of the current event.

    Few items are smoothed by more: a window by all days, and all days by the prior of the bundle.
    """

    def __init__(self, prior: NDArray[np.float32], form: Form, delay: int) -> None:
        self._form, self._delay = form, delay
        in_field = np.zeros(len(prior), bool)
        for columns in form.layout.columns:
            in_field[columns] = True
        self._in_field = in_field
        little = np.where(in_field, form.layout.weights, prior)
        self._ever = EVER * np.append(little, 1.0)  # [D+1]: items of each category, and items
        self._days: deque[tuple[int, NDArray[np.float64]]] = deque()  # that are not settled
        self._recent: deque[tuple[int, NDArray[np.float64]]] = deque()
        self._end: int | None = None
        self._found: dict[str, Listed] = {}

    def add(self, time: int, labels: Sequence[int]) -> None:
        """Count a target, for the days after it."""
        day = time // DAY
        if not self._days or self._days[-1][0] != day:
            self._days.append((day, np.zeros(len(self._ever))))
        self._days[-1][1][[*labels, -1]] += 1

    def at(self, time: int) -> dict[str, Listed]:
        """The trends by the name of their method. With a delay, the days that ended before it count."""
        end = (time - self._delay) // DAY
        if end != self._end:
            self._settle(end)
            self._end = end
            self._found = {name: self._window(end - days) for name, days in WINDOWS.items()}
        return self._found

    def _settle(self, end: int) -> None:
        while self._days and self._days[0][0] < end:
            self._recent.append(self._days.popleft())
            self._ever = self._ever + self._recent[-1][1]
        while self._recent and self._recent[0][0] < end - max(WINDOWS.values()):
            self._recent.popleft()

    def _window(self, first: int) -> Listed:
        counts = sum((row for day, row in self._recent if day >= first), np.zeros(len(self._ever)))
        shares = self._shares(counts + RECENT * np.append(self._shares(self._ever), 1.0))
        return self._form.of(shares, shares)

    def _shares(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Counts [D + 1] as shares of their field [D]; those of no field as shares of the items, which are the last number."""
        shares = self._form.within_fields(counts[:-1])
        return np.where(self._in_field, shares, counts[:-1] / counts[-1])


def best(scores: NDArray[np.floating], top: int) -> NDArray[np.int32]:
    """The places of the highest scores, best first."""
    return np.argsort(-scores, kind="stable")[:top].astype(np.int32)
