"""From bags to recommendations: the log prior, one call of the aggregator for many bags, the message. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.aggregator import Aggregator, Scored
from model.bundle import Bundle
from model.quantization import dequantize
from model.scoring import Bag as ScorableBag
from model.scoring import score_bags
from streams.messages import (
    CategoryScore,
    EmbeddedInteraction,
    ItemAttention,
    Model,
    Recommendation,
    as_datetime,
)
from streams.profile.bag import Bag, Item, items

BAGS_PER_CALL = 32  # bounds memory: 32 bags of 64 embeddings of 1024 floats are 8 MiB
DIGITS = 6  # of scores and weights in a message: far below what the model resolves, and shorter to send


class ScoringOptions(NamedTuple):
    """What an operator may set about scoring."""

    bag_size: int  # newest items that are scored
    top_k: int  # categories, and items with their attention, in a message
    type_weights: Mapping[Any, float]  # 0..1 of each interaction type
    half_life: float | None  # seconds after which an item counts half, or None


def log_prior(bag: Sequence[Item], options: ScoringOptions) -> NDArray[np.float32]:
    """Log weight of each item, float32 [m]: the strength of its interaction and its decay with age.

    The strongest type since the newest return counts. Age is measured from the newest item of the bag, not from now: then
    the scores are a function of the bag alone, and attention, a softmax, does not see the difference.
    -inf (a weight of 0) hides an item.
    """
    if not bag:
        return np.zeros(0, np.float32)
    weights = np.array([max(options.type_weights[kind] for kind in item.types) for item in bag])
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
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
        self._model = Model(bundle.name, bundle.version)

    def recommend(
        self, caused: Sequence[tuple[EmbeddedInteraction, Bag]], *, now: datetime
    ) -> list[Recommendation | None]:
        """For each event and the bag after it: the recommendation, or None when an erasure left nothing.

        Many bags are scored in one call of the aggregator.
        """
        options = self._options
        bags: list[list[Item]] = []
        priors: list[NDArray[np.float32]] = []
        for _, bag in caused:
            found = items(bag, embedder=self.bundle.embedder_version, bag_size=options.bag_size)
            prior = log_prior(found, options)
            seen = np.isfinite(prior)
            bags.append([item for item, keep in zip(found, seen, strict=True) if keep])
            priors.append(prior[seen])

        warm = [index for index, bag in enumerate(bags) if bag]
        size = self.bundle.embedding_size
        results: dict[int, Scored] = {}
        for start in range(0, len(warm), BAGS_PER_CALL):
            some = warm[start : start + BAGS_PER_CALL]
            scorable = [
                ScorableBag(dequantize([item.embedding for item in bags[index]], size), priors[index]) for index in some
            ]
            results.update(zip(some, score_bags(self._aggregator, scorable), strict=True))

        messages: list[Recommendation | None] = []
        for index, (event, bag) in enumerate(caused):
            if not bag.slots:
                messages.append(None)
                continue
            result = results.get(index)
            scores = self.bundle.prior if result is None else result.scores
            attention = np.zeros(0, np.float32) if result is None else result.attention
            messages.append(
                Recommendation(
                    user_id=event.user_id,
                    event_id=event.event_id,
                    timestamp=as_datetime(event.timestamp),
                    produced_at=now,
                    model=self._model,
                    bag_size=len(bags[index]),
                    cold_start=result is None,
                    categories=[
                        CategoryScore(self.bundle.categories[place], round(float(scores[place]), DIGITS))
                        for place in heaviest(scores, options.top_k)
                    ],
                    attention=[
                        ItemAttention(bags[index][place].item_id, round(float(attention[place]), DIGITS))
                        for place in heaviest(attention, options.top_k)
                    ],
                )
            )
        return messages


def heaviest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places of the `count` largest values, largest first; ties in the order they stand."""
    return np.argsort(-values, kind="stable")[:count]
