"""The erasure of a user, and the export of everything that is held of one. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from streams.messages import CategoryScore, Model
from streams.serve.api.types.values import Count, Time
from streams.serve.interface import State


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
