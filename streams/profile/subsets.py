"""Scores subsets of the items of one bag: what an answer would be without some of them. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.aggregator import Aggregator, Scored
from model.scoring import ScoringBag, score_padded
from streams.profile.bag import BagItem

ROWS_PER_CALL = 8192  # embeddings in one call of the aggregator; bounds memory: with 1024 values each they are 32 MiB


class Subsets:
    """The items of a bag that are scored, and the scores of any of their subsets.

    Attributes:
        items: the items, newest first.
        embeddings: float32 [m, d], of the items.
    """

    def __init__(
        self, aggregator: Aggregator, items: Sequence[BagItem], whole: ScoringBag, nothing: NDArray[np.float32]
    ) -> None:
        """Create the subsets.

        Args:
            aggregator: scores them.
            items: the items of the bag, m of them.
            whole: what the aggregator sees of them.
            nothing: float32 [D], the scores of a bag without items.
        """
        self.items = list(items)
        self.embeddings = whole.embeddings
        self._aggregator = aggregator
        self._whole = whole
        self._nothing = nothing

    def score(self, kept: NDArray[np.intp]) -> Scored:
        """Score subsets of one size as bags of their own, in as few calls of the aggregator as memory permits.

        Args:
            kept: [B, n], places of the items that stay, for each subset.

        Returns:
            Scores float32 [B, D], and attention float32 [B, n].
        """
        count, size = kept.shape
        if not size or not count:
            return Scored(np.repeat(self._nothing[None], count, axis=0), np.zeros(kept.shape, np.float32))
        at_once = max(1, ROWS_PER_CALL // size)
        parts = [self._score(kept[start : start + at_once]) for start in range(0, count, at_once)]
        return Scored(*map(np.concatenate, zip(*parts, strict=True)))

    def _score(self, kept: NDArray[np.intp]) -> Scored:
        embeddings, log_weight, ages, trend = self._whole
        return score_padded(
            self._aggregator,
            [
                ScoringBag(embeddings[places], log_weight[places], None if ages is None else ages[places], trend)
                for places in kept
            ],
        )
