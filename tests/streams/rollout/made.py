"""Rows of bags for the tests of a rollout, made by the fold."""

from collections.abc import Iterable

import numpy as np

from model.quantization import quantize
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, Slot, fold

SERVED, NEXT = "a" * 12, "b" * 12
BOTH = {SERVED, NEXT}


def code(number: int = 0) -> bytes:
    """An embedding, another one for each number."""
    return quantize(np.random.default_rng(number).random(4, np.float32))


def seen(
    item: str = "shoe",
    at: int = 1000,
    *,
    user: str = "ann",
    served: bytes = b"",
    following: bytes = b"",
    url: str = "",
    kind: str = "purchase",
) -> EmbeddedInteraction:
    """An embedded interaction with the codes that are given."""
    return EmbeddedInteraction(
        event_id=f"{kind} of {item} at {at}",
        user_id=user,
        item_id=item,
        type=kind,  # pyright: ignore[reportArgumentType]
        timestamp=at,
        image_url=url or f"http://shop.example/{item}.jpg",
        embedder_version=SERVED if served else "",
        embedding=served,
        next_embedder_version=NEXT if following else "",
        next_embedding=following,
    )


def bag_of(events: Iterable[EmbeddedInteraction], bag: Bag | None = None) -> Bag:
    """The bag after some events."""
    bag = bag or Bag()
    for event in events:
        bag = fold(bag, event, max_slots=128, kept=BOTH)
    return bag


def slot_of(*events: EmbeddedInteraction) -> Slot:
    """The only slot after some events of one item."""
    [slot] = bag_of(events).slots.values()
    return slot
