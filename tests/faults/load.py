"""A load with a seed: many users, few of them busy; all types of interaction; ties in time; and whatever else a mix asks for.

The same seed gives the same events. They are produced in the background, at a steady rate, until told to stop.
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
LATE = 86_400_000  # milliseconds: how old an old event is at most
TICK = 0.02  # seconds between two looks at what is due
DELIVERY = 180.0  # seconds that a record may wait for a broker that is away
BEHIND = 1.0  # seconds behind its rate at which a load gives up catching up: a shop does not buy twice as fast after an outage
POISON = (
    b'{"user_id": "anna", "type"',
    b'{"user_id": "\xff\xfe"}',
    b"[1, 2, 3]",
    b'{"user_id": "anna", "type": "stare", "timestamp": 1, "item_id": "a", "image_url": "http://a.example/a.jpg"}',
    b'{"user_id": "anna", "type": "view", "timestamp": "yesterday", "item_id": "a", "image_url": "http://a.example/a.jpg"}',
)


@dataclass(frozen=True)
class Mix:
    """What the events are. Shares are of all events."""

    users: int = 80
    returns: float = 0.1
    erasures: float = 0.003
    duplicates: float = 0.0  # an event of before, again, byte for byte
    old: float = 0.0  # a new event with a time of up to a day ago
    poison: float = 0.0
    who: str = "user"  # what the names of the users begin with
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
        # Squared: a tenth of the users has a third of the events.
        user = f"{mix.who}-{int(random.random() ** 2 * mix.users)}"
        late = random.randrange(LATE) if random.random() < mix.old else 0
        event: dict[str, Any] = {
            "event_id": f"{name}-{seed}-{number}",
            "user_id": user,
            "timestamp": START + number // TIES - late,
        }
        chance = random.random()
        if chance < mix.erasures:
            event["type"] = "erase"
        else:
            photo = random.choice(mix.photos)
            event["type"] = "return" if chance < mix.erasures + mix.returns else random.choice(TYPES)
            event["item_id"] = photo.removesuffix(".jpg")
            event["image_url"] = f"{pictures}/{photo}"
        produced = Produced(user.encode(), json.dumps(event).encode())
        recent.append(produced)
        if len(recent) > 2000:
            del recent[:1000]
        yield produced


class Load:
    """Produces events in a thread of its own, from `with` to its end or for `count` events. Everything that it gave to the
    broker is acknowledged when the block ends."""

    def __init__(self, bootstrap: str, source: Iterator[Produced], *, rate: float, count: int | None = None) -> None:
        """rate: events/s, at most."""
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
        """Until all is produced."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"the load did not end within {timeout:.0f} s"
        if self._failure:
            raise AssertionError(f"the load failed after {self.acknowledged} events") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:  # noqa: BLE001 -- told to whoever waits
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
        """A producer that has found its broker, which may be away yet."""
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
