"""Why a category, or an item, is recommended for a bag: exact leave-one-out over the items that are scored. Pure.

An item *raises* the target by the difference that it makes: the score of the bag minus the score of the bag without the item. The
smallest set answers another question: without which items would the target lose its place? Both are computed by scoring the bag
without the items, so they hold for any aggregator. A search over sets grows fast, so it has a budget (`ROWS`).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from math import comb
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from model.aggregator import Scored
from model.quantization import dequantize
from streams.profile.bag import Bag
from streams.profile.scoring import DIGITS, Recommender, as_published, heaviest
from streams.profile.subsets import Subsets
from streams.trend.trend import Trend

EXHAUSTIVE = 3  # items: sets up to this size are searched one after another
ROWS = 4096
"""Embeddings that the search for the smallest set may score, beside those of leave-one-out and of the sets beyond three items. With
the shipped bundle 1,000 take 6 ms of a core. Bags of up to 11 items are searched to the end of `EXHAUSTIVE`, and all pairs of 17."""
HALF = 0.5  # an item has lost its place without this part of its lead over the least similar item of the bag


class Target(NamedTuple):
    """What is explained: one of the two."""

    category: str | None = None
    item_code: bytes | None = None  # as `model.quantization` encodes it


class Raise(Struct, frozen=True):
    """What one item of the bag does for the target."""

    item_id: str
    raises: Annotated[
        float,
        Meta(
            description="the score of the bag, minus the score of the bag without this item; negative if it lowers it"
        ),
    ]


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a target has its score."""

    score: Annotated[
        float,
        Meta(
            description="of a category: its score; of an item: its affinity, the sum over the bag of attention times cosine similarity"
        ),
    ]
    items: Annotated[
        list[Raise], Meta(description="the items that are scored; the one that raises the target most first")
    ]
    smallest_set: Annotated[
        list[str] | None,
        Meta(
            description="the fewest items without which a category that ranked lower overtakes this one, or without which an item "
            "loses half of the distance between its affinity and its least similarity to an item of the bag; null if none was found"
        ),
    ]
    exact: Annotated[
        bool,
        Meta(description="whether no smaller set exists, or none at all if it is null; false: the search ended before"),
    ]


class UnknownCategory(LookupError):
    """The bundle has no such category."""


class CategoryWithout(Struct, frozen=True):
    """What a category would be without an item of the bag."""

    category: str
    score: Annotated[float, Meta(description="of the bag")]
    without: Annotated[float, Meta(description="of the bag without the item")]


class Without(NamedTuple):
    """What would be without an item."""

    scored: bool  # whether the item is among those that are scored
    categories: list[CategoryWithout]


def explain(recommender: Recommender, bag: Bag, moment: int, trend: Trend, target: Target) -> Explanation:
    """Explain the score of a category, or the affinity of an item.

    The affinity of an item is the sum over the items of the bag of attention times the cosine similarity of the embeddings. Attention
    is that of the bag that is scored, so without an item the others get its share.

    Args:
        recommender: scores the bag.
        bag: may be empty: then there are no items, and the score is the prior, or that of the trend.
        moment: milliseconds since the epoch, as in `Recommender.answers`.
        trend: as in `Recommender.answers`.
        target: a category of the bundle, or the code of an item, made by the embedder of the bundle.

    Raises:
        UnknownCategory: the bundle has no such category.
        ValueError: the target is neither or both, or the code has another length.
    """
    if (target.category is None) == (target.item_code is None):
        raise ValueError("expected a category or the code of an item")
    subsets = recommender.subsets(bag, moment, trend)
    everything = np.arange(len(subsets.items))
    whole = subsets.score(everything[None])
    if target.category is not None:
        measured = _of_category(recommender.bundle.categories, target.category, whole.scores[0])
    else:
        measured = _of_item(subsets, target.item_code or b"", whole.attention[0])
    measure = _Without(subsets, measured)
    ids = [item.item_id for item in subsets.items]
    without = measure(everything[:, None]) if ids else _Measured(np.zeros(0), np.zeros(0))
    raises = (measured.value - without.values).round(DIGITS)
    found, exact = _smallest(measure, measured.lead, without.leads)
    return Explanation(
        score=round(measured.value, DIGITS),
        items=[Raise(ids[place], float(raises[place])) for place in heaviest(raises, len(ids))],
        smallest_set=None if found is None else [ids[place] for place in found],
        exact=exact,
    )


def raisers(
    recommender: Recommender, bag: Bag, moment: int, trend: Trend, *, categories: Sequence[str], most: int
) -> dict[str, list[Raise]]:
    """The items that raise each of some categories, the one that raises it most first, at most `most` of each.

    As `explain` says for each category, by one leave-one-out for all of them.
    """
    subsets = recommender.subsets(bag, moment, trend)
    size = len(subsets.items)
    if not size:
        return {name: [] for name in categories}
    whole = subsets.score(np.arange(size)[None]).scores
    others = np.array([np.delete(np.arange(size), place) for place in range(size)], np.intp).reshape(size, size - 1)
    raises = (as_published(whole) - as_published(subsets.score(others).scores)).round(DIGITS)  # [m,D]
    places = {name: place for place, name in enumerate(recommender.bundle.categories)}
    found: dict[str, list[Raise]] = {}
    for name in categories:
        column = raises[:, places[name]]
        ranked = [Raise(subsets.items[at].item_id, float(column[at])) for at in heaviest(column, most)]
        found[name] = [one for one in ranked if one.raises > 0]
    return found


def without_item(recommender: Recommender, bag: Bag, moment: int, trend: Trend, item_id: str, *, most: int) -> Without:
    """The categories that would be best without an item, and those that are best with it, the best without it first.

    The other items are those that are scored now: an older one that BAG_SIZE leaves out does not take the place of the item.

    Args:
        recommender: scores the bag.
        bag: of a user.
        moment: milliseconds since the epoch, as in `Recommender.answers`.
        trend: as in `Recommender.answers`.
        item_id: of the item. If it is not among those that are scored, nothing changes.
        most: number of categories with the item, and without it.
    """
    subsets = recommender.subsets(bag, moment, trend)
    everything = np.arange(len(subsets.items))
    rest = np.array([place for place in everything if subsets.items[place].item_id != item_id], np.intp)
    scores, without = (as_published(subsets.score(kept[None]).scores[0]) for kept in (everything, rest))
    shown = {int(place) for values in (scores, without) for place in heaviest(values, most)}
    names = recommender.bundle.categories
    changes = [
        CategoryWithout(names[place], float(scores[place]), float(without[place]))
        for place in heaviest(without, len(names)).tolist()
        if place in shown
    ]
    return Without(len(rest) < len(everything), changes)


class _Measured(NamedTuple):
    values: NDArray[np.float64]  # [B]
    leads: NDArray[np.float64]  # [B]; the target keeps its place while the lead is positive


class _Quantity(NamedTuple):
    """What is measured of a bag."""

    value: float  # of the whole bag
    lead: float  # of the whole bag; not positive if there is no place to lose
    of: Callable[[Scored, NDArray[np.intp]], _Measured]  # of subsets: what they score, and their places


def _of_category(categories: Sequence[str], name: str, scores: NDArray[np.float32]) -> _Quantity:
    """The score of a category. Its lead is the distance to the best of those that rank below it in the whole bag.

    Scores count as an answer has them. Of equal ones the first category ranks above the others, so it keeps a lead over them.
    """
    try:
        place = categories.index(name)
    except ValueError:
        raise UnknownCategory(f"the bundle has no category {name!r}") from None
    ranked = heaviest(as_published(scores), len(scores)).tolist()
    below = np.array(ranked[ranked.index(place) + 1 :], np.intp)

    def measure(scored: Scored, _: NDArray[np.intp]) -> _Measured:
        published = as_published(scored.scores)
        values, rivals = published[:, place], published[:, below]
        rivals = np.where(below > place, np.nextafter(rivals, -np.inf), rivals)
        return _Measured(values, values - rivals.max(axis=1, initial=-np.inf))

    [value], [lead] = measure(Scored(scores[None], np.zeros((1, 0), np.float32)), np.zeros((1, 0), np.intp))
    return _Quantity(float(value), float(lead), measure)


def _of_item(subsets: Subsets, code: bytes, attention: NDArray[np.float32]) -> _Quantity:
    """The affinity of an item. It falls to its least similarity at most, so its lead is the distance to the middle."""
    size = subsets.embeddings.shape[1]
    [vector] = dequantize([code], size)
    norms = np.linalg.norm(subsets.embeddings, axis=1) * np.linalg.norm(vector)
    products = (subsets.embeddings @ vector).astype(np.float64)
    cosines = np.divide(products, norms, out=np.zeros(len(norms)), where=norms > 0)
    value = float(attention @ cosines)
    middle = value - HALF * (value - float(cosines.min(initial=value)))

    def measure(scored: Scored, kept: NDArray[np.intp]) -> _Measured:
        values = (scored.attention * cosines[kept]).sum(axis=1)
        return _Measured(values, values - middle)

    return _Quantity(value, value - middle, measure)


class _Measure(Protocol):
    """Measures what is left of a bag."""

    size: int  # of the bag
    rows: int  # embeddings that were scored

    def __call__(self, removed: NDArray[np.intp]) -> _Measured:
        """Values and leads without items. removed: [B, s], places."""
        ...


class _Without:
    """Measures subsets of a bag."""

    def __init__(self, subsets: Subsets, quantity: _Quantity) -> None:
        self.size = len(subsets.items)
        self.rows = 0
        self._subsets = subsets
        self._quantity = quantity

    def __call__(self, removed: NDArray[np.intp]) -> _Measured:
        stays = np.ones((len(removed), self.size), bool)
        np.put_along_axis(stays, removed, values=False, axis=1)
        kept = np.nonzero(stays)[1].reshape(len(removed), self.size - removed.shape[1])
        self.rows += kept.size
        return self._quantity.of(self._subsets.score(kept), kept)


def _smallest(measure: _Measure, lead: float, leads: NDArray[np.float64]) -> tuple[list[int] | None, bool]:
    """The smallest set of places without which the lead is gone, and whether no smaller one exists.

    Sets of one, two and three items are tried, the most promising ones first, as long as the budget permits. Then so many items go
    as it takes, in the order of what each one takes from the lead, and those that need not go come back.

    Args:
        measure: measures without items.
        lead: of the whole bag.
        leads: [m], without each item.
    """
    size = measure.size
    if not size or not lead > 0 or np.isinf(lead):
        return None, True  # there is no place to lose
    if leads.min() <= 0:
        return [int(leads.argmin())], True
    order = np.argsort(leads, kind="stable")
    ruled_out, start = 1, measure.rows
    for count in range(2, min(EXHAUSTIVE, size) + 1):
        budget = (ROWS - (measure.rows - start)) // 2  # half of what is left for each size, and for the rest
        found, complete = _one_of(measure, _promising(order, count, budget // max(1, size - count)), count)
        if found is not None:
            return found, ruled_out == count - 1
        ruled_out += complete and ruled_out == count - 1
    if ruled_out == size:
        return None, True
    found = _greedy(measure, order)
    return found, found is not None and len(found) == ruled_out + 1


def _promising(order: NDArray[np.intp], count: int, most: int) -> NDArray[np.intp]:
    """Sets of `count` places, [B, count], `most` at most: those of the first places of an order."""
    among = next((n for n in range(len(order), 0, -1) if comb(n, count) <= most), 0)
    places = np.array(list(combinations(range(among), count)), np.intp).reshape(-1, count)
    return order[places[np.argsort(places.sum(axis=1), kind="stable")]]


def _one_of(measure: _Measure, sets: NDArray[np.intp], count: int) -> tuple[list[int] | None, bool]:
    """The first of some sets without which the lead is gone, and whether these were all sets of their size."""
    for some in _chunks(sets):
        leads = measure(some).leads
        if leads.min() <= 0:
            return [int(place) for place in some[int(np.argmax(leads <= 0))]], True
    return None, len(sets) == comb(measure.size, count)


def _chunks(sets: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """The sets in parts: promising ones come first, so that the rest need not be scored."""
    return (sets[start : start + 32] for start in range(0, len(sets), 32))


def _greedy(measure: _Measure, order: NDArray[np.intp]) -> list[int] | None:
    """A set without which the lead is gone, of which no item can stay; None if none was found."""
    held, gone = 0, EXHAUSTIVE + 1  # items: so many do not do, so many are tried next
    while not _lost(measure, order[:gone]):
        if gone >= measure.size:
            return None
        held, gone = gone, 2 * gone
    gone = min(gone, measure.size)
    while gone - held > 1:
        middle = (held + gone) // 2
        held, gone = (held, middle) if _lost(measure, order[:middle]) else (middle, gone)
    found = order[:gone].tolist()
    for place in reversed(found[:-1]):
        fewer = [other for other in found if other != place]
        if _lost(measure, np.array(fewer)):
            found = fewer
    return found


def _lost(measure: _Measure, places: NDArray[np.intp]) -> bool:
    return bool(measure(places[None]).leads[0] <= 0)
