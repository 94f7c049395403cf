"""Items that the shop writes to `items`, on real Kafka: embedded before anybody has touched them, and after the events that wait."""

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import REGISTRY

from model.bundle import Bundle
from model.item_search.index import CodeIndex
from streams.demo.catalogue import CATALOGUE
from streams.features.records import features_key, features_version
from streams.messages import parse_embedded
from streams.serve.catalogue.opening import Opened, open_catalogue
from streams.serve.interface import Wanted
from streams.settings import read_settings
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import PATIENCE, PictureHandler, Record, System, picture_server, stop, wait_until

PHOTOS = sorted(path.name for path in CATALOGUE.glob("*.jpg"))
PAGE = (Path(__file__).parents[2] / "docs/operate/items.md").read_text()
SOON = PATIENCE  # seconds
ITEMS_IN_WORK = 4  # of each worker, with FETCH_CONNECTIONS=32


class Shop:
    """A picture server that counts requests, and two embed workers."""

    def __init__(self, broker: KafkaBroker, folder: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.base = ""
        self.gate = threading.Event()  # until it is set, requests for pictures whose names begin with "hang" wait
        self.hanging: set[str] = set()
        self.slow: set[str] = set()
        self.most = 0  # requests for pictures whose names begin with "slow" at one time
        self.processes: list[Any] = []
        self.systems: list[System] = []
        for number in range(2):
            (folder / str(number)).mkdir()
            self.systems.append(System(broker, folder / str(number), fetch_connections=32))
        self.system = self.systems[0]

    @contextmanager
    def open(self) -> Generator["Shop"]:
        shop = self

        class Handler(PictureHandler):
            def do_GET(self) -> None:  # noqa: N802 -- the name is the base's
                shop.asked[self.path] += 1
                if "?hang" in self.path:
                    shop.hanging.add(self.path)
                    shop.gate.wait(5 * PATIENCE)
                    shop.hanging.discard(self.path)
                if "?slow" in self.path:
                    shop.slow.add(self.path)
                    shop.most = max(shop.most, len(shop.slow))
                    threading.Event().wait(0.2)
                    shop.slow.discard(self.path)
                with suppress(BrokenPipeError):  # of a worker that was killed, or did not wait for so long
                    super().do_GET()

        with picture_server(CATALOGUE, Handler) as self.base:
            try:
                for number, system in enumerate(self.systems):
                    self.processes.append(system.launch("embed"))
                    system.wait_ready("embed", self.processes[number])
                yield self
            finally:
                self.gate.set()
                for process in self.processes:
                    stop(process)

    def kill(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number].wait()

    def start(self, number: int) -> None:
        self.processes[number] = self.systems[number].launch("embed")
        self.systems[number].wait_ready("embed", self.processes[number])

    async def recreate(self) -> None:
        """Delete the topic, and create it again."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.system.broker.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics(["items"])
            async with asyncio.timeout(SOON):
                while "items" in await admin.list_topics():  # noqa: ASYNC110 -- Kafka sends no notice
                    await asyncio.sleep(0.05)
            await admin.create_topics([NewTopic("items", 3, 1, topic_configs={"cleanup.policy": "compact"})])
        finally:
            await admin.close()

    async def until_asked(self, name: str, count: int) -> None:
        """Wait for requests for pictures whose names begin like this."""

        async def asked() -> bool:
            return sum(f"?{name}" in path for path in self.asked) >= count

        await self.until(asked)

    async def until_featured(self, *names: str) -> None:
        """Wait until there are features of all these pictures."""

        async def featured() -> bool:
            return {self.key(name) for name in names} <= (await self.featured()).keys()

        await self.until(featured)

    def url(self, name: str) -> str:
        return f"{self.base}/{PHOTOS[sum(name.encode()) % len(PHOTOS)]}?{name}"

    async def write(self, records: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.system.broker.bootstrap) as producer:
            for delivery in [await producer.send("items", value, key=key) for key, value in records]:
                await delivery

    async def offer(self, *names: str, **fields: Any) -> None:
        """Write items whose id and picture are of these names."""
        await self.write([(one.encode(), json.dumps({"image_url": self.url(one), **fields}).encode()) for one in names])

    async def featured(self) -> Counter[bytes]:
        """How often the features of each picture were written."""
        return Counter(one.key for one in await self.system.read("picture-features") if one.key and one.value)

    def key(self, name: str) -> bytes:
        return features_key(features_version(Bundle.load()), self.url(name))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until what an awaitable returns is true."""
        async with asyncio.timeout(SOON):
            while not await condition():  # noqa: ASYNC110 -- Kafka sends no notice
                await asyncio.sleep(0.1)

    async def letters(self, keys: Collection[bytes]) -> dict[bytes, Record]:
        """The dead letters with these keys."""
        found = await self.system.read("user-interactions-dlq")
        return {one.key: one for one in found if one.key is not None and one.key in keys}


def no_bags(partition: int, prefix: bytes, least: int) -> list[tuple[bytes, bytes]]:
    del partition, prefix, least
    return []


@pytest.fixture(scope="module")
def shop(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(system.broker, tmp_path_factory.mktemp("shop")).open() as shop:
        yield shop


@pytest.fixture
async def opened(shop: Shop, tmp_path: Path) -> AsyncIterator[Opened]:
    settings = read_settings(broker=shop.system.broker.bootstrap)
    async with open_catalogue(settings, Bundle.load(), tmp_path / "catalogue", CodeIndex, no_bags) as opened:
        async with asyncio.timeout(SOON):
            await opened.caught_up()
        yield opened


async def test_the_catalogue_finds_an_item_before_any_event_until_null_removes_it(shop: Shop, opened: Opened) -> None:
    catalogue = opened.catalogue

    async def found() -> bool:
        return catalogue.place("fresh") is not None

    async def gone() -> bool:
        return catalogue.get("fresh") is None

    refused = REGISTRY.get_sample_value("tastestream_catalogue_followed_total", {"what": "refused"}) or 0
    begun = monotonic()
    await shop.offer("fresh", title="Fresh", price=5, categories=["camera"])
    await shop.until(found)
    print(f"found {monotonic() - begun:.1f} s after it was written")  # noqa: T201
    place = catalogue.place("fresh")
    assert place is not None
    assert catalogue.mask(Wanted(category="Camera", price_max=5))[place]
    await shop.write([(b"fresh", b"broken"), (b"fresh", None)])
    await shop.until(gone)
    assert not catalogue.mask(Wanted())[place]
    assert REGISTRY.get_sample_value("tastestream_catalogue_followed_total", {"what": "refused"}) == refused + 1


async def test_the_lines_for_the_console_on_the_page_write_and_remove_an_item(shop: Shop, opened: Opened) -> None:
    item = re.search(r"printf '(.*?)\\n'", PAGE)
    [line] = [line for line in PAGE.splitlines() if "kafka-console-producer.sh" in line]
    [marker] = re.findall(r"`(--property null.marker=NULL)`", PAGE)
    assert item is not None
    text = item[1].replace("\\t", "\t").replace("https://shop.example/B00005N7NQ.jpg", shop.url("page")) + "\n"
    options = line.split("9092", 1)[1].split()
    catalogue = opened.catalogue

    async def found() -> bool:
        return catalogue.place("B00005N7NQ") is not None

    async def gone() -> bool:
        return catalogue.get("B00005N7NQ") is None

    await asyncio.to_thread(shop.system.broker.console, "producer", *options, stdin=text)
    await shop.until(found)
    await asyncio.to_thread(
        shop.system.broker.console, "producer", *options, *marker.split(), stdin="B00005N7NQ\tNULL\n"
    )
    await shop.until(gone)


async def test_an_item_has_features_before_any_event_and_each_is_embedded_by_one_worker(shop: Shop) -> None:
    names = [f"new-{number}" for number in range(12)]
    await shop.offer(*names, title="new")

    await shop.until_featured(*names)
    assert set((await shop.featured()).values()) == {1}
    assert {count for path, count in shop.asked.items() if "?new-" in path} == {1}
    made = [metric(system, "tastestream_items_total", "embedded") for system in shop.systems]
    assert sum(made) == len(await shop.featured())
    assert min(made) > 0, "both workers have partitions"


async def test_an_item_that_is_written_again_is_not_fetched_again_and_a_changed_picture_is(shop: Shop) -> None:
    known = sum(metric(system, "tastestream_items_total", "known") for system in shop.systems)
    await shop.offer("new-1", price=3)
    body = json.dumps({"image_url": shop.url("changed")}).encode()
    await shop.write([(b"new-2", body)])

    await shop.until_featured("changed")
    wait_until(
        lambda: sum(metric(system, "tastestream_items_total", "known") for system in shop.systems) == known + 1, SOON
    )
    assert shop.asked["/" + shop.url("new-1").rpartition("/")[2]] == 1


async def test_broken_items_become_dead_letters_and_the_items_behind_them_go_on(shop: Shop) -> None:
    good = json.dumps({"image_url": shop.url("behind")}).encode()
    refused: list[tuple[bytes, bytes, str, str]] = [
        (b"no-json", b"{", "invalid_json", ""),
        (b"no-picture", b'{"title": "a"}', "missing_field", "image_url"),
        (b"below-zero", b'{"image_url": "http://shop.example/a.jpg", "price": -1}', "invalid_field", "price"),
        (b"another", json.dumps({"image_url": "http://a/b", "item_id": "x"}).encode(), "invalid_field", "item_id"),
        (b"\xff", good, "invalid_field", "item_id"),
        (b"gone", json.dumps({"image_url": shop.base + "/nothing"}).encode(), "http_status", "image_url"),
        (b"inside", b'{"image_url": "http://10.0.0.1/a.jpg"}', "address_not_public", "image_url"),
        (b"large", json.dumps({"image_url": "http://a/b", "x": "x" * 70_000}).encode(), "message_too_large", ""),
    ]
    keys = {key for key, *_ in refused}
    await shop.write([(key, value) for key, value, _, _ in refused] + [(b"no-json", None), (b"behind", good)])

    async def all_there() -> bool:
        return len(await shop.letters(keys)) == len(keys) and shop.key("behind") in await shop.featured()

    await shop.until(all_there)
    letters = await shop.letters(keys)
    found = {
        key: (one.value, one.headers["tastestream-reason"], one.headers["tastestream-field"])
        for key, one in letters.items()
    }
    assert found == {key: (value, reason, field) for key, value, reason, field in refused}
    assert {one.headers["tastestream-topic"] for one in letters.values()} == {"items"}
    done = shop.system.command("dlq", "redrive", "--all", "--dry-run")
    assert "write an item again yourself" in done.stdout, done


def views(shop: Shop, name: str, count: int) -> list[dict[str, Any]]:
    """Events of several users, each with a picture of its own."""
    return [
        {
            "event_id": f"{name}-{number}",
            "user_id": f"user-{name}-{number}",
            "item_id": f"item-{number}",
            "type": "view",
            "timestamp": 1_700_000_000_000,
            "image_url": shop.url(f"{name}-{number}"),
        }
        for number in range(count)
    ]


@pytest.mark.slow
async def test_events_go_on_while_the_pictures_of_many_items_hang(shop: Shop) -> None:
    shop.gate.clear()
    await shop.offer(*(f"hang-items-{number}" for number in range(60)))
    await shop.until_asked("hang-items", 2 * ITEMS_IN_WORK)
    await shop.system.produce(views(shop, "meanwhile", 10))
    await shop.system.settled("embed")
    assert len(shop.hanging) == 2 * ITEMS_IN_WORK, "the items still hang, and others are not begun"
    shop.gate.set()
    embedded = [parse_embedded(one.value) for one in await shop.system.read("embedded-interactions")]
    assert {one.event_id for one in embedded} >= {f"meanwhile-{number}" for number in range(10)}
    await shop.until_featured(*(f"hang-items-{number}" for number in range(60)))


async def test_while_events_wait_for_their_pictures_a_worker_has_one_item_in_work(shop: Shop) -> None:
    shop.gate.clear()
    await shop.system.produce(views(shop, "hang-events", 12))
    await shop.until_asked("hang-events", 12)
    shop.most = 0
    await shop.offer(*(f"slow-{number}" for number in range(8)))
    await shop.until_featured(*(f"slow-{number}" for number in range(8)))
    assert len(shop.hanging) == 12, "the events still wait"
    assert shop.most <= 2
    shop.gate.set()
    await shop.system.settled("embed")


async def test_the_items_of_a_worker_that_is_killed_are_embedded_by_another(shop: Shop) -> None:
    shop.gate.clear()
    hanging = [f"hang-killed-{number}" for number in range(3)]
    await shop.offer(*hanging)
    await shop.until_asked("hang-killed", 3)
    for turn in range(3):  # each with a commit
        await shop.offer(*(f"turn-{turn}-{number}" for number in range(8)))
        await shop.until_featured(*(f"turn-{turn}-{number}" for number in range(8)))
    shop.kill(1)
    shop.gate.set()
    await shop.until_featured(*hanging)
    shop.start(1)


async def test_a_topic_that_is_created_again_is_read_from_its_start(shop: Shop, tmp_path: Path) -> None:
    settings = read_settings(broker=shop.system.broker.bootstrap)
    async with (
        open_catalogue(settings, Bundle.load(), tmp_path, CodeIndex, no_bags) as opened,
        asyncio.timeout(2 * PATIENCE),
    ):
        await opened.caught_up()
        assert opened.catalogue.place("new-1") is not None
    async with (
        open_catalogue(settings, Bundle.load(), tmp_path, CodeIndex, no_bags) as opened,
        asyncio.timeout(2 * PATIENCE),
    ):
        while not opened.catalogue.ready:  # noqa: ASYNC110 -- the catalogue sends no notice
            await asyncio.sleep(0.01)
        assert opened.catalogue.place("new-1") is not None, "from the disk"
        await shop.recreate()
        await shop.offer("again")
        known = json.dumps({"image_url": shop.url("new-1")}).encode()  # past the offsets that were committed before
        await shop.write([(b"known-%d" % number, known) for number in range(300)])
        while opened.catalogue.place("again") is None:  # noqa: ASYNC110 -- the catalogue sends no notice
            await asyncio.sleep(0.1)
        while len(opened.catalogue) < 301:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.1)
        assert opened.catalogue.get("new-1") is None


def metric(system: System, name: str, what: str = "") -> float:
    """The sum of a metric of the embed worker."""
    lines = [line for line in system.get("embed", "/metrics")[1].splitlines() if line.startswith(name) and what in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
