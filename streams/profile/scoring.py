"""From bags to recommendations: log weights and ages, one call of the aggregator for many bags, messages. Pure.

`Recommender.answers` scores bags at given moments: of events in what is published, of the clock where somebody asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.aggregator import TREND_DAYS, Aggregator, Scored
from model.bundle import Bundle
from model.item_labels import ItemLabels
from model.item_search.weights import RankingWeights
from model.quantization import HEADER_BYTES, dequantize, quantize
from model.scoring import ScoringBag, score_padded
from streams.exceptions import EventError
from streams.messages import (
    CategoryScore,
    EmbeddedInteraction,
    FieldScores,
    ItemAttention,
    Model,
    Recommendation,
    as_datetime,
)
from streams.profile.bag import Bag, BagItem, Embedder, Touched, items, newest_first
from streams.profile.subsets import Subsets
from streams.settings import Settings
from streams.trend.trend import DAY, Trend

BAGS_PER_CALL = 32  # bounds memory: 32 bags of 64 embeddings of 1024 floats are 8 MiB
_ROUNDING = 1e-6  # a sum of probabilities in float32 can miss 1 by so much
DIGITS = 6  # of scores and weights in a message: finer than the model resolves, and short to send
VALUES = 3  # of each field in a message
NOTHING = -60.0  # log weight of the blank item that stands for an empty bag: what it says weighs 1e-26 beside the trend
_FIELD_ROUNDING = 1e-3  # a field's probabilities in float32 can miss a sum of 1 by much less


@dataclass(frozen=True)
class ScoringOptions:
    """The settings of scoring."""

    bag_size: int  # newest items that are scored
    top_k: int  # number of categories, and of items with their attention, in a message
    type_weights: Mapping[Any, float]  # 0..1 of each interaction type
    half_life: float | None  # seconds after which an item counts half; None for no decay

    @classmethod
    def of(cls, settings: Settings) -> "ScoringOptions":
        """The options of the settings."""
        return cls(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)

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
        seconds = np.array([(newest - item.timestamp) / 1000 for item in bag])
        logs -= np.log(2) * seconds / options.half_life
    return logs.astype(np.float32)


def ages(bag: Sequence[BagItem], moment: int) -> NDArray[np.float32]:
    """Days from the newest interaction with each item to a moment, in milliseconds since the epoch. 0 for a later interaction."""
    newest = np.array([item.timestamp for item in bag], np.int64)
    return (np.maximum(moment - newest, 0) / DAY).astype(np.float32)


class Answer(NamedTuple):
    """What is recommended for a bag at a moment: the contents of a message."""

    items: list[BagItem]  # those that were scored; none at a cold start
    categories: list[CategoryScore]
    attention: list[ItemAttention]
    fields: list[FieldScores]
    trend_version: int | None  # of the trend that was used


class InFull(NamedTuple):
    """An answer with the numbers that it was made of."""

    answer: Answer
    scores: NDArray[np.float32]  # [D], of all categories
    attention: NDArray[np.float32]  # [m], of all items that were scored


class _Asked(NamedTuple):
    """A bag at a moment as the aggregator sees it."""

    items: list[BagItem]
    log_weight: NDArray[np.float32]  # [m]
    ages: NDArray[np.float32] | None  # [m]
    trend: NDArray[np.float32] | None  # [3,D]


class Recommender:
    """Scores bags with the aggregator of a bundle."""

    def __init__(self, bundle: Bundle, aggregator: Aggregator, options: ScoringOptions) -> None:
        self.bundle = bundle
        self._aggregator = aggregator
        self._options = options
        self._embedder = Embedder(bundle.embedder_version, HEADER_BYTES + bundle.embedding_size)
        self._model = Model(bundle.name, bundle.version)
        self._fields = [field.name for field in bundle.fields]
        self._listed = sum(min(VALUES, len(field.categories)) for field in bundle.fields)  # values in a message
        self._field_of: list[int | None] = [None] * len(bundle.categories)  # place of the field of each category
        for number, field in enumerate(bundle.fields):
            for place in field.categories:
                self._field_of[place] = number
        [(categories, fields)] = self._named(bundle.prior[None], options.top_k)
        self._prior = InFull(Answer([], categories, [], fields, None), bundle.prior, np.zeros(0, np.float32))

    @property
    def options(self) -> ScoringOptions:
        """The settings that it scores with."""
        return self._options

    @property
    def embedder(self) -> Embedder:
        """The embedder whose pictures it scores."""
        return self._embedder

    @property
    def uses_trend(self) -> bool:
        """Whether the scores depend on the moment and on what all users take."""
        return self._aggregator.uses_trend

    @cached_property
    def labels(self) -> ItemLabels | None:
        """What tells the categories of an item; None in a bundle without labels."""
        return self.bundle.item_labels()

    @cached_property
    def ranking(self) -> RankingWeights:
        """How the bundle ranks items."""
        return self.bundle.ranking()

    def try_out(self) -> None:
        """Score a bag of one item, and an empty one in a shop that just opened and in a busy one, whatever comes out.

        Raises:
            EventError: the aggregator returned something that cannot be published.
        """
        row = quantize(np.linspace(0, 1, self.bundle.embedding_size, dtype=np.float32))
        windows = np.zeros((len(TREND_DAYS), len(self.bundle.categories)), np.float32)
        bag = _Asked([BagItem("", (), 0, row)], np.zeros(1, np.float32), np.zeros(1, np.float32), windows)
        asked = [bag]
        if self._aggregator.uses_trend:
            old = np.full(1, 1e4, np.float32)
            none = bag._replace(items=[])
            asked += [bag._replace(trend=windows + 1e6, ages=old), none, none._replace(trend=windows + 1e6)]
        scores, attention = self._scored(asked)
        for values in (scores, attention):
            _best(values, 1)
        for field in self.bundle.fields:
            sums = scores[:, field.categories].sum(axis=1)
            if np.abs(sums - 1).max() > _FIELD_ROUNDING:
                raise _invalid(
                    f"scores of the field {field.name} that sum to {sums[np.abs(sums - 1).argmax()]:.6g}, and not to 1"
                )

    def recommend(
        self,
        caused: Sequence[tuple[EmbeddedInteraction, Bag]],
        *,
        now: datetime,
        trend: Trend,
        orders: Sequence[list[Touched]] | None = None,
    ) -> list[Recommendation | None]:
        """Score the bag after each event, at the time of the event. One call of the aggregator scores many bags.

        Args:
            caused: each event with the bag after it.
            now: the time that the recommendations carry as `produced_at`.
            trend: what all users took. A bundle that does not use it ignores it.
            orders: the slots of each bag by `newest_first`, where several bundles score the same bags.

        Returns:
            A recommendation for each event; None if an erasure left no slot.
        """
        if orders is None:
            orders = [newest_first(bag) for _, bag in caused]
        asked = [(order, event.timestamp) for (event, bag), order in zip(caused, orders, strict=True) if bag.slots]
        found = (one.answer for one in self._in_full(asked, trend, self._options.top_k))
        return [self._message(event, next(found), now) if bag.slots else None for event, bag in caused]

    def answers(self, asked: Sequence[tuple[Bag, int]], trend: Trend) -> list[Answer]:
        """Score each bag at a moment: the items have the age, and the trend has the windows, of that moment.

        Args:
            asked: bags, each with a moment in milliseconds since the epoch. A bag may be empty.
            trend: as in `recommend`.

        Raises:
            EventError: the aggregator returned something that cannot be published.
            ValueError: the trend has another number of categories.
        """
        return [found.answer for found in self.in_full(asked, trend)]

    def in_full(self, asked: Sequence[tuple[Bag, int]], trend: Trend, *, top_k: int | None = None) -> list[InFull]:
        """Score each bag at a moment as `answers` does, and return the numbers too.

        Args:
            asked: as in `answers`.
            trend: as in `recommend`.
            top_k: number of categories and items in an answer; None for that of the options.

        Raises:
            as `answers`.
        """
        top_k = self._options.top_k if top_k is None else top_k
        return self._in_full([(newest_first(bag), moment) for bag, moment in asked], trend, top_k)

    def _in_full(self, asked: Sequence[tuple[list[Touched], int]], trend: Trend, top_k: int) -> list[InFull]:
        """`in_full` for the slots of each bag."""
        uses_trend = self._aggregator.uses_trend
        if uses_trend and trend.categories != len(self.bundle.categories):
            raise ValueError(f"expected a trend of {len(self.bundle.categories)} categories, found {trend.categories}")
        version = trend.version if uses_trend else None
        # A trend keeps the windows of the day that was asked for last, so the moments come in their order.
        windows = {moment: trend.at(moment) for moment in sorted({moment for _, moment in asked})} if uses_trend else {}
        found = [self._prior if top_k == self._options.top_k else self._prior_of(top_k)] * len(asked)
        bags = [self._asked(touched, moment, windows.get(moment)) for touched, moment in asked]
        scored = [index for index, bag in enumerate(bags) if bag.items or uses_trend]
        for start in range(0, len(scored), BAGS_PER_CALL):
            some = scored[start : start + BAGS_PER_CALL]
            for index, one in zip(some, self._rank([bags[index] for index in some], version, top_k), strict=True):
                found[index] = one
        return found

    def subsets(self, bag: Bag, moment: int, trend: Trend) -> Subsets:
        """The items that `answers` scores of a bag at a moment, and the scores of any of their subsets."""
        asked = self._asked(newest_first(bag), moment, trend.at(moment) if self._aggregator.uses_trend else None)
        size = self.bundle.embedding_size
        rows = dequantize([item.embedding for item in asked.items], size)
        if self._aggregator.uses_trend:
            nothing = score_padded(self._aggregator, [_empty(size, asked.trend)]).scores[0]
        else:
            nothing = self.bundle.prior
        return Subsets(
            self._aggregator, asked.items, ScoringBag(rows, asked.log_weight, asked.ages, asked.trend), nothing
        )

    def _prior_of(self, top_k: int) -> InFull:
        [(categories, fields)] = self._named(self.bundle.prior[None], top_k)
        return self._prior._replace(answer=self._prior.answer._replace(categories=categories, fields=fields))

    def _asked(self, touched: list[Touched], moment: int, trend: NDArray[np.float32] | None) -> _Asked:
        """The items of a bag that are not hidden, with their log weights and ages."""
        options = self._options
        found = items(touched, embedder=self._embedder, bag_size=options.bag_size)
        weights = log_weight(found, options)
        seen = weights > -np.inf
        if not seen.all():
            found, weights = [item for item, keep in zip(found, seen, strict=True) if keep], weights[seen]
        return _Asked(found, weights, None if trend is None else ages(found, moment), trend)

    def _rank(self, bags: Sequence[_Asked], version: int | None, top_k: int) -> list[InFull]:
        """Score bags in one call, and rank the categories and items of each.

        Raises:
            EventError: the aggregator returned something that cannot be published.
        """
        scores, attention = self._scored(bags)
        named = self._named(scores, top_k)
        places, weights = _best(attention, top_k)
        return [
            InFull(
                Answer(
                    bag.items,
                    best,
                    [ItemAttention(bag.items[p].item_id, w) for p, w in zip(some[: len(bag.items)], of, strict=False)],
                    values,
                    version,
                ),
                scores[row],
                attention[row, : len(bag.items)],
            )
            for row, (bag, (best, values), some, of) in enumerate(zip(bags, named, places, weights, strict=True))
        ]

    def _scored(self, bags: Sequence[_Asked]) -> Scored:
        """Score bags in one call. An empty bag, which only an aggregator that uses the trend gets, has one blank item.

        Raises:
            EventError: an output has another shape.
        """
        size = self.bundle.embedding_size
        rows = dequantize([item.embedding for bag in bags for item in bag.items], size)
        ends = accumulate(len(bag.items) for bag in bags)
        padded = [
            ScoringBag(rows[end - len(bag.items) : end], bag.log_weight, bag.ages, bag.trend)
            if bag.items
            else _empty(size, bag.trend)
            for bag, end in zip(bags, ends, strict=True)
        ]
        scored = score_padded(self._aggregator, padded)
        longest = max(len(bag.log_weight) for bag in padded)
        _check_shape("scores", scored.scores, (len(bags), len(self.bundle.categories)))
        _check_shape("attention", scored.attention, (len(bags), longest))
        return scored

    def _named(self, scores: NDArray[np.float32], top_k: int) -> list[tuple[list[CategoryScore], list[FieldScores]]]:
        """The best categories, and the best values of each field, of each row of scores [B, D].

        Raises:
            EventError: a score is not between 0 and 1.
        """
        names = self.bundle.categories
        places, best = _best(scores, len(names) if self._fields else top_k)
        return [
            (
                [CategoryScore(names[place], score) for place, score in zip(some[:top_k], of, strict=False)],
                self._values(some, of) if self._fields else [],
            )
            for some, of in zip(places, best, strict=True)
        ]

    def _values(self, places: list[int], scores: list[float]) -> list[FieldScores]:
        """The best values of each field. places: of all categories, best first, with their scores."""
        names, field_of, missing = self.bundle.categories, self._field_of, self._listed
        found: list[list[CategoryScore]] = [[] for _ in self._fields]
        for place, score in zip(places, scores, strict=True):
            number = field_of[place]
            if number is None or len(found[number]) == VALUES:
                continue
            found[number].append(CategoryScore(names[place], score))
            missing -= 1
            if not missing:
                break
        return [FieldScores(name, values) for name, values in zip(self._fields, found, strict=True)]

    def _message(self, event: EmbeddedInteraction, answer: Answer, now: datetime) -> Recommendation:
        return Recommendation(
            user_id=event.user_id,
            event_id=event.event_id,
            timestamp=as_datetime(event.timestamp),
            produced_at=now,
            model=self._model,
            bag_size=len(answer.items),
            cold_start=not answer.items,
            categories=answer.categories,
            attention=answer.attention,
            fields=answer.fields,
            trend_version=answer.trend_version,
        )


def _empty(size: int, trend: NDArray[np.float32] | None) -> ScoringBag:
    """A bag with one blank item, whose scores are the trend's."""
    zero = np.zeros(1, np.float32)
    return ScoringBag(np.zeros((1, size), np.float32), zero + np.float32(NOTHING), zero, trend)


def _best(values: NDArray[np.float32], count: int) -> tuple[list[list[int]], list[list[float]]]:
    """Places and rounded values of the `count` largest values in each row of [B, n], largest first.

    Values that are rounded to the same number keep their order: a network rounds a bag alone and in a batch differently.

    Raises:
        EventError: a value is not between 0 and 1. All are checked, also those that are not among the largest.
    """
    low, high = float(values.min()), float(values.max())
    if not (low > -_ROUNDING and high < 1 + _ROUNDING):  # NaN is neither
        raise _invalid(f"numbers from {low} to {high}, and not from 0 to 1")
    rounded = as_published(values)
    places = heaviest(rounded, count)  # [B,k]
    best = rounded[np.arange(len(rounded))[:, None], places]
    if low < 0 or high > 1:
        best = best.clip(0, 1)
    return places.tolist(), best.tolist()


def as_published(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores as an answer has them, by which it ranks them: rounded to `DIGITS`."""
    return scores.astype(np.float64).round(DIGITS)


def _check_shape(output: str, values: NDArray[np.float32], expected: tuple[int, int]) -> None:
    if values.shape != expected:
        raise _invalid(f"{output} of shape {values.shape}, and not {expected}")


def _invalid(what: str) -> EventError:
    return EventError("invalid_scores", f"the aggregator of the bundle returned {what}; check the bundle")


def heaviest(values: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Places of the `count` largest values along the last axis, largest first; ties keep their order."""
    return np.argsort(-values, axis=-1, kind="stable")[..., :count]
