"""What the API asks of the other parts of the serve worker: the bags, the catalogue, the taster, the sender."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streams.bundles import Bundles
from streams.dead_letter import Letter
from streams.dead_letters.letter_filter import LetterFilter
from streams.profile.bag import Bag
from streams.profile.prepared import CodeState
from streams.profile.scoring import Recommender
from streams.serve.overview.types import Now, Overview, WorkerBundles
from streams.serve.state import State
from streams.trend.trend import Trend

# -- the bags


class Held(NamedTuple):
    """A bag as the replica has it."""

    bag: Bag  # without slots for a user who is unknown or was erased
    state: State


class Change(NamedTuple):
    """A bag that has just changed."""

    user_id: str
    partition: int
    offset: int  # of the last row


class Prepared(NamedTuple):
    """How far a rollout is."""

    states: Mapping[CodeState, int]  # items of the served partitions that have a picture, by the state of their code
    counted: bool  # whether these are all of them
    needed: float  # the share of items with a code that a promotion needs, 0 to 1


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

    def sample(self, slots: int) -> dict[str, Bag]:
        """Some bags with about so many slots, of all served partitions, by user. The next call goes on behind them.

        Raises:
            StateError: the disk fails.
        """
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
    arrived: int = 0  # when the topic had it first, milliseconds since the epoch; 0 if it does not


Listing = Literal["new", "held", "without_picture"]
"""new: of the topic, the newest first; held: those that most bags hold; without_picture: of the topic, but their pictures are not
known (yet), and so they are not recommended, the newest first. The first two have only items whose pictures are known."""


@dataclass(frozen=True)
class Wanted:
    """Which items may be recommended."""

    category: str | None = None
    in_stock: bool = False  # only those that are in stock
    price_max: float | None = None
    without: Collection[str] = ()  # item ids


class Catalogue(Protocol):
    """The items. Each one has a place: its row in the arrays. A place that was freed is used again."""

    @property
    def ready(self) -> bool:
        """Whether the items of an earlier run are in memory. Before that, ask nothing else but the number of items."""
        ...

    @property
    def embedder_version(self) -> str:
        """Of the embedder that made the codes."""
        ...

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

    def listing(self, which: Listing, count: int) -> list[int]:
        """The places of some items, the first ones of all."""
        ...

    @property
    def popularity(self) -> NDArray[np.int32]:
        """How many bags touched each item lately: [N], by place."""
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


class Overviews(Protocol):
    """What the whole system does."""

    @property
    def now(self) -> Now:
        """What the system does now."""
        ...

    @property
    def workers(self) -> Sequence[WorkerBundles]:
        """The workers, with their bundles."""
        ...

    def overview(self, seconds: int, step: int) -> Overview:
        """The same, with the last seconds in steps of so many seconds."""
        ...

    def told(self, listener: Callable[[Now], object]) -> AbstractContextManager[None]:
        """Call a listener with each look at the brokers while this is open."""
        ...


class Liveness(Protocol):
    """Whether the worker gets on."""

    @property
    def seconds(self) -> float:
        """For which it has not come round to reading the bags; 0 during an outage of the broker."""
        ...

    @property
    def live(self) -> bool:
        """Whether that is less than half of the time after which the worker ends."""
        ...


class FoundLetter(NamedTuple):
    """A dead letter that was found."""

    letter: Letter
    attempts: int  # how often its event had been sent again before it failed
    sent: bool  # whether its event was sent again since


class FoundLetters(NamedTuple):
    """The newest dead letters that match."""

    letters: list[FoundLetter]
    matching: int  # all of them
    read: int  # letters that were looked at


class Redriven(NamedTuple):
    """What became of dead letters whose events were to be sent again."""

    selected: int
    sent: int
    doubtful: int  # of these, that may have been sent before
    skipped: dict[str, int]  # by reason


class Busy(Exception):
    """Another request reads dead letters."""


class SearchTooLong(Exception):
    """The dead letters could not be read in time."""


class Letters(Protocol):
    """The dead letters. All methods raise Busy, SearchTooLong, BrokerUnreachable and TopicsError."""

    async def find(self, letter_filter: LetterFilter) -> FoundLetters:
        """The newest letters that match, newest first."""
        ...

    async def get(self, partition: int, offset: int) -> Letter | None:
        """The letter at a place; None if there is none."""
        ...

    async def redrive(self, letter_filter: LetterFilter, *, max_attempts: int, dry_run: bool) -> Redriven:
        """Send the events of the newest letters that match again; with `dry_run` send nothing. Raises DeliveryError too."""
        ...


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

    @property
    def letters(self) -> Letters:
        """The dead letters."""
        ...

    @property
    def overview(self) -> Overviews:
        """What the whole system does."""
        ...

    @property
    def bundles(self) -> Bundles:
        """The bundles in use."""
        ...

    @property
    def prepared(self) -> Prepared | None:
        """How far the rollout is; None without a next bundle."""
        ...

    @property
    def watchdog(self) -> Liveness:
        """Whether the worker gets on."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the bags and the trend were read to their ends once."""
        ...

    def scorer(self) -> Scorer:
        """What scores bags now."""
        ...
