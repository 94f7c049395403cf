"""What a bag adds to the trend: each item counts on the day on which it was last touched. Pure.

A count is a whole number: hundredths of an item's type weight times hundredths of its share in a category (`ItemLabels`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from streams.profile.bag import Embedder, Slot
from streams.trend.trend import DAY


class Counted(NamedTuple):
    """An item as the trend counts it."""

    day: int  # since the epoch, UTC
    weight: int  # hundredths of the type weight
    embedding: bytes


def counted(slot: Slot, *, embedder: Embedder, hundredths: Mapping[Any, int]) -> Counted | None:
    """Return what a slot adds to the trend.

    Args:
        slot: one item of a bag.
        embedder: the one that is served. A slot without an embedding of it is not counted, as it is not scored.
        hundredths: the weight of each interaction type in hundredths (`in_hundredths`).

    Returns:
        None for an item that is not in the bag, that has no embedding, or whose types weigh nothing.
    """
    picture, since = slot.picture(embedder.version), slot.since_return
    if picture is None or len(picture.embedding) != embedder.row_bytes or not since:
        return None
    weight = max(hundredths[kind] for kind in since)
    return Counted(max(since.values()).timestamp // DAY, weight, picture.embedding) if weight else None


def in_hundredths(type_weights: Mapping[Any, float]) -> dict[Any, int]:
    """Return the type weights, 0 to 1, as hundredths."""
    return {kind: int(np.rint(100 * weight)) for kind, weight in type_weights.items()}
