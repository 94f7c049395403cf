"""What the API asks of the other parts of the serve worker: the bags, the catalogue, the taster, the sender."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from streams.profile.bag import Bag
from streams.profile.scoring import Recommender
from streams.trend.trend import Trend

# -- the bags


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


class Held(NamedTuple):
    """A bag as the replica has it."""

    bag: Bag  # without slots for a user who is unknown or was erased
    state: State


class Change(NamedTuple):
    """A bag that has just changed."""

    user_id: str
    partition: int
    offset: int  # of the last row


class NotServed(Exception):
    """The partition of a user is not among SERVE_PARTITIONS."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"the bags of partition {partition} are not served here (SERVE_PARTITIONS)")
        self.partition = partition


class Bags(Protocol):
    """The replica of the bags."""

    @property
    def ready(self) -> bool:
        """Whether each partition was read to its end once."""
        ...

    def read(self, user_id: str) -> Held:
        """The bag of a user. Raises NotServed, and StateError if the disk fails."""
        ...

    async def holds(self, user_id: str, event_id: str, timeout: float) -> bool:
        """Wait until the bag holds an event, at most `timeout` seconds. Returns whether it does. Raises as `read` does."""
        ...

    def states(self) -> list[State]:
        """The state of each served partition."""
        ...

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Change]]]:
        """Changes from now on, in groups. A slow reader misses some: the newest of each user stay."""
        ...


# -- the catalogue


class Item(Struct, frozen=True, kw_only=True):
    """An item as the catalogue knows it."""

    item_id: str
    image_url: str = ""
    title: str = ""
    categories: list[str] = []
    price: float | None = None
    currency: str = ""  # ISO 4217; "" if the shop does not say
    in_stock: bool | None = None
    url: str = ""  # of its page in the shop
    listed: bool = False  # whether the `items` topic has it; otherwise events named it


@dataclass(frozen=True)
class Wanted:
    """Which items may be recommended."""

    category: str | None = None
    in_stock: bool = False  # only those that are in stock
    price_max: float | None = None
    without: Collection[str] = ()  # item ids


class Catalogue(Protocol):
    """The items. Each one has a place: its row in the arrays. A place that was freed is used again."""

    def __len__(self) -> int:
        """The number of items."""
        ...

    def place(self, item_id: str) -> int | None:
        """The place of an item; None if it is unknown or has no code yet."""
        ...

    def get(self, item_id: str) -> Item | None:
        """An item; None if it is unknown. Raises StateError if the disk fails."""
        ...

    def at(self, places: Sequence[int]) -> list[Item]:
        """The items at some places. Raises StateError if the disk fails."""
        ...

    def codes(self, places: Sequence[int]) -> list[bytes]:
        """Their codes, as `model.quantization` encodes them."""
        ...

    def mask(self, wanted: Wanted) -> NDArray[np.bool_]:
        """Which places may be recommended: bool [N]. Items without a code are not."""
        ...

    def nearest(
        self, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The most similar items of each query [Q,d], exactly: places [Q,k] and cosines [Q,k], best first."""
        ...

    @property
    def popularity(self) -> NDArray[np.float32]:
        """How many bags hold each item: [N], by place."""
        ...


# -- pictures, and events


class Tasted(NamedTuple):
    """What became of one picture that somebody asked about."""

    name: str  # file name or URL
    code: bytes  # b"" if there is none
    reason: str = ""  # of dead letters, such as `unreadable_picture`
    detail: str = ""  # one line for people


class Uploaded(NamedTuple):
    """A picture that came with a request."""

    name: str
    content: bytes


class Taster(Protocol):
    """Makes codes of strangers' pictures: URLs through the guarded fetcher, bytes through the decoder processes."""

    async def taste(self, pictures: Sequence[str | Uploaded]) -> list[Tasted]:
        """The code of each picture, in order. Stores nothing."""
        ...


class Sent(NamedTuple):
    """Where an event was written."""

    topic: str
    partition: int
    offset: int


class Sender(Protocol):
    """Writes to the input topic."""

    async def send(self, values: Sequence[tuple[str, bytes]]) -> list[Sent]:
        """Write user ids with JSON values, and wait for the broker. Raises DeliveryError."""
        ...


@dataclass(frozen=True)
class Scorer:
    """What scores bags now. It is replaced as one when a bundle is loaded."""

    recommender: Recommender
    trend: Trend


class Serving(Protocol):
    """Everything that the API answers from."""

    @property
    def bags(self) -> Bags:
        """The replica of the bags."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """The items."""
        ...

    @property
    def taster(self) -> Taster:
        """Makes codes of pictures."""
        ...

    @property
    def sender(self) -> Sender:
        """Writes events."""
        ...

    def scorer(self) -> Scorer:
        """What scores bags now."""
        ...
