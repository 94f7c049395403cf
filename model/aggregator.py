"""Runs the second network of a bundle: bags of embeddings to category scores. `model.scoring` pads bags of different sizes for it."""

from typing import NamedTuple, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

LOG_WEIGHT = "log_prior"  # name of the input in aggregator.onnx; part of the bundle format, so it cannot change
AGES, TREND = "ages", "trend"  # further inputs, of a bundle that uses them; it has both or none
TREND_DAYS = (7, 28, None)  # the windows of the trend, days; None: ever


class Scored(NamedTuple):
    """Output of the aggregator for a batch of bags. `model.scoring` also uses it for one bag, then without the first axis."""

    scores: NDArray[np.float32]
    """[B, D], one probability (0 to 1) per category. Categories are independent: the scores do not sum to 1."""
    attention: NDArray[np.float32]
    """[B, M], sums to 1 over the items of a bag. Exactly 0 for padding."""


class Aggregator:
    """Runs `aggregator.onnx`. Created by `Bundle.aggregator`. `score` is safe to call from several threads at once."""

    def __init__(self, session: onnxruntime.InferenceSession, embedding_size: int, category_count: int) -> None:
        self._session = session
        self.embedding_size = embedding_size
        self.category_count = category_count
        self.uses_trend = TREND in {found.name for found in session.get_inputs()}
        """Whether the scores depend on the ages of the items, and on what is wanted now."""

    def __repr__(self) -> str:
        return f"Aggregator(embedding_size={self.embedding_size}, category_count={self.category_count})"

    def score(
        self,
        embeddings: NDArray[np.float32],
        log_weight: NDArray[np.float32],
        ages: NDArray[np.float32] | None = None,
        trend: NDArray[np.float32] | None = None,
    ) -> Scored:
        """Score padded bags.

        Args:
            embeddings: float32 [B, M, embedding_size]. Values at padded positions are ignored.
            log_weight: float32 [B, M], the log weight of each item. -inf marks padding. Each bag needs at least one finite weight.
            ages: float32 [B, M], days from 0 since the item was last touched. Values at padded positions are ignored. None: all 0.
            trend: float32 [B, 3, D], items of each category that all users took in the windows of `TREND_DAYS`. None: all 0, as in a
                shop that just opened. An aggregator that does not use the trend ignores both.

        Returns:
            Scores float32 [B, D] and attention float32 [B, M].

        Raises:
            ValueError: If a shape or dtype differs, or a bag is empty.
        """
        _check("embeddings", embeddings, (*embeddings.shape[:2], self.embedding_size))
        bags = embeddings.shape[:2]
        _check("log_weight", log_weight, bags)
        inputs = {"embeddings": embeddings, LOG_WEIGHT: log_weight}
        if self.uses_trend:
            windows = (len(embeddings), len(TREND_DAYS), self.category_count)
            inputs[AGES] = np.zeros(bags, np.float32) if ages is None else ages
            inputs[TREND] = np.zeros(windows, np.float32) if trend is None else trend
            _check(AGES, inputs[AGES], bags)
            _check(TREND, inputs[TREND], windows)
        empty = np.logical_not(np.asarray(np.isfinite(log_weight).any(axis=1)))
        if empty.any():
            raise ValueError(
                f"bag {int(empty.argmax())} of {len(empty)} has no item with a finite log weight: use the prior of the bundle for it"
            )
        if not len(embeddings):
            return Scored(np.empty((0, self.category_count), np.float32), np.empty(log_weight.shape, np.float32))
        scores, attention = self._session.run(["scores", "attention"], inputs)
        return Scored(cast("NDArray[np.float32]", scores), cast("NDArray[np.float32]", attention))


def _check(name: str, values: NDArray[np.float32], expected: tuple[int, ...]) -> None:
    if values.dtype != np.float32 or values.shape != expected:
        raise ValueError(f"expected {name} float32 {list(expected)}, found {values.dtype} {list(values.shape)}")
