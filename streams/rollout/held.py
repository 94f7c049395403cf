"""What matters of a row of the bags for a rollout. Pure.

A row counts if it has a picture. The code that counts is that of its newest picture: the next bundle's code of an older picture
is *stale*, because the served bundle scores the newer one.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from streams.messages import EmbeddedInteraction
from streams.profile.bag import Moment, Slot
from streams.profile.prepared import CodeState, code_state

State = CodeState


class Held(Struct, frozen=True, array_like=True):
    """The newest picture of an item, with the state of its code of the next embedder."""

    state: State
    partition: int  # of the changelog
    moment: Moment
    image_url: str = ""
    embedder_version: str = ""  # of `embedding`, which the code can be adapted from
    embedding: bytes = b""

    @property
    def lacks(self) -> bool:
        """Whether the next bundle cannot score the newest picture."""
        return self.state in {"stale", "missing"}


encode_held = msgspec.msgpack.Encoder().encode
decode_held = msgspec.msgpack.Decoder(Held).decode


def held(slot: Slot, partition: int, *, served: str, following: str) -> Held | None:
    """What matters of a slot; None if it has no picture.

    Args:
        slot: of a bag.
        partition: where its row is.
        served: version of the embedder of `BUNDLE`. A code is adapted from its own, if it has one of the newest picture.
        following: version of the embedder of `NEXT_BUNDLE`.
    """
    newest, state = slot.newest_picture, code_state(slot, following)
    if newest is None or state is None:
        return None
    if state == "native":
        return Held(state, partition, newest.moment)
    if state == "adapted":
        return Held(state, partition, newest.moment, newest.image_url)
    of_served = slot.picture(served)
    source = of_served if of_served is not None and of_served.moment == newest.moment else newest
    return Held(
        state,
        partition,
        newest.moment,
        newest.image_url,
        source.embedder_version,
        source.embedding,
    )


def prepared(user_id: str, row: Held, *, version: str, code: bytes, adapted: bool) -> EmbeddedInteraction:
    """The interaction that brings a code to a row.

    Its moment is that of the picture, so the fold changes nothing but the code, and ignores it where a floor covers the moment.

    Args:
        user_id: whose row.
        row: what it holds.
        version: of the embedder that the code belongs to.
        code: as `model.quantization` encodes it.
        adapted: whether it was made from the code of another embedder.
    """
    moment = row.moment
    return EmbeddedInteraction(
        event_id=moment.event_id,
        user_id=user_id,
        item_id=moment.item_id,
        type=moment.type,  # pyright: ignore[reportArgumentType] -- a row is checked before
        timestamp=moment.timestamp,
        image_url=row.image_url,
        embedder_version=version,
        embedding=code,
        adapted=adapted,
        prepared=True,
    )


@dataclass
class Share:
    """Rows with a picture, by state."""

    states: Counter[State] = field(default_factory=Counter[State])

    @property
    def rows(self) -> int:
        """All of them."""
        return self.states.total()

    @property
    def ready(self) -> int:
        """Those that the next bundle can score."""
        return self.states["native"] + self.states["adapted"]

    @property
    def share(self) -> float:
        """The share of these, 0 to 1; 1 if there are no rows."""
        return self.ready / self.rows if self.rows else 1.0


def total(shares: Iterable[Share]) -> Share:
    """The sum over partitions."""
    states: Counter[State] = Counter()
    for share in shares:
        states.update(share.states)
    return Share(states)


def percent(share: float) -> str:
    """A share in percent, rounded down: 100 % only where nothing lacks."""
    return f"{int(share * 1000 + 1e-9) / 10:.1f} %"
