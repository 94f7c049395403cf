"""Runs the second network of a bundle: bags of embeddings to category scores. `model.scoring` pads bags of different sizes for it."""

from typing import NamedTuple, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

LOG_WEIGHT = "log_prior"  # name of the input in aggregator.onnx; part of the bundle format, so it cannot change


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

    def __repr__(self) -> str:
        return f"Aggregator(embedding_size={self.embedding_size}, category_count={self.category_count})"

    def score(self, embeddings: NDArray[np.float32], log_weight: NDArray[np.float32]) -> Scored:
        """Score padded bags.

        Args:
            embeddings: float32 [B, M, embedding_size]. Values at padded positions are ignored.
            log_weight: float32 [B, M], the log weight of each item. -inf marks padding. Each bag needs at least one finite weight.

        Returns:
            Scores float32 [B, D] and attention float32 [B, M].

        Raises:
            ValueError: If a shape or dtype differs, or a bag is empty.
        """
        if embeddings.dtype != np.float32 or embeddings.ndim != 3 or embeddings.shape[2] != self.embedding_size:
            raise ValueError(
                f"expected embeddings float32 [B, M, {self.embedding_size}], found {embeddings.dtype} {embeddings.shape}"
            )
        if log_weight.dtype != np.float32 or log_weight.shape != embeddings.shape[:2]:
            raise ValueError(
                f"expected log_weight float32 {embeddings.shape[:2]} like the embeddings, found {log_weight.dtype} {log_weight.shape}"
            )
        empty = np.logical_not(np.asarray(np.isfinite(log_weight).any(axis=1)))
        if empty.any():
            raise ValueError(
                f"bag {int(empty.argmax())} of {len(empty)} has no item with a finite log weight: use the prior of the bundle for it"
            )
        if not len(embeddings):
            return Scored(np.empty((0, self.category_count), np.float32), np.empty(log_weight.shape, np.float32))
        scores, attention = self._session.run(
            ["scores", "attention"], {"embeddings": embeddings, LOG_WEIGHT: log_weight}
        )
        return Scored(cast("NDArray[np.float32]", scores), cast("NDArray[np.float32]", attention))
