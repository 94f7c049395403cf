"""A seeded load: many users, few of them busy, all types of interaction, equal timestamps, and what a mix adds.

The same seed gives the same events. A thread produces them at a steady rate until it is stopped.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from time import monotonic
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from streams.demo.catalogue import CATALOGUE

PHOTOS = tuple(sorted(path.name for path in CATALOGUE.glob("*.jpg")))
TYPES = ("view", "cart", "purchase")
START = 1_700_000_000_000  # milliseconds: the time of the first event
TIES = 3  # events that share a millisecond
LATE = 86_400_000  # milliseconds: maximum age of an old event
TICK = 0.02  # seconds between two batches
DELIVERY = 180.0  # seconds that a record may wait for an unreachable broker
BEHIND = 1.0  # seconds of delay that a load catches up at most: after an outage, shoppers do not buy twice as fast
POISON = (
    b'{"user_id": "anna", "type"',
    b'{"user_id": "\xff\xfe"}',
    b"[1, 2, 3]",
    b'{"user_id": "anna", "type": "stare", "timestamp": 1, "item_id": "a", "image_url": "http://a.example/a.jpg"}',
    b'{"user_id": "anna", "type": "view", "timestamp": "yesterday", "item_id": "a", "image_url": "http://a.example/a.jpg"}',
)


@dataclass(frozen=True)
class Mix:
    """What the events are. Shares refer to all events."""

    users: int = 80
    returns: float = 0.1
    erasures: float = 0.003
    duplicates: float = 0.0  # an earlier event again, byte for byte
    old: float = 0.0  # a new event whose timestamp is up to a day old
    poison: float = 0.0
    fresh: float = 0.0  # an item with a picture address of its own, which no cache knows
    step: int = 1  # milliseconds from one time of events to the next
    who: str = "user"  # prefix of the user ids
    photos: tuple[str, ...] = PHOTOS


USUAL = Mix()


@dataclass(frozen=True)
class Produced:
    """One record for `user-interactions`."""

    key: bytes
    value: bytes


def events(seed: int, pictures: str, mix: Mix = USUAL, name: str = "e") -> Iterator[Produced]:
    """An endless stream of events, the same for the same seed. pictures: the URL of the picture server."""
    random = Random(f"{seed} {name}")
    recent: list[Produced] = []
    number = 0
    while True:
        number += 1
        chance = random.random()
        if recent and chance < mix.duplicates:
            yield random.choice(recent)
            continue
        if chance < mix.duplicates + mix.poison:
            yield Produced(b"poison", random.choice(POISON))
            continue
        # Squared, so that a tenth of the users has a third of the events.
        user = f"{mix.who}-{int(random.random() ** 2 * mix.users)}"
        late = random.randrange(LATE) if random.random() < mix.old else 0
        event: dict[str, Any] = {
            "event_id": f"{name}-{seed}-{number}",
            "user_id": user,
            "timestamp": START + number // TIES * mix.step - late,
        }
        chance = random.random()
        if chance < mix.erasures:
            event["type"] = "erase"
        else:
            photo = random.choice(mix.photos)
            address = f"{photo}?{number}" if mix.fresh and random.random() < mix.fresh else photo
            event["type"] = "return" if chance < mix.erasures + mix.returns else random.choice(TYPES)
            event["item_id"] = photo.removesuffix(".jpg")
            event["image_url"] = f"{pictures}/{address}"
        produced = Produced(user.encode(), json.dumps(event).encode())
        recent.append(produced)
        if len(recent) > 2000:
            del recent[:1000]
        yield produced


class Load:
    """Produces events in a thread, from the start of the `with` block to its end, or `count` events.

    When the block ends, the broker has acknowledged all of them.
    """

    def __init__(self, bootstrap: str, source: Iterator[Produced], *, rate: float, count: int | None = None) -> None:
        """rate: maximum, events/s."""
        self.acknowledged = 0
        self.begun = self.ended = 0.0  # monotonic
        self._bootstrap = bootstrap
        self._source = islice(source, count)
        self._rate = rate
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self.begun = monotonic()
        self.ended = float("inf")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self.wait()

    @property
    def producing(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout: float = DELIVERY + 60) -> None:
        """Wait until all events are produced."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"the load did not end within {timeout:.0f} s"
        if self._failure:
            raise AssertionError(f"the load failed after {self.acknowledged} events") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:  # noqa: BLE001 -- `wait` raises it
            self._failure = error
        self.ended = monotonic()

    async def _produce(self) -> None:
        producer = await self._connected()
        sent: list[asyncio.Future[Any]] = []
        try:
            due, last = 0.0, monotonic()
            while not self._stop.is_set():
                now = monotonic()
                due, last = min(due + (now - last) * self._rate, self._rate * BEHIND), now
                batch = list(islice(self._source, int(due)))
                if int(due) and not batch:
                    break
                sent += [await producer.send("user-interactions", one.value, one.key) for one in batch]
                due -= len(batch)
                while sent and sent[0].done():
                    sent.pop(0).result()
                    self.acknowledged += 1
                await asyncio.sleep(TICK)
            for delivery in sent:
                await delivery
                self.acknowledged += 1
        finally:
            await producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        """A connected producer. Waits for the broker if it is not up yet."""
        deadline = monotonic() + DELIVERY
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap, linger_ms=5, request_timeout_ms=int(DELIVERY * 1000)
            )
            try:
                await producer.start()
            except KafkaConnectionError:
                await producer.stop()
                if self._stop.is_set() or monotonic() > deadline:
                    raise
                await asyncio.sleep(TICK)
            else:
                return producer
