"""What became of events that were sent. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from streams.serve.api.problems import RefusedEvent
from streams.serve.api.types.values import Count


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
