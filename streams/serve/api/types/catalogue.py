"""The items of the catalogue: as they are listed, as they arrive, and those with the same picture. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from streams.serve.api.types.items import RecommendedItem
from streams.serve.api.types.values import Time


class Neighbour(Struct, frozen=True, kw_only=True):
    """The item that looks most like another one."""

    item_id: str
    image_url: str
    score: Annotated[float, Meta(description="the cosine; 1 is the same picture")]
    holders: Annotated[int, Meta(ge=0, description="number of bags that hold it")]


class CatalogueItem(Struct, frozen=True, kw_only=True):
    """An item of the catalogue."""

    item_id: str
    image_url: str
    title: str
    categories: list[str]
    price: float | None
    in_stock: bool | None
    url: str
    listed: Annotated[bool, Meta(description="whether the topic `items` has it; otherwise events named it")]
    arrived: Annotated[Time, Meta(description="when the topic had it first")] | None
    pictured: Annotated[bool, Meta(description="whether its picture is known, so that it can be recommended")]
    holders: Annotated[int, Meta(ge=0, description="number of bags that hold it")]
    nearest: Neighbour | None


class CatalogueItems(Struct, frozen=True, kw_only=True):
    """Items of the catalogue."""

    items: list[CatalogueItem]


class Arrival(CatalogueItem, frozen=True, kw_only=True):
    """A new item of the catalogue."""

    tastes: (
        Annotated[
            int,
            Meta(
                ge=0,
                description="bags of the sample for which the item is among the items that are recommended; null if it arrived after "
                "the sample was taken",
            ),
        ]
        | None
    )


class TasteSample(Struct, frozen=True, kw_only=True):
    """The bags that new items were counted for. Each count looks at other bags."""

    bags: Annotated[
        int,
        Meta(ge=0, description="bags that were looked at so far; those without an item that is scored do not count"),
    ]
    recommended: Annotated[int, Meta(ge=0, description="items that are recommended for each bag")]
    complete: Annotated[bool, Meta(description="whether all bags of the sample were looked at")]
    at: (
        Annotated[Time, Meta(description="the moment that the recommendations are of; null before the first count")]
        | None
    )


class Arrivals(Struct, frozen=True, kw_only=True):
    """New items, and to how many bags they would be recommended."""

    items: Annotated[list[Arrival], Meta(description="the newest first")]
    sample: TasteSample


class DuplicateGroup(Struct, frozen=True, kw_only=True):
    """Items whose pictures are the same, or nearly."""

    count: Annotated[int, Meta(ge=2, description="all items of the group")]
    items: Annotated[
        list[RecommendedItem],
        Meta(
            description="some of them; the score is the cosine with the most similar other one, 1 for the same picture"
        ),
    ]


class Duplicates(Struct, frozen=True, kw_only=True):
    """Groups of items whose pictures are the same, or nearly. Each item is in the group of the one that is most like it."""

    groups: Annotated[list[DuplicateGroup], Meta(description="those with most items first")]
    found: Annotated[int, Meta(ge=0, description="all groups that were found so far")]
    items: Annotated[int, Meta(ge=0, description="items in all these groups")]
    least: Annotated[float, Meta(description="cosine from which two pictures are nearly the same")]
    left: (
        Annotated[
            int, Meta(ge=0, description="items that are still to be compared with all others; null until that is known")
        ]
        | None
    )
