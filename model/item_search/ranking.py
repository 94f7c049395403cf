"""Ranks items for a taste. Pure: the taste, the candidates and the parameters decide alone.

    score(i) = s log(e^floor + sum_j a_j exp(b (cos(i, j) - 1)))        how near it is to what is in the bag
             + c log(sum_l q_i(l) p(l) / sum_l q_i(l) + LITTLE)         how wanted its categories are
             + n log(taken_i + SMOOTHING)                               how often others took it

j are the items of the bag and a_j their attention; p(l) is the score of category l, and q_i(l) how much item i belongs to it, by its
picture; taken_i is how often it was taken lately. The score is that of a conditional logit (McFadden 1974), the model of a choice
among items: training finds s, b, floor, c and n on next purchases. The first term is a kernel density estimate of the bag at the
item; `floor` is what an item that is like nothing in the bag has of it.

Diversity is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): one item after the other, each the best by

    (1 - diversity) * relevance(i) - diversity * max_j cos(i, j)        over the items j that were taken before

where the relevance is the score, as a share of the range from the last to the first item of the pool.

Candidates are the items that are most similar to each interest of the bag (PinnerSage, KDD 2020), and those that others take most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.item_search.interests import find_interests
from model.item_search.vectors import products, unit
from model.item_search.weights import DEFAULT, RankingWeights
from model.quantization import HEADER_BYTES, dequantize

LITTLE = 1e-3  # wanted share that is added to each: an item of categories that nobody wants keeps a finite score
POOL = 4  # items in the pool of diversity, for each that is returned

Nearest = Callable[[NDArray[np.float32], int, NDArray[np.bool_]], tuple[NDArray[np.intp], NDArray[np.float32]]]
"""Queries [Q,d], a count and a mask [N] to places [Q,k] and cosines [Q,k], such as `CodeIndex.search`."""
Codes = Callable[[Sequence[int]], Sequence[bytes]]
"""Places to codes, as `model.quantization` encodes them."""
Shares = Callable[[Sequence[bytes]], NDArray[np.integer]]
"""n codes to how much each item belongs to each category, [n,D], such as `ItemLabels.of`."""


class RankedItem(NamedTuple):
    """A recommended item."""

    place: int
    score: float
    """Of the formula above. Only differences mean something: a difference of log 2 is twice the chance."""
    because: int | None
    """The item of the bag that speaks for it most. None: no item of the bag speaks for it."""


@dataclass(frozen=True)
class Taste:
    """What is known of a user.

    Attributes:
        rows: codes of the items of the bag, float32 [m, d]; m is 0 for a user without a bag.
        attention: of each item, float32 [m].
        scores: of each category, float32 [D]; the prior, or the trend, for a user without a bag.
    """

    rows: NDArray[np.float32]
    attention: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """What the caller may choose."""

    count: int = 12
    diversity: float = 0.0
    """From 0, the best items, to 1, the most different ones."""
    interests: int = 4
    """Most interests of a bag that are searched for."""
    nearest: int = 100
    """Candidates of each interest."""
    popular: int = 200
    """Candidates that others take most."""


def recommend_items(
    taste: Taste,
    *,
    nearest: Nearest,
    codes: Codes,
    shares: Shares | None,
    popularity: NDArray[np.number],
    mask: NDArray[np.bool_],
    weights: RankingWeights = DEFAULT,
    options: Options = Options(),
) -> list[RankedItem]:
    """Recommend items for a taste.

    Args:
        taste: the user's.
        nearest: finds the items that are most similar to some codes.
        codes: gives the codes of items.
        shares: tells categories of items from their codes. None: categories do not count.
        popularity: how often each item was taken, from 0, [N] by place. It may go on behind the mask.
        mask: the items that may be recommended, bool [N]. It leaves out what is in the bag, if that is wanted.
        weights: parameters of the formula.
        options: what the caller chooses.

    Returns:
        The best items, best first.
    """
    places = find_candidates(taste, nearest=nearest, popularity=popularity, mask=mask, options=options)
    return rank_items(
        taste,
        places,
        codes=codes,
        shares=shares,
        popularity=popularity,
        weights=weights,
        count=options.count,
        diversity=options.diversity,
    )


def find_candidates(
    taste: Taste,
    *,
    nearest: Nearest,
    popularity: NDArray[np.number],
    mask: NDArray[np.bool_],
    options: Options,
) -> NDArray[np.intp]:
    """The places of items that are worth ranking, ascending. The arguments are those of `recommend_items`."""
    taken = np.where(mask, popularity[: len(mask)], -1)
    found = [_largest(taken, min(options.popular, int(np.count_nonzero(mask))))]
    if len(taste.rows):
        medoids = [one.medoid for one in find_interests(taste.rows, taste.attention, options.interests)]
        found.append(nearest(taste.rows[medoids], options.nearest, mask)[0].ravel())
    return np.unique(np.concatenate(found))


def rank_items(
    taste: Taste,
    places: NDArray[np.intp],
    *,
    codes: Codes,
    shares: Shares | None,
    popularity: NDArray[np.number],
    weights: RankingWeights = DEFAULT,
    count: int | None = None,
    diversity: float = 0.0,
) -> list[RankedItem]:
    """Rank given items. The other arguments are those of `recommend_items`.

    Args:
        places: intp [n], each at most once.
        count: most items to return. None: all.
        diversity: see `Options`.
    """
    count = len(places) if count is None else min(count, len(places))
    if not count:
        return []
    rows = codes(places.tolist())
    distinct = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    of = np.array([distinct[row] for row in rows])  # a product of two equal codes may differ in the last bits
    own = unit(dequantize(list(distinct), len(rows[0]) - HEADER_BYTES))  # [n,d]
    near, because = nearness(taste, own, weights)
    by_taste = weights.similarity * near
    if shares is not None and weights.categories:
        by_taste += weights.categories * wanted(shares(list(distinct)), taste.scores)
    scores = by_taste[of] + weights.popularity * np.log(popularity[places].astype(np.float32) + weights.smoothing)
    own, because = own[of], because[of]
    order = np.lexsort((places, -scores))
    if diversity > 0:
        order = _diverse(own, scores, order[: POOL * count], count, diversity)
    return [
        RankedItem(int(places[number]), float(scores[number]), None if because[number] < 0 else int(because[number]))
        for number in order[:count].tolist()
    ]


def nearness(
    taste: Taste, own: NDArray[np.float32], weights: RankingWeights
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The first term of the formula without its weight, and the item of the bag that makes most of it, -1: the floor.

    Args:
        taste: the user's.
        own: codes of the candidates, of length 1, [n,d].
        weights: parameters.
    """
    if not len(taste.rows):
        return np.full(len(own), weights.floor), np.full(len(own), -1, np.intp)
    cosines = products(own, unit(taste.rows)).astype(np.float64)  # [n,m]
    with np.errstate(divide="ignore"):
        logs = weights.sharpness * (cosines - 1) + np.log(taste.attention.astype(np.float64))
    best = logs.argmax(axis=1)
    most = np.maximum(logs[np.arange(len(own)), best], weights.floor)
    total = np.exp(logs - most[:, None]).sum(axis=1) + np.exp(weights.floor - most)
    return most + np.log(total), np.where(logs.max(axis=1) > weights.floor, best, -1)


def wanted(shares: NDArray[np.integer], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """The second term without its weight: how wanted the categories of each item are, [n].

    Args:
        shares: how much each item belongs to each category, [n,D], in any unit.
        scores: of each category, [D].
    """
    parts = shares.astype(np.float32)
    total = parts.sum(axis=1, dtype=np.float64)
    return np.log((parts @ scores).astype(np.float64) / np.maximum(total, 1.0) + LITTLE)


def _diverse(
    own: NDArray[np.float32],
    scores: NDArray[np.float64],
    pool: NDArray[np.intp],
    count: int,
    diversity: float,
) -> NDArray[np.intp]:
    """Take `count` items of a pool, best first, one after the other."""
    span = scores[pool[0]] - scores[pool[-1]]
    relevance = (scores[pool] - scores[pool[-1]]) / (span if span > 0 else 1.0)
    cosines = products(own[pool], own[pool])
    left, closest = np.ones(len(pool), bool), np.zeros(len(pool))
    taken: list[int] = []
    while len(taken) < count:
        value = np.where(left, (1 - diversity) * relevance - diversity * closest, -np.inf)
        one = int(value.argmax())
        closest = cosines[one] if not taken else np.maximum(closest, cosines[one])
        left[one] = False
        taken.append(one)
    return pool[taken]


def _largest(values: NDArray[np.number], count: int) -> NDArray[np.intp]:
    """Places of the largest values, of equal ones the first. In no order."""
    least = np.partition(values, -count)[-count] if count else np.inf
    above = np.flatnonzero(values > least)
    return np.concatenate([above, np.flatnonzero(values == least)[: count - len(above)]])
