"""What is recommended to a user, why, and the bag that it comes from. Pure."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from streams.messages import CategoryScore, FieldScores, ItemAttention, Model
from streams.serve.api.types.items import RecommendedItem
from streams.serve.api.types.values import Time, Weight
from streams.serve.explanation import CategoryWithout, Explanation
from streams.serve.interface import State


class RecommendationAnswer(Struct, frozen=True, kw_only=True):
    """What `user-recommendations` has for a user, with items and the state of the replica."""

    user_id: str
    event_id: Annotated[str, Meta(description='the newest event of the bag; "" if there is none')]
    timestamp: Annotated[Time, Meta(description="of that event")] | None
    produced_at: Time
    model: Model
    bag_size: Annotated[int, Meta(ge=0, description="number of items that were scored")]
    cold_start: Annotated[bool, Meta(description="whether the bag is empty: the answer is the same for all such users")]
    categories: list[CategoryScore]
    attention: list[ItemAttention]
    fields: list[FieldScores]
    trend_version: int | None
    items: Annotated[list[RecommendedItem], Meta(description="best first")]
    state: State
    up_to_date: Annotated[bool, Meta(description="whether the bag holds `event_id`; null if none was asked for")] | None


class RecommendationList(Struct, frozen=True):
    """Recommendations for many users, in the order of the request."""

    users: list[RecommendationAnswer]


NotScored = Literal["returned", "no_embedding", "weight_zero", "beyond_bag_size"]


class BagEntry(Struct, frozen=True, kw_only=True):
    """An item of a bag."""

    item_id: str
    types: Annotated[dict[str, Time], Meta(description="when each type was last seen")]
    image_url: str
    scored: bool
    weight: Annotated[Weight, Meta(description="its attention")] | None
    not_scored: (
        Annotated[
            NotScored,
            Meta(
                description="returned: the newest event is a return; no_embedding: the bundle in use has no embedding of its "
                "picture yet; weight_zero: TYPE_WEIGHTS; beyond_bag_size: BAG_SIZE items are newer"
            ),
        ]
        | None
    )


class UserAnswer(Struct, frozen=True, kw_only=True):
    """The bag of a user, and what it says now."""

    user_id: str
    items: Annotated[list[BagEntry], Meta(description="newest first")]
    categories: list[CategoryScore]
    attention: list[ItemAttention]
    model: Model
    state: State


class ExplanationAnswer(Explanation, frozen=True, kw_only=True):
    """Why a category or an item is recommended."""

    user_id: str
    category: str | None
    item: str | None
    model: Model
    state: State


class WithoutAnswer(Struct, frozen=True, kw_only=True):
    """What would be recommended if an item were not in the bag."""

    user_id: str
    item: str
    scored: Annotated[bool, Meta(description="whether the item is scored; if not, nothing changes without it")]
    categories: Annotated[list[CategoryWithout], Meta(description="the best with and without the item")]
    model: Model
    state: State


class RankedItems(Struct, frozen=True, kw_only=True):
    """The caller's items, best first."""

    user_id: str
    items: list[RecommendedItem]
    unknown: Annotated[list[str], Meta(description="items without a picture that is known")]
    state: State
