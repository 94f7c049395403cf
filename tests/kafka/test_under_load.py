"""Under load, workers join, leave and stop. No event is lost, and the bags equal those of the oracle."""

import asyncio
import time

import pytest

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from streams.messages import parse_interaction
from streams.profile.bag import Bag
from tests.kafka.system import System, picture_server, stop
from tests.oracle import Oracle

pytestmark = pytest.mark.alone

USERS = 40


def events(pictures: str, count: int, name: str) -> list[dict[str, object]]:
    """Views, purchases and returns of many users, with few pictures."""
    photos = sorted(path.name for path in CATALOGUE.glob("*.jpg"))
    types = ("view", "purchase", "cart", "view", "return")
    return [
        {
            "event_id": f"{name}-{number}",
            "user_id": f"user-{number % USERS}",
            "item_id": photos[number * 7 % len(photos)],
            "type": types[number % len(types)],
            "timestamp": 1_700_000_000_000 + number // 3,
            "image_url": f"{pictures}/{photos[number * 7 % len(photos)]}",
        }
        for number in range(count)
    ]


async def expected_bags(system: System) -> dict[str, Bag]:
    values = [record.value for record in await system.read("user-interactions")]
    oracle = Oracle(Bundle.load(), lambda url: (CATALOGUE / url.rsplit("/", 1)[1]).read_bytes())
    return oracle.bags([parse_interaction(value, now=time.time(), max_future=0) for value in values])


async def test_a_second_profile_worker_that_joins_and_leaves_and_a_stop_under_load_lose_nothing(system: System) -> None:
    second = System(system.broker, system.folder / "second")
    second.folder.mkdir()
    with picture_server(CATALOGUE) as pictures:
        with system.workers():
            load = asyncio.create_task(system.produce(events(pictures, 3000, "first")))
            with second.worker("profile"):
                system.wait_ready("profile")
                await load
                load = asyncio.create_task(system.produce(events(pictures, 3000, "second")))
            await load
            await system.settled()

        with system.worker("all") as workers:
            await system.produce(events(pictures, 6000, "third"))
            assert await system.lag() > 0, "the workers are stopped before they have finished"
            begun = time.monotonic()
            assert stop(workers, timeout=30) == 0
            assert time.monotonic() - begun < 10

        with system.workers():
            await system.settled()

    letters = await system.read("user-interactions-dlq")
    assert [letter.headers["tastestream-error"] for letter in letters] == []
    published = {one["event_id"] for one in await system.recommendations()}
    parts = {"first": 3000, "second": 3000, "third": 6000}
    assert published == {f"{name}-{number}" for name, count in parts.items() for number in range(count)}
    expected = await expected_bags(system)
    assert system.stored_bags() == expected
