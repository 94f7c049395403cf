"""Embed workers share what they make of pictures: each picture is fetched once, and forgotten everywhere."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from streams.features.records import Features, encode_features, features_key, features_version
from streams.messages import EmbeddedInteraction, parse_embedded
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import PATIENCE, PictureHandler, System, picture_server, stop, wait_until
from tests.streams.warm.test_warm import another_bundle

TOPIC = "picture-features"
PHOTOS = sorted(path.name for path in CATALOGUE.glob("*.jpg"))
WORKERS = 3


class Shop:
    """A picture server that counts requests."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.base = ""

    @contextmanager
    def open(self) -> Generator["Shop"]:
        asked = self.asked

        class Handler(PictureHandler):
            def do_GET(self) -> None:  # noqa: N802 -- the name is the base's
                asked[self.path] += 1
                super().do_GET()

        with picture_server(CATALOGUE, Handler) as self.base:
            yield self

    def path(self, name: str, number: int) -> str:
        return f"/{PHOTOS[number % len(PHOTOS)]}?{name}-{number}"

    def urls(self, name: str, count: int) -> list[str]:
        return [self.base + self.path(name, number) for number in range(count)]

    def requests(self, name: str) -> Counter[str]:
        """Requests for the pictures of a test."""
        return Counter({path: count for path, count in self.asked.items() if f"?{name}-" in path})


class Fleet:
    """Several embed workers, each with a folder of its own, on one broker."""

    def __init__(self, broker: KafkaBroker, folder: Path, shop: Shop) -> None:
        self.shop = shop
        self._broker = broker
        self._folder = folder
        self.systems: list[System] = []
        self.processes: list[Any] = []
        self._sent = 0

    def add(self, **settings: object) -> System:
        """Start a worker with an empty folder."""
        folder = self._folder / f"worker-{len(self.systems)}"
        folder.mkdir()
        system = System(self._broker, folder)
        system.configure(**settings)
        self.systems.append(system)
        self.processes.append(None)
        self.start(len(self.systems) - 1)
        return system

    def start(self, number: int) -> None:
        self.processes[number] = self.systems[number].launch("embed")
        self.systems[number].wait_ready("embed", self.processes[number])

    def kill(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number].wait()

    def close(self) -> None:
        for process in self.processes:
            stop(process)

    async def view(self, urls: list[str], users: int = 1) -> list[EmbeddedInteraction]:
        """Let users view pictures, and wait until all that is embedded. Returns the embedded interactions."""
        begin = await self.systems[0].ends("embedded-interactions")
        self._sent += 1
        await self.systems[0].produce(
            {
                "event_id": f"{self._sent}-{number}-{user}",
                "user_id": f"user-{self._sent}-{number}-{user}",
                "item_id": f"item-{number}",
                "type": "view",
                "timestamp": 1_700_000_000_000,
                "image_url": url,
            }
            for number, url in enumerate(urls)
            for user in range(users)
        )
        await self.systems[0].settled("embed")
        return [parse_embedded(one.value) for one in await self.systems[0].read("embedded-interactions", begin)]

    async def followed(self) -> None:
        """Wait until each running worker has read the topic to its end."""
        records = len(await self.systems[0].read(TOPIC))
        for system, process in zip(self.systems, self.processes, strict=True):
            if process.poll() is None:
                wait_until(
                    lambda one=system: counted(one) >= records,
                    60,
                    lambda one=system: f"{counted(one)}\n{one.log()[-2000:]}",
                )


def metric(system: System, name: str, what: str = "") -> float:
    """The sum of a metric of the embed worker, of one label value or of all."""
    lines = [line for line in system.get("embed", "/metrics")[1].splitlines() if line.startswith(name) and what in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def counted(system: System) -> float:
    """Records that a worker has read; a worker that has been restarted does not read them again."""
    position = system.folder / "data" / "embed" / "features.json"
    if not position.exists():
        return 0
    return sum(map(int, re.findall(r'"\d+":(\d+)', position.read_text())))


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with Shop().open() as shop:
        yield shop


@pytest.fixture(scope="module")
def fleet(system: System, tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Fleet]:
    fleet = Fleet(system.broker, tmp_path_factory.mktemp("fleet"), shop)
    with ExitStack() as stack:
        stack.callback(fleet.close)
        for _ in range(WORKERS):
            fleet.add()
        yield fleet


async def test_each_picture_is_requested_once_whichever_workers_need_it(fleet: Fleet, shop: Shop) -> None:
    urls = shop.urls("first", 40)
    await fleet.view(urls)
    await fleet.followed()
    embedded = await fleet.view(urls, users=6)
    assert shop.requests("first") == {shop.path("first", number): 1 for number in range(40)}
    codes = {(one.image_url, one.embedding) for one in embedded}
    assert len(embedded) == 240
    assert len(codes) == 40, "the code of a picture is the same from all workers"
    assert all(metric(system, "tastestream_features_followed_total", "kept") > 0 for system in fleet.systems)


async def test_a_fourth_worker_with_an_empty_folder_requests_none_of_them(fleet: Fleet, shop: Shop) -> None:
    new = fleet.add()
    before = metric(new, "tastestream_events_total")
    await fleet.view(shop.urls("first", 40), users=6)
    assert shop.requests("first") == {shop.path("first", number): 1 for number in range(40)}
    assert metric(new, "tastestream_events_total") > before, "it had events"


async def test_a_worker_that_was_killed_goes_on_where_it_was(fleet: Fleet, shop: Shop) -> None:
    urls = shop.urls("killed", 30)
    viewing = asyncio.create_task(fleet.view(urls))
    await asyncio.to_thread(wait_until, lambda: shop.requests("killed").total() >= 5, 60)
    fleet.kill(0)
    fleet.start(0)
    await viewing
    await fleet.followed()
    again = shop.requests("killed")
    # Partitions move twice, when the new process joins and when the old one is missed. What is in flight then is requested again.
    assert max(again.values()) <= 3, "only what was in flight is requested again"
    skipped = metric(fleet.systems[0], "tastestream_features_followed_total")
    assert skipped < len(await fleet.systems[0].read(TOPIC)), "it does not read the topic from its start"
    await fleet.view(urls, users=6)
    assert shop.requests("killed") == again


async def produce(system: System, records: list[tuple[bytes | None, bytes | None]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for key, value in records:
            await producer.send_and_wait(TOPIC, value, key=key)


async def test_records_that_cannot_be_used_are_counted_and_stop_nothing(fleet: Fleet, shop: Shop) -> None:
    version = features_version(Bundle.load())
    urls = shop.urls("broken", 6)
    now = 1_700_000_000_000
    await produce(
        fleet.systems[0],
        [
            (features_key(version, urls[0]), encode_features(Features(now, bytes(100)))),
            (features_key(version, urls[1]), encode_features(Features(now, b"\xff" * 1032))),
            (features_key(version, urls[2]), b"no features"),
            (features_key(version, urls[3]), encode_features(Features(1 << 60, bytes(1032)))),
            (b"no key", encode_features(Features(now, bytes(1032)))),
            (b"", b"\x92\x00"),
            (features_key("another-network", urls[4]), encode_features(Features(now, bytes(7)))),
        ],
    )
    await fleet.view(urls)
    await fleet.followed()
    for system in fleet.systems:
        assert metric(system, "tastestream_features_followed_total", "refused") == 6, system.log()[-2000:]
        assert system.log().count("that cannot be used; the first: ") >= 1
        assert "Traceback" not in system.log()
    assert shop.requests("broken") == {shop.path("broken", number): 1 for number in range(6)}


@pytest.mark.slow
async def test_large_records_on_the_topic_take_a_bounded_amount_of_memory(fleet: Fleet) -> None:
    name = "process_resident_memory_bytes"
    before = [metric(system, name) for system in fleet.systems]
    refused = [metric(system, "tastestream_features_followed_total", "refused") for system in fleet.systems]
    async with AIOKafkaProducer(
        bootstrap_servers=fleet.systems[0].broker.bootstrap, compression_type="gzip", max_request_size=2 * 1024**2
    ) as producer:
        for number in range(600):  # 540 MB, as kilobytes
            await producer.send(TOPIC, bytes(900_000), key=b"large-%d" % number)
    peaks = list(before)

    def read() -> bool:
        peaks[:] = [max(peak, metric(one, name)) for peak, one in zip(peaks, fleet.systems, strict=True)]
        now = [metric(system, "tastestream_features_followed_total", "refused") for system in fleet.systems]
        return all(count >= start + 600 for count, start in zip(now, refused, strict=True))

    await asyncio.to_thread(wait_until, read, 120)
    grown = [(peak - start) / 1e6 for peak, start in zip(peaks, before, strict=True)]
    print(f"grown by {max(grown):.0f} MB")  # noqa: T201
    assert max(grown) < 150


async def test_a_forgotten_picture_is_requested_again_once(fleet: Fleet, shop: Shop) -> None:
    urls = shop.urls("forget", 4)
    await fleet.view(urls, users=6)
    await fleet.followed()
    await fleet.view(urls, users=6)
    before = shop.requests("forget")
    done = fleet.systems[0].command("pictures", "forget", *urls[:2], "--dry-run")
    assert (done.returncode, done.stdout.split(" (")[0]) == (0, "would forget the features of 2 pictures"), done
    done = fleet.systems[0].command("pictures", "forget", *urls[:2])
    assert (done.returncode, done.stdout.split(" (")[0]) == (0, "forgot the features of 2 pictures"), done
    await fleet.followed()
    await fleet.view(urls[:1])
    await fleet.followed()
    await fleet.view([urls[0], *urls[2:]], users=6)
    asked = shop.requests("forget") - before
    assert asked == {shop.path("forget", 0): 1}
    done = fleet.systems[0].command("pictures", "forget", urls[1])
    assert done.returncode == 1
    assert f"picture-features has no features of {urls[1]}" in done.stdout


@pytest.mark.slow
async def test_features_older_than_an_age_are_forgotten(fleet: Fleet, shop: Shop) -> None:
    version, [old, new] = features_version(Bundle.load()), shop.urls("age", 2)
    row = bytes(1032)
    now = int(time.time() * 1000)
    assert fleet.systems[0].command("pictures", "forget", "--older-than", "1h").returncode == 0
    await produce(
        fleet.systems[0],
        [
            (features_key(version, url), encode_features(Features(now - age, row)))
            for url, age in ((old, 7_200_000), (new, 0))
        ],
    )
    done = fleet.systems[0].command("pictures", "forget", "--older-than", "1h")
    assert (done.returncode, done.stdout.split(" (")[0]) == (0, "forgot the features of 1 picture"), done
    await fleet.followed()
    await fleet.view([old, new], users=4)
    assert shop.path("age", 0) in shop.requests("age")
    assert shop.path("age", 1) not in shop.requests("age")


async def test_warm_takes_what_workers_have_made_and_shares_what_it_makes(
    fleet: Fleet, shop: Shop, tmp_path: Path
) -> None:
    known, new = shop.urls("first", 40), shop.urls("warm", 10)
    (tmp_path / "list.txt").write_text("\n".join(known + new))
    elsewhere = System(fleet.systems[0].broker, tmp_path)
    done = elsewhere.command("warm", str(tmp_path / "list.txt"))
    assert done.returncode == 0, done.stderr
    assert "50 pictures: 10 new, 40 already cached, 0 failed" in done.stdout
    await fleet.followed()
    await fleet.view(known + new, users=3)
    assert set(shop.requests("first").values()) == {1}
    assert shop.requests("warm") == {shop.path("warm", number): 1 for number in range(10)}


@pytest.mark.slow
async def test_two_workers_that_meet_a_new_picture_at_once_may_both_request_it(fleet: Fleet, shop: Shop) -> None:
    embedded = await fleet.view(shop.urls("race", 40), users=4)
    asked = shop.requests("race")
    print(f"requests for 40 pictures that 4 users view at once: {asked.total()}")  # noqa: T201 -- for docs/operate/pictures.md
    assert len(embedded) == 160
    assert all(1 <= count <= len(fleet.systems) for count in asked.values())


async def test_another_item_network_needs_no_request_and_events_have_both_codes(
    fleet: Fleet, shop: Shop, tmp_path: Path
) -> None:
    following = another_bundle(tmp_path / "next", "items.onnx")
    await fleet.followed()
    for number, system in enumerate(fleet.systems):
        system.configure(next_bundle=following)
        stop(fleet.processes[number])
    for number in range(len(fleet.systems)):
        fleet.start(number)
    before = shop.asked.total()
    embedded = await fleet.view(shop.urls("first", 40), users=2)
    assert shop.asked.total() == before
    assert {one.next_embedder_version for one in embedded} == {Bundle.load(following).embedder_version}
    assert all(one.next_embedding == one.embedding for one in embedded), "the networks differ in a comment"


@pytest.mark.slow
async def test_a_topic_that_is_deleted_and_created_again_is_followed_again(fleet: Fleet, shop: Shop) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=fleet.systems[0].broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([TOPIC])
        async with asyncio.timeout(PATIENCE):
            while TOPIC in await admin.list_topics():  # noqa: ASYNC110 -- Kafka sends no notice
                await asyncio.sleep(0.05)
        await admin.create_topics([NewTopic(TOPIC, 2, 1, topic_configs={"cleanup.policy": "compact"})])
    finally:
        await admin.close()
    for system in fleet.systems:
        wait_until(lambda one=system: f"topic {TOPIC} was deleted and created again" in one.log(), 60, system.log)
    urls = shop.urls("again", 20)
    await fleet.view(urls)
    await fleet.followed()
    await fleet.view(urls, users=6)
    assert shop.requests("again") == {shop.path("again", number): 1 for number in range(20)}
