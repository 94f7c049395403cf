"""What answers hold. The OpenAPI document is generated from these types. Pure."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from streams.messages import (
    CategoryScore,
    FieldScores,
    ItemAttention,
    Model,
)
from streams.serve.api.problems import RefusedEvent
from streams.serve.explanation import Explanation
from streams.serve.interface import State

Weight = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Time = Annotated[datetime, Meta(tz=True)]
PicturedType = Literal["view", "cart", "purchase"]


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


class RankedItems(Struct, frozen=True, kw_only=True):
    """The caller's items, best first."""

    user_id: str
    items: list[RecommendedItem]
    unknown: Annotated[list[str], Meta(description="items without a picture that is known")]
    state: State


class SimilarItems(Struct, frozen=True, kw_only=True):
    """Items that look alike; the score is the cosine."""

    items: list[RecommendedItem]


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


class WrittenEvent(Struct, frozen=True, kw_only=True):
    """Where an event was written."""

    index: Annotated[int, Meta(ge=0, description="place in the request, from 0")]
    event_id: str
    topic: str
    partition: Count
    offset: Count


class InteractionsAnswer(Struct, frozen=True, kw_only=True):
    """What became of the events of a request."""

    accepted: list[WrittenEvent]
    refused: list[RefusedEvent]


class ErasureStarted(Struct, frozen=True, kw_only=True):
    """An erasure that was asked for."""

    event_id: str
    until: Annotated[int, Meta(description="events up to this time are erased, milliseconds since 1970")]
    topic: str
    partition: Count
    offset: Count
    status: Annotated[str, Meta(description="address that says whether it is done")]


class ErasureAnswer(Struct, frozen=True, kw_only=True):
    """Whether an erasure is done."""

    done: Annotated[bool, Meta(description="whether the replica holds nothing of the user up to that time any more")]
    state: State


class ExportedPicture(Struct, frozen=True, kw_only=True):
    """A picture of an item, as one embedder sees it."""

    image_url: str
    embedder: str
    embedding: Annotated[bytes, Meta(description="quantized, base64")]
    adapted: bool
    event_id: str


class ExportedEvent(Struct, frozen=True, kw_only=True):
    """The newest event of a type."""

    type: str
    event_id: str
    timestamp: Time


class ExportedItem(Struct, frozen=True, kw_only=True):
    """Everything that is held of an item of a user."""

    item_id: str
    events: list[ExportedEvent]
    pictures: list[ExportedPicture]


class ExportAnswer(Struct, frozen=True, kw_only=True):
    """Everything that the system holds on a user beside its topics, and what follows from it."""

    user_id: str
    exported_at: Time
    forgotten_until: Annotated[Time, Meta(description="events up to this time are not kept")] | None
    items: list[ExportedItem]
    categories: list[CategoryScore]
    model: Model
    state: State


class StatusAnswer(Struct, frozen=True, kw_only=True):
    """What the worker answers from."""

    version: str
    ready: bool
    model: Model
    embedder: str
    categories: list[str]
    trend_version: int | None
    items: Count
    streams: Count
    partitions: list[State]


class LiveAnswer(Struct, frozen=True):
    """Whether the worker is alive."""

    live: bool


class ReadyAnswer(Struct, frozen=True):
    """Whether the worker has read each partition to its end once."""

    ready: bool
    reason: str
    partitions: list[State]


class StreamedChange(Struct, frozen=True):
    """A bag that changed."""

    user_id: str
    partition: int
    offset: int


class StreamedChanges(Struct, frozen=True, kw_only=True):
    """The data of an event of the stream: the changes of a quarter of a second."""

    count: Annotated[Count, Meta(description="bags that changed")]
    changes: Annotated[list[StreamedChange], Meta(description="of them, the newest")]


class ProblemPage(Struct, frozen=True, kw_only=True):
    """What a kind of problem is."""

    reason: str
    status: int
    title: str
    remedy: str
