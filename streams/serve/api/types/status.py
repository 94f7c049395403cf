"""The state of the worker, and what a problem is. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from streams.kafka.fleet import MemberBundles
from streams.messages import Model
from streams.serve.api.tokens import Scope
from streams.serve.api.types.values import Count
from streams.serve.interface import State


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


class ProblemPage(Struct, frozen=True, kw_only=True):
    """What a kind of problem is."""

    reason: str
    status: int
    title: str
    remedy: str
