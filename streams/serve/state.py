"""How far the replica of the bags is."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class State(Struct, frozen=True):
    """How far the replica of one partition of the bags is."""

    partition: int
    offset: Annotated[int, Meta(description="the last record of the changelog that the replica holds; -1 before any")]
    lag: Annotated[int, Meta(ge=0, description="records behind it; null while it is unknown")] | None
    age: (
        Annotated[float, Meta(ge=0, description="seconds since the replica last held everything; null if never")] | None
    )
    source: Annotated[
        Literal["live", "behind", "stale"],
        Meta(description="live: it holds everything; behind: it is reading; stale: the broker does not answer"),
    ]
