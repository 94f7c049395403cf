"""What strangers send: bad messages, bad pictures, bad servers, bad records on the internal topics, and transactions that abort.

Each kind is an endless source of acts. An act takes a producer and sends one thing. Users of strangers' events are named
`stranger-...`; no good event belongs to them.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count, cycle
from pathlib import Path
from random import Random
from typing import Self

from aiokafka import AIOKafkaProducer, TopicPartition

from streams.settings.names import BAGS_CHANGELOG
from tests.faults.load import PHOTOS, POISON, START
from tests.faults.pictures import PictureServer
from tests.faults.tap import EMBEDDED, INPUT
from tests.kafka.broker import KafkaBroker
from tests.kafka.raw import produce_raw
from tests.kafka.test_bad_input import CASES
from tests.kafka.test_unreadable import SENT
from tests.model.hostile_pictures import hostile_pictures
from tests.model.unbounded_pictures import UNBOUNDED
from tests.streams.web.servers import talking
from tests.streams.web.test_hostile_servers import HOSTILE
from tests.streams.web.test_hostile_urls import HOSTILE as HOSTILE_URLS

ADDRESS = "127.0.0.2"  # of the hostile servers
STARTS = 60.0  # seconds until the servers listen
WHO = "stranger"
CODECS = ("gzip", "snappy", "lz4", "zstd")

Act = Callable[["Producers"], Awaitable[None]]


class Producers:
    """One producer for each way of sending."""

    def __init__(self, bootstrap: str) -> None:
        self.plain = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
        self.codecs = {
            codec: AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=5)
            for codec in CODECS
        }
        self.transactional = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="stranger")

    async def __aenter__(self) -> Self:
        for one in self._all:
            await one.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self._all:
            await one.stop()

    @property
    def _all(self) -> list[AIOKafkaProducer]:
        return [self.plain, *self.codecs.values(), self.transactional]


def event(number: int, url: str, **fields: object) -> bytes:
    """An event of a stranger that names this picture."""
    return json.dumps(
        {
            "event_id": f"{WHO} {number}",
            "user_id": f"{WHO}-{number % 50}",
            "item_id": f"thing-{number}",
            "type": "view",
            "timestamp": START + number,
            "image_url": url,
            **fields,
        }
    ).encode()


def send(value: bytes | None, topic: str = INPUT, key: bytes = b"of a stranger", **more: object) -> Act:
    async def act(producers: Producers) -> None:
        await producers.plain.send(topic, value, key, **more)  # pyright: ignore[reportArgumentType]

    return act


def messages(partitions: int) -> Iterator[Act]:
    """Bad messages of all kinds, on the input and on the topic between the workers."""
    for number, bad in enumerate(cycle(CASES)):
        if bad.topic == INPUT or bad.value is not None:
            yield send(bad.value, bad.topic, partition=number % partitions)
        yield send(POISON[number % len(POISON)])


def pictures(url: str, names: list[str]) -> Iterator[Act]:
    """Hostile picture files. Each address is new, so that nothing is remembered."""
    for number, name in enumerate(cycle(names)):
        yield send(event(number, f"{url}/{name}?{number}"))


def servers(urls: list[str]) -> Iterator[Act]:
    """Servers that hang, drip, lie and bomb."""
    for number, url in enumerate(cycle(urls)):
        yield send(event(number, f"{url}/{number}.jpg"))


def addresses() -> Iterator[Act]:
    """Addresses inside the network, and addresses that are none."""
    for number, (url, _) in enumerate(cycle(HOSTILE_URLS.values())):
        yield send(event(number, url.replace("{port}", "1")))


def rolled_back(partitions: int, users: int) -> Iterator[Act]:
    """Transactions that abort, with erasures of good users and purchases of strangers in them."""
    for number in count():

        async def act(producers: Producers, number: int = number) -> None:
            producer = producers.transactional
            await producer.begin_transaction()
            erase = {"type": "erase", "user_id": f"user-{number % users}", "timestamp": START + 10_000_000}
            await producer.send_and_wait(INPUT, json.dumps(erase).encode(), b"x", partition=number % partitions)
            await producer.send_and_wait(INPUT, event(number, "http://a.example/a.jpg"), b"x")
            await producer.abort_transaction()

        yield act


def codecs(good: str) -> Iterator[Act]:
    """Good events in batches of each codec."""
    for number, codec in enumerate(cycle(CODECS)):

        async def act(producers: Producers, number: int = number, codec: str = codec) -> None:
            photo = PHOTOS[number % len(PHOTOS)]
            await producers.codecs[codec].send(INPUT, event(number, f"{good}/{photo}", event_id=f"{codec} {number}"))

        yield act


def forged(good: str) -> Iterator[Act]:
    """Good events with control headers that only workers may set."""
    for number in count():
        photo = PHOTOS[number % len(PHOTOS)]
        headers = [(f"tastestream-{name}", b"99") for name in ("attempts", "offset", "partition", "topic", "reason")]
        yield send(event(number, f"{good}/{photo}", event_id=f"forged {number}"), headers=headers)


def batches(broker: KafkaBroker) -> Iterator[Act]:
    """Batches that aiokafka cannot read, or would inflate without a bound."""
    for partition, _, made, _ in cycle(SENT):

        async def act(_: Producers, partition: int = partition, made: Callable[[], bytes] = made) -> None:
            await produce_raw(broker, TopicPartition(INPUT, partition), made())

        yield act


def garbage(random: Random, topic: str, partitions: int) -> Iterator[Act]:
    """Random bytes on an internal topic."""
    for number in count():
        key, value = random.randbytes(random.randrange(1, 40)), random.randbytes(random.randrange(200))
        yield send(value, topic, key, partition=number % partitions)


class Strangers:
    """Sends `total` acts at `rate` a second in a thread, all kinds in turn, from the start of a `with` block."""

    def __init__(
        self,
        broker: KafkaBroker,
        folder: Path,
        good: PictureServer,
        *,
        seed: int,
        total: int,
        rate: float,
        partitions: int,
    ) -> None:
        self.sent: Counter[str] = Counter()  # acts by kind
        self._broker = broker
        self._good = good.url
        self._random = Random(f"{seed} strangers")
        self._total = total
        self._rate = rate
        self._partitions = partitions
        self._stop = threading.Event()
        self._serving = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        folder.mkdir()
        hostile = [file.data for file in hostile_pictures().values() if file.reason]
        self._files = [*hostile, *(made() for made in UNBOUNDED.values())]
        self._random.shuffle(self._files)
        for name, data in enumerate(self._files):
            (folder / str(name)).write_bytes(data)
        self._bad = PictureServer(folder)

    def __enter__(self) -> Self:
        self._bad.__enter__()
        self._thread.start()
        assert self._serving.wait(STARTS), "the hostile servers do not listen"
        return self

    def __exit__(self, *_: object) -> None:
        """Close the servers. Call it when the workers have stopped."""
        self._stop.set()
        self._thread.join()
        self._bad.__exit__()
        if self._failure:
            raise AssertionError(f"the strangers failed after {self.sent}") from self._failure

    @property
    def done(self) -> bool:
        """Whether everything is sent. Raises what made it fail."""
        if self._failure:
            raise AssertionError(f"the strangers failed after {self.sent}") from self._failure
        return self.sent.total() >= self._total

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 -- `done` raises it
            self._failure = error
        self._serving.set()

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(talking(talk, ADDRESS)) for talk, _, _ in HOSTILE.values()]
            self._serving.set()
            async with Producers(self._broker.bootstrap) as producers:
                await self._send(producers, self._kinds(urls))
            await asyncio.to_thread(self._stop.wait)

    def _kinds(self, urls: list[str]) -> dict[str, Iterator[Act]]:
        names = [str(name) for name in range(len(self._files))]
        return {
            "messages": messages(self._partitions),
            "pictures": pictures(self._bad.url, names),
            "servers": servers(urls),
            "addresses": addresses(),
            "aborted": rolled_back(self._partitions, 80),
            "codecs": codecs(self._good),
            "forged headers": forged(self._good),
            "batches": batches(self._broker),
            "embedded": garbage(self._random, EMBEDDED, self._partitions),
            "changelog": garbage(self._random, BAGS_CHANGELOG, self._partitions),
        }

    async def _send(self, producers: Producers, kinds: dict[str, Iterator[Act]]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number, kind in zip(range(self._total), cycle(kinds), strict=False):
            await asyncio.sleep(max(0.0, begun + number / self._rate - loop.time()))
            if self._stop.is_set():
                return
            await next(kinds[kind])(producers)
            self.sent[kind] += 1
