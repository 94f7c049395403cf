"""From bags to recommendations: log weights, one call of the aggregator for many bags, messages. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.aggregator import Aggregator
from model.bundle import Bundle
from model.quantization import HEADER_BYTES, dequantize, quantize
from model.scoring import ScoringBag, score_padded
from streams.exceptions import EventError
from streams.messages import (
    CategoryScore,
    EmbeddedInteraction,
    ItemAttention,
    Model,
    Recommendation,
    as_datetime,
)
from streams.profile.bag import Bag, BagItem, Embedder, items

BAGS_PER_CALL = 32  # bounds memory: 32 bags of 64 embeddings of 1024 floats are 8 MiB
_ROUNDING = 1e-6  # a sum of probabilities in float32 can miss 1 by so much
DIGITS = 6  # of scores and weights in a message: finer than the model resolves, and short to send


@dataclass(frozen=True)
class ScoringOptions:
    """The settings of scoring."""

    bag_size: int  # newest items that are scored
    top_k: int  # number of categories, and of items with their attention, in a message
    type_weights: Mapping[Any, float]  # 0..1 of each interaction type
    half_life: float | None  # seconds after which an item counts half; None for no decay

    @cached_property
    def log_weights(self) -> Mapping[Any, float]:
        """Log weight of each interaction type."""
        with np.errstate(divide="ignore"):
            return {kind: float(np.log(weight)) for kind, weight in self.type_weights.items()}


def log_weight(bag: Sequence[BagItem], options: ScoringOptions) -> NDArray[np.float32]:
    """Log weight of each item: the strength of its interaction and its decay with age.

    The strongest type since the newest return counts. Age is measured from the newest item of the bag, not from the clock, so
    the scores are a function of the bag alone. Attention is a softmax, so the difference cancels out.

    Returns:
        float32 [m]; -inf (a weight of 0) hides an item.
    """
    if not bag:
        return np.zeros(0, np.float32)
    of_type = options.log_weights
    logs = np.array([max([of_type[kind] for kind in item.types]) for item in bag])
    if options.half_life is not None:
        newest = max(item.timestamp for item in bag)
        ages = np.array([(newest - item.timestamp) / 1000 for item in bag])
        logs -= np.log(2) * ages / options.half_life
    return logs.astype(np.float32)


class Recommender:
    """Scores bags with the aggregator of a bundle."""

    def __init__(self, bundle: Bundle, aggregator: Aggregator, options: ScoringOptions) -> None:
        self.bundle = bundle
        self._aggregator = aggregator
        self._options = options
        self._embedder = Embedder(bundle.embedder_version, HEADER_BYTES + bundle.embedding_size)
        self._model = Model(bundle.name, bundle.version)
        [self._prior] = self._named(*_best(bundle.prior[None], options.top_k))

    def try_out(self) -> None:
        """Score a bag of one item, whatever comes out.

        Raises:
            EventError: the aggregator returned something that cannot be published.
        """
        embedding = quantize(np.linspace(0, 1, self.bundle.embedding_size, dtype=np.float32))
        self._rank([([BagItem("", (), 0, embedding)], np.zeros(1, np.float32))])

    def recommend(
        self, caused: Sequence[tuple[EmbeddedInteraction, Bag]], *, now: datetime
    ) -> list[Recommendation | None]:
        """Score the bag after each event. One call of the aggregator scores many bags.

        Args:
            caused: each event with the bag after it.
            now: the time that the recommendations carry as `produced_at`.

        Returns:
            A recommendation for each event; None if an erasure left no slot.
        """
        ranked = [_Ranked([], self._prior, [])] * len(caused)
        bags = [self._scored_items(bag) for _, bag in caused]
        warm = [index for index, (found, _) in enumerate(bags) if found]
        for start in range(0, len(warm), BAGS_PER_CALL):
            some = warm[start : start + BAGS_PER_CALL]
            for index, one in zip(some, self._rank([bags[index] for index in some]), strict=True):
                ranked[index] = one
        return [
            None if not bag.slots else self._message(event, one, now)
            for (event, bag), one in zip(caused, ranked, strict=True)
        ]

    def _scored_items(self, bag: Bag) -> tuple[list[BagItem], NDArray[np.float32]]:
        """The items of a bag that are not hidden, and their log weights."""
        options = self._options
        found = items(bag, embedder=self._embedder, bag_size=options.bag_size)
        weights = log_weight(found, options)
        seen = weights > -np.inf
        if seen.all():
            return found, weights
        return [item for item, keep in zip(found, seen, strict=True) if keep], weights[seen]

    def _rank(self, bags: Sequence[tuple[list[BagItem], NDArray[np.float32]]]) -> list["_Ranked"]:
        """Score bags in one call, and rank the categories and items of each. No bag may be empty.

        Raises:
            EventError: the aggregator returned something that cannot be published.
        """
        rows = dequantize([item.embedding for found, _ in bags for item in found], self.bundle.embedding_size)
        ends = np.cumsum([len(found) for found, _ in bags])
        parts = np.split(rows, ends[:-1])
        scored = score_padded(
            self._aggregator, [ScoringBag(part, weights) for part, (_, weights) in zip(parts, bags, strict=True)]
        )
        longest = max(len(found) for found, _ in bags)
        _check_shape("scores", scored.scores, (len(bags), len(self.bundle.categories)))
        _check_shape("attention", scored.attention, (len(bags), longest))
        categories = self._named(*_best(scored.scores, self._options.top_k))
        places, weights = _best(scored.attention, self._options.top_k)
        return [
            _Ranked(
                found,
                best,
                [ItemAttention(found[p].item_id, w) for p, w in zip(some[: len(found)], of, strict=False)],
            )
            for (found, _), best, some, of in zip(bags, categories, places, weights, strict=True)
        ]

    def _named(self, places: list[list[int]], scores: list[list[float]]) -> list[list[CategoryScore]]:
        names = self.bundle.categories
        return [
            [CategoryScore(names[place], score) for place, score in zip(some, of, strict=True)]
            for some, of in zip(places, scores, strict=True)
        ]

    def _message(self, event: EmbeddedInteraction, ranked: "_Ranked", now: datetime) -> Recommendation:
        return Recommendation(
            user_id=event.user_id,
            event_id=event.event_id,
            timestamp=as_datetime(event.timestamp),
            produced_at=now,
            model=self._model,
            bag_size=len(ranked.items),
            cold_start=not ranked.items,
            categories=ranked.categories,
            attention=ranked.attention,
        )


class _Ranked(NamedTuple):
    """The contents of a message."""

    items: list[BagItem]
    categories: list[CategoryScore]
    attention: list[ItemAttention]


def _best(values: NDArray[np.float32], count: int) -> tuple[list[list[int]], list[list[float]]]:
    """Places and rounded values of the `count` largest values in each row of [B, n], largest first.

    Raises:
        EventError: a value is not between 0 and 1. All are checked, also those that are not among the largest.
    """
    if not ((values > -_ROUNDING) & (values < 1 + _ROUNDING)).all():  # NaN is neither
        raise _invalid(f"numbers from {values.min()} to {values.max()}, and not from 0 to 1")
    places = heaviest(values, count)  # [B,k]
    best = np.take_along_axis(values, places, axis=1).astype(np.float64).round(DIGITS)
    return places.tolist(), best.clip(0, 1).tolist()


def _check_shape(output: str, values: NDArray[np.float32], expected: tuple[int, int]) -> None:
    if values.shape != expected:
        raise _invalid(f"{output} of shape {values.shape}, and not {expected}")


def _invalid(what: str) -> EventError:
    return EventError("invalid_scores", f"the aggregator of the bundle returned {what}; check the bundle")


def heaviest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places of the `count` largest values along the last axis, largest first; ties keep their order."""
    return np.argsort(-values, axis=-1, kind="stable")[..., :count]
