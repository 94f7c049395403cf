"""What answers hold. The OpenAPI document is generated from these types. Pure."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from streams.kafka.fleet import MemberBundles
from streams.messages import (
    CategoryScore,
    FieldScores,
    ItemAttention,
    Model,
)
from streams.serve.api.problems import RefusedEvent
from streams.serve.api.tokens import Scope
from streams.serve.explanation import CategoryWithout, Explanation
from streams.serve.interface import State
from streams.serve.overview.types import WorkerBundles

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


class SimilarItems(Struct, frozen=True, kw_only=True):
    """Items that look alike; the score is the cosine."""

    items: list[RecommendedItem]


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
    bundles: MemberBundles
    embedder: str
    categories: list[str]
    trend_version: int | None
    items: Count
    catalogue_ready: Annotated[bool, Meta(description="whether the items of an earlier run are in memory")]
    streams: Count
    scopes: Annotated[list[Scope], Meta(description="what the caller may do")]
    partitions: list[State]


class LiveAnswer(Struct, frozen=True):
    """Whether the worker is alive."""

    live: Annotated[bool, Meta(description="false once the worker has stalled for half of STALL_TIMEOUT")]
    seconds_without_progress: Annotated[
        float,
        Meta(ge=0, description="since the worker came round to reading the bags; 0 during an outage of the broker"),
    ]


class ReadyAnswer(Struct, frozen=True):
    """Whether the worker has read each partition to its end once."""

    ready: bool
    reason: str
    bundles: MemberBundles
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


class LearntFrom(Struct, frozen=True, kw_only=True):
    """What a bundle has learnt from."""

    source: str
    users: Count
    items: Count
    events: Count
    from_time: str
    to_time: str


class SourceAnswer(Struct, frozen=True):
    """A data set or weights that a bundle was made from."""

    name: str
    use: str
    licence: str
    attribution: str


class BundleAnswer(Struct, frozen=True, kw_only=True):
    """What the manifest of a bundle says."""

    name: str
    version: str
    embedder_version: str
    backbone_version: Annotated[str, Meta(description='"" in an early bundle')]
    labels_version: Annotated[str, Meta(description='of the labels of items; "" without the trend')]
    image_size: Annotated[int, Meta(description="side of a picture, pixels")]
    embedding_size: int
    max_bag: Annotated[int, Meta(description="largest bag in training, items")]
    categories: list[str]
    prior: Annotated[list[float], Meta(description="share of training users who wanted each category")]
    fields: Annotated[list[str], Meta(description="groups of categories that exclude each other")]
    task: Annotated[str, Meta(description="what it was trained to do")]
    command: Annotated[str, Meta(description="that trained it")]
    trained: Annotated[str, Meta(description='when, RFC 3339; "" in an early bundle')]
    adapts: Annotated[str, Meta(description='embedder whose codes it can adapt; "" if none')]
    data: LearntFrom | None
    sources: list[SourceAnswer]
    figures: Annotated[
        dict[str, dict[str, float]], Meta(description="held-out figures: what was measured, and each figure")
    ]
    calibration: Annotated[
        dict[str, float], Meta(description="expected calibration error by what was measured, where the manifest has it")
    ]


class BagSample(Struct, frozen=True, kw_only=True):
    """What the bundle can make of some bags, about a thousand items. Each request looks at the bags after those of the one before."""

    bags: Count
    items: Count
    scored: Annotated[int, Meta(ge=0, description="items that are scored")]
    not_scored: Annotated[dict[str, int], Meta(description="items that are not, by reason, as in a bag")]
    cold: Annotated[int, Meta(ge=0, description="bags without an item that is scored")]


class RolloutAnswer(Struct, frozen=True, kw_only=True):
    """How far a rollout is: all items of the bags that have a picture, by the state of their code of the next bundle."""

    items: Count
    native: Annotated[int, Meta(ge=0, description="with a code made from the newest picture")]
    adapted: Annotated[int, Meta(ge=0, description="with one made from the code of another bundle")]
    stale: Annotated[int, Meta(ge=0, description="with one of an older picture only")]
    missing: Annotated[int, Meta(ge=0, description="with none")]
    share: Annotated[float, Meta(ge=0, le=1, description="of items that are native or adapted")]
    needed: Annotated[float, Meta(ge=0, le=1, description="the share that a promotion needs (`ROLLOUT_SHARE`)")]
    counted: Annotated[bool, Meta(description="whether all bags are counted; until then the numbers grow")]
    partitions: Annotated[int, Meta(ge=0, description="of the bags that are counted, those that this worker serves")]


class ModelAnswer(Struct, frozen=True, kw_only=True):
    """The bundles and how they do."""

    served: BundleAnswer
    next: Annotated[BundleAnswer, Meta(description="null without NEXT_BUNDLE")] | None
    sample: BagSample
    rollout: Annotated[RolloutAnswer, Meta(description="null without NEXT_BUNDLE")] | None
    workers: list[WorkerBundles]


class LetterSummary(Struct, frozen=True, kw_only=True):
    """A dead letter without its bytes."""

    partition: Count
    offset: Count
    at: Time
    reason: str
    field: Annotated[str, Meta(description='the field at fault; "" for the whole event')]
    error: str
    worker: str
    topic: Annotated[str, Meta(description='of the original; "" if the letter does not say')]
    user_id: Annotated[str, Meta(description="as in the event, or its key")]
    event_id: str
    host: Annotated[str, Meta(description='of the picture; "" if there is none')]
    attempts: Annotated[int, Meta(ge=0, description="how often the event had been sent again before it failed")]
    sent: Annotated[bool, Meta(description="whether the event was sent again since")]


class LettersAnswer(Struct, frozen=True, kw_only=True):
    """Dead letters that match."""

    letters: Annotated[list[LetterSummary], Meta(description="newest first")]
    matching: Annotated[int, Meta(ge=0, description="all that match, those beyond `limit` too")]
    read: Annotated[int, Meta(ge=0, description="dead letters that were looked at")]


class RedriveAnswer(Struct, frozen=True, kw_only=True):
    """What became of dead letters whose events were to be sent again."""

    dry_run: Annotated[bool, Meta(description="whether nothing was sent")]
    selected: Count
    sent: Annotated[int, Meta(ge=0, description="events that were sent, or would be")]
    doubtful: Annotated[
        int, Meta(ge=0, description="of these, that may have been sent before by a run that was killed")
    ]
    skipped: Annotated[
        dict[str, int],
        Meta(
            description="events that are not sent, by cause: truncated (only a part is left), unreadable, elsewhere (it is no "
            "event of users), sent (before; if it failed again, it has a newer letter), exhausted (`max_attempts`)"
        ),
    ]


class ProblemPage(Struct, frozen=True, kw_only=True):
    """What a kind of problem is."""

    reason: str
    status: int
    title: str
    remedy: str
