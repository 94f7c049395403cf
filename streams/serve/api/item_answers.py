"""Items in answers: asks the catalogue and the ranking, and writes down what they say."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from model.bundle import Bundle
from model.item_search.ranking import Options, Taste, rank_items, recommend_items
from model.quantization import dequantize
from streams.profile.bag import Bag
from streams.profile.scoring import InFull, Recommender
from streams.serve.api.parameters import ItemFilter, TasteQuery
from streams.serve.api.problems import Problem
from streams.serve.api.types.items import RecommendedItem
from streams.serve.interface import Catalogue, Item, Wanted


class Asked(NamedTuple):
    """What is asked of the ranking for a user who was scored."""

    taste: Taste
    item_ids: list[str]  # [m], of the bag


def asked_of(full: InFull, bundle: Bundle) -> Asked:
    """What the ranking needs of a user who was scored."""
    items = full.answer.items
    rows = dequantize([item.embedding for item in items], bundle.embedding_size)
    return Asked(Taste(rows, full.attention, full.scores), [item.item_id for item in items])


def wanted_of(query: ItemFilter, without: Sequence[str] = ()) -> Wanted:
    """Which items a request permits."""
    return Wanted(
        category=None if query.category is UNSET else query.category,
        in_stock=query.in_stock,
        price_max=None if query.price_max is UNSET else query.price_max,
        without=without,
    )


def left_out(query: TasteQuery, bag: Bag) -> list[str]:
    """The items of a bag that are not recommended again."""
    return list(bag.slots) if query.exclude == "bag" else []


def ranked(
    recommender: Recommender,
    catalogue: Catalogue,
    asked: Asked,
    *,
    mask: NDArray[np.bool_],
    options: Options,
    only: Sequence[int] | None = None,
) -> list[tuple[int, float, str | None]]:
    """The best items for a user: place, score, and the item of the bag that it is there for.

    Args:
        recommender: of the bundle in use.
        catalogue: the items.
        asked: of the user.
        mask: the places that may be recommended.
        options: how many, and how different from each other.
        only: places that are all ranked; None to look for the best.
    """
    labels = recommender.labels
    parts: dict[str, Any] = {
        "codes": catalogue.codes,
        "shares": None if labels is None else labels.of,
        "popularity": catalogue.popularity,
        "weights": recommender.ranking,
    }
    if only is None:
        found = recommend_items(asked.taste, nearest=catalogue.nearest, mask=mask, options=options, **parts)
    else:
        found = rank_items(asked.taste, np.array([place for place in only if mask[place]], np.intp), **parts)
    return [(one.place, one.score, None if one.because is None else asked.item_ids[one.because]) for one in found]


def best(
    recommender: Recommender,
    catalogue: Catalogue,
    full: InFull,
    *,
    wanted: Wanted,
    options: Options,
    only: Sequence[int] | None,
) -> list[RecommendedItem]:
    """The best of the items that are wanted, for a user who was scored. Reads the disk. The others are those of `ranked`.

    Raises:
        Problem: the catalogue has the codes of another bundle.
    """
    mask = catalogue.mask(wanted)
    if not mask.any():
        return []
    check_embedder(catalogue, recommender.bundle)
    asked = asked_of(full, recommender.bundle)
    return described(catalogue, ranked(recommender, catalogue, asked, mask=mask, options=options, only=only))


def described(catalogue: Catalogue, found: Sequence[tuple[int, float, str | None]]) -> list[RecommendedItem]:
    """Ranked items as an answer has them."""
    items = catalogue.at([place for place, _, _ in found])
    return [as_answer(item, score, because) for item, (_, score, because) in zip(items, found, strict=True)]


def as_answer(item: Item, score: float, because: str | None) -> RecommendedItem:
    """An item as an answer has it."""
    return RecommendedItem(
        item_id=item.item_id,
        score=round(score, 6),
        because=because,
        image_url=item.image_url,
        title=item.title,
        categories=item.categories,
        price=item.price,
        in_stock=item.in_stock,
        url=item.url,
    )


def check_embedder(catalogue: Catalogue, bundle: Bundle) -> None:
    """Raises Problem while the catalogue has the codes of another bundle: it is about to be replaced."""
    if catalogue.embedder_version != bundle.embedder_version:
        raise another_bundle()


def another_bundle() -> Problem:
    """The problem of a request during which a bundle was loaded."""
    return Problem("not_ready", "a bundle is being loaded", retry_after=1)


def similar(catalogue: Catalogue, code: bytes, size: int, wanted: Wanted, count: int) -> list[RecommendedItem]:
    """The items that look most like a picture. Reads the disk."""
    places, cosines = catalogue.nearest(dequantize([code], size), count, catalogue.mask(wanted))
    pairs = zip(places[0].tolist(), cosines[0].tolist(), strict=True)
    return described(catalogue, [(place, cosine, None) for place, cosine in pairs if np.isfinite(cosine)])
