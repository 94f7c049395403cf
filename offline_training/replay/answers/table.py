"""The answers to all events of a run, in arrays."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.event_answer import EventAnswer


class Listed(NamedTuple):
    """What a recommendation says, best first.

    Attributes:
        categories: numbers of the best categories, int32 [n].
        scores: theirs, float32 [n].
        values: numbers of the best values of each field, int32 [v], one field after the other; empty: no fields.
        shares: their probabilities in their field, float32 [v].
    """

    categories: NDArray[np.int32]
    scores: NDArray[np.float32]
    values: NDArray[np.int32] = np.zeros(0, np.int32)
    shares: NDArray[np.float32] = np.zeros(0, np.float32)


class Answers:
    """Answers by the place of their events, in a few bytes each."""

    def __init__(self, events: int, top: int) -> None:
        """Allocate the arrays.

        Args:
            events: number of events that are played.
            top: maximum number of categories in a recommendation.
        """
        self.top = top
        self.given = np.zeros(events, bool)
        self.recommended = np.zeros(events, bool)
        self.bag_size = np.zeros(events, np.int32)
        self.cold_start = np.zeros(events, bool)
        self.latency = np.full(events, np.nan, np.float32)
        self.at = np.full(events, np.nan)
        self.reasons: dict[int, str] = {}
        self.trend_versions: dict[int, int] = {}  # by place, of the answers that name one
        self._categories = np.zeros((events, top), np.int32)
        self._scores = np.zeros((events, top), np.float32)
        self._listed = np.zeros(events, np.int32)
        # Allocated by the first answer with fields: a bundle without fields needs none.
        self._values, self._shares = np.zeros((events, 0), np.int32), np.zeros((events, 0), np.float32)

    @classmethod
    def of(cls, answers: Iterable[EventAnswer], events: int, top: int) -> Self:
        """Collect answers; the arguments are those of the constructor."""
        found = cls(events, top)
        for answer in answers:
            found.add(answer)
        return found

    @property
    def count(self) -> int:
        """Number of events that have an answer."""
        return int(self.given.sum())

    def add(self, answer: EventAnswer) -> None:
        """Add an answer. The first answer to an event counts: a repeated one may depend on later events.

        Raises:
            ReplayError: a recommendation lists more categories than the settings allow.
        """
        place = answer.place
        if self.given[place]:
            return
        if len(answer.scores) > self.top:
            raise ReplayError(
                f"a recommendation lists {len(answer.scores)} categories, and TASTESTREAM_TOP_K is {self.top} here: "
                "set it to the value of the workers"
            )
        self.given[place] = True
        if answer.reason:
            self.reasons[place] = answer.reason
            return
        self.recommended[place] = True
        if answer.trend_version is not None:
            self.trend_versions[place] = answer.trend_version
        self.bag_size[place] = answer.bag_size
        self.cold_start[place] = answer.cold_start
        self.latency[place] = np.nan if answer.latency is None else answer.latency
        self.at[place] = np.nan if answer.at is None else answer.at
        self._listed[place] = len(answer.scores)
        for rank, (category, score) in enumerate(answer.scores):
            self._categories[place, rank], self._scores[place, rank] = category, score
        if answer.values:
            self._add_values(place, answer.values)

    def names_any_of(self, categories: Collection[int]) -> bool:
        """Whether any recommendation names one of these categories as the value of a field."""
        return bool(np.isin(self._values, list(categories)).any())

    def scores(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The categories int32 [n] and scores float32 [n] of a recommendation, best first."""
        listed = self._listed[place]
        return self._categories[place, :listed], self._scores[place, :listed]

    def listed(self, place: int) -> Listed:
        """All that a recommendation says."""
        some = self._values[place] >= 0
        return Listed(*self.scores(place), self._values[place, some], self._shares[place, some])

    def _add_values(self, place: int, values: Sequence[tuple[int, float]]) -> None:
        width = self._values.shape[1]
        if len(values) > width:
            more = ((0, 0), (0, len(values) - width))
            self._values = np.pad(self._values, more, constant_values=-1)
            self._shares = np.pad(self._shares, more)
        numbers, shares = zip(*values, strict=True)
        self._values[place, : len(values)], self._shares[place, : len(values)] = numbers, shares
