"""The taste that pictures show. Pure."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from streams.messages import CategoryScore, FieldScores, ItemAttention, Model
from streams.serve.api.types.items import RecommendedItem
from streams.serve.api.types.values import Count, Weight

PicturedType = Literal["view", "cart", "purchase"]


class PictureFate(Struct, frozen=True, kw_only=True):
    """What became of a picture."""

    item_id: Annotated[str, Meta(description="its name in `attention` and `because`")]
    name: Annotated[str, Meta(description="file name or URL")]
    type: PicturedType
    weight: Annotated[Weight, Meta(description="its attention")] | None
    reason: Annotated[str, Meta(description='why it was not used, as on dead letters; "" if it was')]
    detail: str


class TasteAnswer(Struct, frozen=True, kw_only=True):
    """The taste that pictures show. Nothing of it is stored."""

    model: Model
    bag_size: Count
    cold_start: bool
    categories: list[CategoryScore]
    attention: list[ItemAttention]
    fields: list[FieldScores]
    items: list[RecommendedItem]
    pictures: list[PictureFate]
