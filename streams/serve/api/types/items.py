"""An item as answers have it: recommended, or similar to another one. Pure."""

from typing import Annotated

from msgspec import Meta, Struct


class RecommendedItem(Struct, frozen=True, kw_only=True):
    """An item that is recommended, or similar."""

    item_id: str
    score: Annotated[float, Meta(description="higher is better; comparable within one answer")]
    because: Annotated[str, Meta(description="the item of the bag that it is there for")] | None
    image_url: str
    title: str
    categories: list[str]
    price: float | None
    in_stock: bool | None
    url: Annotated[str, Meta(description="of its page in the shop")]


class SimilarItems(Struct, frozen=True, kw_only=True):
    """Items that look alike; the score is the cosine."""

    items: list[RecommendedItem]
