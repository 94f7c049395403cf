"""Workers that die whenever they process a certain event or item, on real Kafka: it becomes a dead letter, and the rest goes on.

One story is played for each way to die: events of many users with one that kills the embed worker and one that kills the
profile worker, items of the shop with one that kills the embed worker, and workers that are restarted whenever they end.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from PIL import Image

from model.bundle import Bundle
from streams.features.records import features_key, features_version
from streams.runtime.crash_journal import DEATHS, NAME
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import clean
from tests.kafka.system import Record, System, picture_server, stop, wait_until

KILLERS = ("kills-embed", "kills-profile", "kills-items")  # items
OFFERED = [*(f"item-{number}" for number in range(10)), "kills-items", *(f"item-{number}" for number in range(10, 20))]
PATIENCE = 180.0  # seconds without progress: a worker starts a dozen times
USERS = 12  # of the events around the poison

pytestmark = pytest.mark.slow


@dataclass
class Story:
    sent: set[str]  # event ids, without those that kill
    letters: list[tuple[str, dict[str, str]]]  # item and headers
    recommended: set[str]  # event ids
    featured: set[str]  # items whose pictures have features
    deaths: Counter[str]  # by kind of worker
    journals: list[str]  # left after the clean stop
    log: str


@pytest.fixture(scope="module", params=[1, 2], ids=["killed", "exits"])
def story(
    request: pytest.FixtureRequest, broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    system = System(broker, tmp_path_factory.mktemp("crash"))
    folder = system.folder / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "shoe.png")
    with picture_server(folder) as pictures:
        yield play(system, pictures, point=f"on-poison:{request.param}")
    asyncio.run(clean(broker))


def event(pictures: str, number: int, item: str) -> dict[str, Any]:
    return {
        "event_id": f"{item}-{number}", "user_id": f"user-{number % USERS}", "item_id": item, "type": "view",
        "timestamp": 1_400_000_000_000 + number, "image_url": f"{pictures}/shoe.png",
    }  # fmt: skip


def play(system: System, pictures: str, *, point: str) -> Story:
    items = ["shoe"] * 20 + ["kills-embed"] + ["shoe"] * 20 + ["kills-profile"] + ["shoe"] * 20
    events = [event(pictures, number, item) for number, item in enumerate(items)]
    assert system.command("topics").returncode == 0
    asyncio.run(offer(system, pictures))
    asyncio.run(system.produce(events))
    deaths: Counter[str] = Counter()
    with ExitStack() as kept:
        for kind in ("embed", "profile"):
            kept.enter_context(restarted(system, kind, point, deaths))
        asyncio.run(system.settled("embed", timeout=PATIENCE))
        asyncio.run(system.settled("profile", timeout=PATIENCE))
        wait_until(lambda: len(asyncio.run(letters_of(system))) == len(KILLERS), PATIENCE, system.log)
        wait_until(lambda: len(asyncio.run(featured(system, pictures))) == len(OFFERED) - 1, PATIENCE, system.log)
    letters = asyncio.run(letters_of(system))
    return Story(
        {one["event_id"] for one in events if one["item_id"] == "shoe"},
        [
            (next(item for item in KILLERS if item.encode() in (one.value or b"") + (one.key or b"")), one.headers)
            for one in letters
        ],
        {one["event_id"] for one in asyncio.run(system.recommendations())},
        asyncio.run(featured(system, pictures)),
        deaths,
        [str(path) for path in (system.folder / "data").rglob(NAME)],
        system.log(),
    )


async def offer(system: System, pictures: str) -> None:
    """Write the items to their topic, in one partition, so that the one that kills is between the others."""
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for item in OFFERED:
            value = json.dumps({"image_url": f"{pictures}/shoe.png?{item}"}).encode()
            await producer.send_and_wait("items", value, key=item.encode(), partition=0)


async def letters_of(system: System) -> list[Record]:
    return await system.read("user-interactions-dlq")


async def featured(system: System, pictures: str) -> set[str]:
    version = features_version(Bundle.load())
    keys = {features_key(version, f"{pictures}/shoe.png?{item}"): item for item in OFFERED}
    found = await system.read("picture-features")
    return {keys[one.key] for one in found if one.key in keys and one.value}


@contextmanager
def restarted(system: System, kind: str, point: str, deaths: Counter[str]) -> Generator[None]:
    """Run a worker during a block, and restart it whenever it ends by itself."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.is_set():
            process = system.launch(kind, through=("tests.faults.armed", point, "--"))
            while process.poll() is None and not ended.wait(0.1):
                pass
            if process.poll() is None:
                assert stop(process) == 0
                return
            deaths[kind] += 1

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def test_the_event_that_kills_becomes_one_dead_letter_and_no_other_event_does(story: Story) -> None:
    found = sorted(
        (item, headers["tastestream-reason"], headers["tastestream-worker"]) for item, headers in story.letters
    )
    assert found == [
        ("kills-embed", "worker_crashed", "embed"),
        ("kills-items", "worker_crashed", "embed"),
        ("kills-profile", "worker_crashed", "profile"),
    ], story.log[-3000:]


def test_all_other_events_are_recommended(story: Story) -> None:
    assert story.recommended == story.sent


def test_all_other_items_have_features(story: Story) -> None:
    assert story.featured == {item for item in OFFERED if item not in KILLERS}


def test_a_worker_dies_a_few_times_and_no_more(story: Story) -> None:
    for kind, killers in (("embed", 2), ("profile", 1)):
        assert killers * DEATHS < story.deaths[kind] <= 3 * killers * DEATHS, f"{json.dumps(story.deaths)}\n{story.log}"


def test_a_clean_stop_leaves_no_journal(story: Story) -> None:
    assert story.journals == []
