"""The parts of the serve worker in memory, for tests of the API: honest implementations of `streams.serve.interface`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.quantization import dequantize, quantize
from streams.bundles import Bundles
from streams.dead_letter import Letter, parse_letter
from streams.dead_letters.letter_filter import LetterFilter
from streams.exceptions import DeliveryError, StateError
from streams.messages import EmbeddedInteraction, Interaction, InteractionType, parse_interaction
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.serve.interface import (
    Change,
    FoundLetter,
    FoundLetters,
    Held,
    Item,
    Listing,
    NotServed,
    Prepared,
    Redriven,
    Scorer,
    Sent,
    State,
    Tasted,
    Uploaded,
    Wanted,
)
from streams.serve.overview.board import Board, Names
from streams.serve.watchdog import ServeWatchdog
from streams.trend.trend import Trend

NOW = 1_764_331_200_000  # milliseconds: 2025-11-28T12:00:00Z
DAY = 86_400_000
OPTIONS = ScoringOptions(
    bag_size=64, top_k=10, type_weights={"purchase": 1.0, "cart": 0.6, "view": 0.3}, half_life=None
)
PARTITIONS = 4
NAMES = Names("in", "embedded", "out", "dead", {"embed": "embed worker", "profile": "profile worker"})


def code(bundle: Bundle, number: int) -> bytes:
    """The code of a picture."""
    return quantize(np.random.default_rng(number).random(bundle.embedding_size, np.float32))


def event(
    bundle: Bundle,
    user: str,
    item: str,
    *,
    number: int = 0,
    kind: InteractionType = "purchase",
    timestamp: int = NOW,
    event_id: str = "",
) -> EmbeddedInteraction:
    pictured = kind in ("view", "cart", "purchase")
    return EmbeddedInteraction(
        event_id=event_id or f"e-{item}-{kind}",
        user_id=user,
        item_id=item if kind != "erase" else "",
        type=kind,
        timestamp=timestamp,
        image_url=f"https://shop.example/{item}.jpg" if pictured else "",
        embedder_version=bundle.embedder_version if pictured else "",
        embedding=code(bundle, number) if pictured else b"",
    )


class MadeBags:
    """Bags that events are folded into."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.bags: dict[str, Bag] = {}
        self.offsets = [-1] * PARTITIONS
        self.source: Any = "live"
        self.age: float | None = 0.0
        self.ready = True
        self.not_served: Collection[int] = ()
        self.broken = False
        self._changed = asyncio.Condition()
        self._queues: set[asyncio.Queue[Sequence[Change]]] = set()
        self.readers = 0  # that were opened

    def partition(self, user_id: str) -> int:
        return sum(user_id.encode()) % PARTITIONS

    def read(self, user_id: str) -> Held:
        partition = self.partition(user_id)
        if partition in self.not_served:
            raise NotServed(partition)
        if self.broken:
            raise StateError("RocksDB: IO error")
        return Held(self.bags.get(user_id, Bag()), self._state(partition))

    def _state(self, partition: int) -> State:
        return State(partition, self.offsets[partition], 0 if self.source == "live" else None, self.age, self.source)

    def states(self) -> list[State]:
        return [self._state(partition) for partition in range(PARTITIONS) if partition not in self.not_served]

    def sample(self, slots: int) -> dict[str, Bag]:
        if self.broken:
            raise StateError("RocksDB: IO error")
        return dict(self.bags)

    async def holds(self, user_id: str, event_id: str, timeout: float) -> bool:
        def held() -> bool:
            bag = self.read(user_id).bag
            return any(moment.event_id == event_id for slot in bag.slots.values() for moment in slot.newest.values())

        try:
            async with self._changed, asyncio.timeout(timeout):
                return await self._changed.wait_for(held)
        except TimeoutError:
            return held()

    @asynccontextmanager
    async def changes(self) -> AsyncGenerator[AsyncIterator[Sequence[Change]]]:
        queue: asyncio.Queue[Sequence[Change]] = asyncio.Queue()
        self._queues.add(queue)
        self.readers += 1

        async def groups() -> AsyncIterator[Sequence[Change]]:
            while True:
                yield await queue.get()

        try:
            yield groups()
        finally:
            self._queues.discard(queue)

    def put(self, event: EmbeddedInteraction) -> None:
        """Fold an event, as the replica would after the profile worker."""
        user, partition = event.user_id, self.partition(event.user_id)
        self.bags[user] = fold(self.bags.get(user, Bag()), event, max_slots=128, kept={self.bundle.embedder_version})
        self.offsets[partition] += 1
        for queue in self._queues:
            queue.put_nowait([Change(user, partition, self.offsets[partition])])

    async def put_and_tell(self, event: EmbeddedInteraction) -> None:
        self.put(event)
        async with self._changed:
            self._changed.notify_all()


class MadeCatalogue:
    """Items in lists."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.embedder_version = bundle.embedder_version
        self.items: list[Item] = []
        self._codes: list[bytes] = []
        self._popularity: list[int] = []
        self.broken = False
        self.ready = True

    def add(self, item: Item, number: int, popularity: int = 0) -> None:
        self.items.append(item)
        self._codes.append(code(self._bundle, number))
        self._popularity.append(popularity)

    def replace(self, item_id: str, number: int) -> None:
        """Another item with another picture is at the place of this one."""
        place = self.place(item_id)
        assert place is not None
        self.items[place] = Item(item_id=f"instead-of-{item_id}")
        self._codes[place] = code(self._bundle, number)

    def __len__(self) -> int:
        return len(self.items)

    def place(self, item_id: str) -> int | None:
        if self.broken:
            raise StateError("RocksDB: IO error")
        return next((place for place, item in enumerate(self.items) if item.item_id == item_id), None)

    def get(self, item_id: str) -> Item | None:
        place = self.place(item_id)
        return None if place is None else self.items[place]

    def at(self, places: Sequence[int]) -> list[Item]:
        return [self.items[place] for place in places]

    def codes(self, places: Sequence[int]) -> list[bytes]:
        return [self._codes[place] for place in places]

    def mask(self, wanted: Wanted) -> NDArray[np.bool_]:
        return np.array(
            [
                (wanted.category is None or wanted.category in item.categories)
                and (not wanted.in_stock or item.in_stock is True)
                and (wanted.price_max is None or (item.price is not None and item.price <= wanted.price_max))
                and item.item_id not in wanted.without
                for item in self.items
            ],
            bool,
        )

    def nearest(
        self, queries: NDArray[np.float32], count: int, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        places = np.flatnonzero(mask)
        if not len(places):
            empty = np.zeros((len(queries), 0))
            return empty.astype(np.intp), empty.astype(np.float32)
        rows = _unit(dequantize(self.codes(places.tolist()), self._bundle.embedding_size))
        cosines = _unit(queries) @ rows.T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        return places[order], np.take_along_axis(cosines, order, axis=1)

    def listing(self, which: Listing, count: int) -> list[int]:
        if which == "without_picture":
            return []
        order = [self._popularity[place] if which == "held" else item.arrived for place, item in enumerate(self.items)]
        places = [place for place, value in enumerate(order) if value > 0]
        return sorted(places, key=lambda place: -order[place])[:count]

    @property
    def popularity(self) -> NDArray[np.int32]:
        return np.array(self._popularity, np.int32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class MadeTaster:
    """Makes a code from the first bytes of a picture; what does not begin with "picture" is none."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.asked: list[str | Uploaded] = []

    async def taste(self, pictures: Sequence[str | Uploaded]) -> list[Tasted]:
        self.asked.extend(pictures)
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: str | Uploaded) -> Tasted:
        if isinstance(picture, str):
            if not picture.startswith("https://shop.example/"):
                return Tasted(picture, b"", "address_not_allowed", "the address is not public")
            return Tasted(picture, code(self._bundle, len(picture)))
        if not picture.content.startswith(b"picture"):
            return Tasted(picture.name, b"", "unreadable_picture", "not a picture")
        return Tasted(picture.name, code(self._bundle, len(picture.content)))


class MadeSender:
    """Keeps what is written. `down`: whether the broker is away."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.down = False

    async def send(self, values: Sequence[tuple[str, bytes]]) -> list[Sent]:
        if self.down:
            raise DeliveryError("the broker at localhost:9092 did not answer within 5 s")
        start = len(self.sent)
        self.sent.extend(values)
        return [Sent("user-interactions", 0, start + number) for number in range(len(values))]

    def events(self) -> list[Interaction]:
        return [parse_interaction(value, now=NOW / 1000 + 600, max_future=300) for _, value in self.sent]


class MadeLetters:
    """Dead letters in a list, oldest first. `fails`: what each request raises."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.fails: Exception | None = None
        self.redriven: list[tuple[LetterFilter, int, bool]] = []

    def add(
        self,
        value: bytes,
        *,
        reason: str = "http_status",
        at: int = NOW,
        key: bytes | None = b"ada",
        topic: str = "user-interactions",
    ) -> None:
        made = {"reason": reason, "worker": "embed", "topic": topic, "partition": "0", "offset": "0"}
        headers = [(f"tastestream-{name}", value.encode()) for name, value in made.items()]
        place = len(self.letters)
        self.letters.append(parse_letter(key, value, headers, partition=0, offset=place, timestamp=at))

    async def find(self, letter_filter: LetterFilter) -> FoundLetters:
        if self.fails:
            raise self.fails
        found = [one for one in self.letters if letter_filter.matches(one)]
        newest = [FoundLetter(one, 0, False) for one in reversed(found)][: letter_filter.limit]
        return FoundLetters(newest, len(found), len(self.letters))

    async def get(self, partition: int, offset: int) -> Letter | None:
        if self.fails:
            raise self.fails
        return next((one for one in self.letters if (one.partition, one.offset) == (partition, offset)), None)

    async def redrive(self, letter_filter: LetterFilter, *, max_attempts: int, dry_run: bool) -> Redriven:
        self.redriven.append((letter_filter, max_attempts, dry_run))
        found = await self.find(letter_filter)
        return Redriven(len(found.letters), len(found.letters), 0, {})


@dataclass
class MadeServing:
    """Everything that the API answers from."""

    bags: MadeBags
    catalogue: MadeCatalogue
    taster: MadeTaster
    sender: MadeSender
    scored_by: Scorer
    overview: Board
    letters: MadeLetters
    trend_ready: bool = True
    still: float = 0.0  # seconds
    prepared: Prepared | None = None

    @property
    def watchdog(self) -> ServeWatchdog:
        return ServeWatchdog(lambda: self.still, 60.0)

    @property
    def bundles(self) -> Bundles:
        return Bundles(self.bags.bundle)

    @property
    def ready(self) -> bool:
        return self.bags.ready and self.trend_ready

    def scorer(self) -> Scorer:
        return self.scored_by


def make_serving(bundle: Bundle) -> MadeServing:
    scorer = Scorer(Recommender(bundle, bundle.aggregator(), OPTIONS), Trend(None, {}, len(bundle.categories)))
    return MadeServing(
        MadeBags(bundle), MadeCatalogue(bundle), MadeTaster(bundle), MadeSender(), scorer, Board(NAMES), MadeLetters()
    )


def fill(serving: MadeServing) -> None:
    """Two users, and ten items."""
    bundle = serving.bags.bundle
    for number in range(10):
        serving.catalogue.add(
            Item(
                item_id=f"item-{number}",
                image_url=f"https://shop.example/item-{number}.jpg",
                title=f"Item {number}",
                categories=["camera"] if number % 2 else ["sofa"],
                price=10.0 * number,
                in_stock=number != 3,
                listed=True,
                arrived=NOW - number * DAY,
            ),
            number,
            popularity=number,
        )
    for number in range(5):
        serving.bags.put(event(bundle, "ada", f"item-{number}", number=number, timestamp=NOW - number * DAY))
    serving.bags.put(event(bundle, "bob", "item-7", number=7, kind="view", timestamp=NOW - DAY))
