"""What some pictures say of whoever showed them: a bag of them, scored as the bag of a user is. Pure.

For the API, and for `tastestream taste`.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from streams.messages import CategoryScore, EmbeddedInteraction, FieldScores, Model
from streams.profile.bag import Bag, fold
from streams.profile.scoring import DIGITS, Recommender
from streams.serve.interface import Tasted
from streams.trend.trend import Trend

Kind = Literal["view", "cart", "purchase"]  # interactions with a picture


class Shown(NamedTuple):
    """A picture that somebody showed, and what they did with what is in it."""

    tasted: Tasted
    type: Kind
    timestamp: int  # milliseconds since the epoch; of pictures with the same time, the later one in order is the newer


class ShownPicture(Struct, frozen=True, kw_only=True):
    """What became of one picture."""

    name: Annotated[str, Meta(description="file name or URL")]
    type: Kind
    weight: (
        Annotated[float, Meta(ge=0, le=1, description="its attention; null if it is not in the bag that was scored")]
        | None
    )
    reason: Annotated[str, Meta(description="why it has no embedding, as in dead letters; empty if it has one")] = ""
    detail: Annotated[str, Meta(description="the same, for people")] = ""


class Taste(Struct, frozen=True, kw_only=True):
    """What some pictures say."""

    model: Model
    bag_size: Annotated[int, Meta(ge=0, description="number of pictures that were scored")]
    cold_start: Annotated[bool, Meta(description="whether none was: the categories are the prior, or follow the trend")]
    categories: Annotated[list[CategoryScore], Meta(description="the categories with the highest scores, best first")]
    fields: Annotated[list[FieldScores], Meta(description="the best values of each field of the model")]
    pictures: Annotated[list[ShownPicture], Meta(description="all pictures, in the order in which they came")]
    trend_version: int | None = None


def bag_of(pictures: Sequence[Shown], embedder_version: str) -> Bag:
    """The bag of a user who has shown these pictures, each one an item. The item id is the place of the picture in the sequence."""
    bag = Bag()
    for place, (tasted, kind, timestamp) in enumerate(pictures):
        if tasted.code:
            event = EmbeddedInteraction(
                event_id=f"{place:09}",
                user_id="",
                item_id=str(place),
                type=kind,
                timestamp=timestamp,
                embedder_version=embedder_version,
                embedding=tasted.code,
            )
            bag = fold(bag, event, max_slots=len(pictures), kept={embedder_version})
    return bag


def taste_of(recommender: Recommender, trend: Trend, pictures: Sequence[Shown], moment: int) -> Taste:
    """Score a bag of pictures. What is scored is what a user gets who did the same with items of these pictures.

    Args:
        recommender: scores bags. The codes of the pictures are of its embedder.
        trend: as in `Recommender.answers`.
        pictures: in any order; also those without a code, which are told and not scored.
        moment: milliseconds since the epoch, as in `Recommender.answers`.
    """
    bundle = recommender.bundle
    bag = bag_of(pictures, bundle.embedder_version)
    [answer] = recommender.answers([(bag, moment)], trend)
    subsets = recommender.subsets(bag, moment, trend)
    attention = subsets.score(np.arange(len(subsets.items))[None]).attention[0].astype(np.float64).round(DIGITS)
    weights = {int(item.item_id): weight for item, weight in zip(subsets.items, attention.tolist(), strict=True)}
    return Taste(
        model=Model(bundle.name, bundle.version),
        bag_size=len(answer.items),
        cold_start=not answer.items,
        categories=answer.categories,
        fields=answer.fields,
        pictures=[
            ShownPicture(
                name=tasted.name,
                type=kind,
                weight=weights.get(place),
                reason=tasted.reason,
                detail=tasted.detail,
            )
            for place, (tasted, kind, _) in enumerate(pictures)
        ],
        trend_version=answer.trend_version,
    )
