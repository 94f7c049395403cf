"""Bags that changed, as a stream says it. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from streams.serve.api.types.values import Count


class StreamedChange(Struct, frozen=True):
    """A bag that changed."""

    user_id: str
    partition: int
    offset: int


class StreamedChanges(Struct, frozen=True, kw_only=True):
    """The data of an event of the stream: the changes of a quarter of a second."""

    count: Annotated[Count, Meta(description="bags that changed")]
    changes: Annotated[list[StreamedChange], Meta(description="of them, the newest")]
