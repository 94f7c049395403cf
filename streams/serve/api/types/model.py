"""The bundles: what they were made from, and how they do. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from streams.serve.api.types.values import Count
from streams.serve.overview.types import WorkerBundles


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
