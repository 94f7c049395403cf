"""The serve worker beside the others on real Kafka: it answers what the topic has, whoever dies, and forgets who asks for it."""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import pytest

from streams.demo.catalogue import CATALOGUE
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, picture_server, stop, wait_until

USERS, EVENTS = 30, 200
SOON = 60.0  # seconds
PICTURES = sorted(path.name for path in CATALOGUE.glob("*.jpg"))
NOW = int(time.time() * 1000)
STATUS = "/v1/status"
ODD = ("a/b", "50%", "ada ✿", "x" * 256)


class Shop:
    """The workers, and what can be asked of them."""

    def __init__(self, system: System, base: str) -> None:
        self.system = system
        self.base = base
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *kinds: str) -> None:
        for kind in kinds:
            self.processes[kind] = self.system.launch(kind)
        for kind in kinds:
            self.system.wait_ready(kind, self.processes[kind])

    def kill(self, *kinds: str) -> None:
        for kind in kinds:
            process = self.processes.pop(kind)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            stop(process)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.system.ports['serve']}{path}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def recommended(self, user: str, query: str = "at=event") -> dict[str, Any]:
        status, answer = self.ask(f"/v1/users/{quote(user, safe='')}/recommendations?{query}")
        assert status == 200, answer
        return answer

    def event(self, user: str, picture: str, number: int, kind: str = "purchase") -> dict[str, Any]:
        return {
            "event_id": f"event-{number}", "user_id": user, "item_id": picture.removesuffix(".jpg"), "type": kind,
            "timestamp": NOW - 10_000 + number, "image_url": f"{self.base}/{picture}",
        }  # fmt: skip


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """What a recommendation says of the bag. Pictures arrive in any order, so the last message need not be of the newest event."""
    others = ("event_id", "timestamp", "produced_at", "items", "state", "up_to_date")
    return {name: value for name, value in message.items() if name not in others}


def rounded(value: Any) -> Any:
    """Numbers that count as the same within two units of the last digit: a network rounds a bag alone and in a batch differently."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return pytest.approx(value, abs=2e-6) if isinstance(value, float) else value


async def newest(system: System) -> dict[str, dict[str, Any]]:
    """The last recommendation of each user on the topic."""
    return {one["user_id"]: one for one in await system.recommendations()}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Generator[System]:
    """A broker that can be stopped."""
    folder = tmp_path_factory.mktemp("serve")
    with KafkaBroker(folder / "kafka") as broker:
        yield System(broker, folder)


@pytest.fixture(scope="module")
def shop(own: System) -> Generator[Shop]:
    chance = random.Random(0)
    with picture_server(CATALOGUE) as base:
        found = Shop(own, base)
        try:
            found.start("embed", "profile", "serve")
            users = [*ODD, *(f"user-{number}" for number in range(USERS))]
            events = [
                found.event(chance.choice(users), chance.choice(PICTURES), number, chance.choice(["view", "purchase"]))
                for number in range(EVENTS)
            ]
            asyncio.run(own.produce(events))
            asyncio.run(own.settled("embed", "profile"))
            yield found
        finally:
            found.stop()


def warnings(shop: Shop) -> str:
    """The log without the accesses."""
    return "\n".join(line for line in shop.system.log().splitlines() if not line.startswith("{"))[-3000:]


def all_live(shop: Shop) -> bool:
    status, found = shop.ask(STATUS)
    return status == 200 and bool(found["partitions"]) and all(one["source"] == "live" for one in found["partitions"])


def other_answers(shop: Shop, wanted: dict[str, dict[str, Any]]) -> list[tuple[Any, Any]]:
    """Answers that differ from what the topic has."""
    pairs = [(comparable(shop.recommended(user)), rounded(comparable(message))) for user, message in wanted.items()]
    return [(one, other) for one, other in pairs if one != other]


async def test_each_user_gets_what_the_topic_has(shop: Shop) -> None:
    wanted = await newest(shop.system)
    assert len(wanted) > USERS
    wait_until(lambda: not other_answers(shop, wanted), 20, lambda: str(other_answers(shop, wanted)[:1]))
    for user in ODD:
        assert shop.recommended(user)["user_id"] == user


async def test_items_are_other_products_that_bags_hold_with_the_reason(shop: Shop) -> None:
    wait_until(lambda: shop.ask("/v1/status")[1]["items"] > 20, SOON, shop.system.log)
    answer = shop.recommended("user-1", "items=12")
    bag = {one["item_id"] for one in shop.ask("/v1/users/user-1")[1]["items"]}
    found = [one["item_id"] for one in answer["items"]]
    assert len(found) == len(set(found)) == 12
    assert not bag & set(found)
    assert {one["because"] for one in answer["items"]} - {None} <= bag
    cold = shop.recommended("nobody", "items=3")
    assert cold["cold_start"] and len(cold["items"]) == 3
    assert all(one["because"] is None for one in cold["items"])


async def test_an_explanation_is_of_the_bag(shop: Shop) -> None:
    answer = shop.recommended("user-2")
    category = answer["categories"][0]["category"]
    status, found = shop.ask(f"/v1/users/user-2/explanation?category={quote(category)}")
    assert status == 200
    assert found["score"] == pytest.approx(answer["categories"][0]["score"], abs=1e-5)
    assert {one["item_id"] for one in found["items"]} == {
        one["item_id"] for one in shop.ask("/v1/users/user-2")[1]["items"]
    }


async def test_an_event_that_is_posted_is_read_back(shop: Shop) -> None:
    event = shop.event("writer", PICTURES[0], EVENTS)
    status, sent = shop.ask("/v1/interactions", "POST", event)
    assert status == 202, sent
    answer = shop.recommended("writer", f"event_id=event-{EVENTS}&wait_ms=5000&at=event")
    assert answer["up_to_date"] is True
    assert answer["event_id"] == f"event-{EVENTS}"
    assert shop.recommended("writer", "event_id=never&wait_ms=10")["up_to_date"] is False


async def test_pictures_of_a_stranger_get_a_taste_and_are_not_kept(shop: Shop) -> None:
    before = shop.ask("/v1/status")[1]["items"]
    pictures = [{"url": f"{shop.base}/{name}"} for name in PICTURES[:3]] + [{"url": f"{shop.base}/none.jpg"}]
    status, answer = shop.ask("/v1/taste?items=3", "POST", {"pictures": pictures})
    assert status == 200, answer
    assert answer["categories"] and len(answer["items"]) == 3
    assert shop.ask("/v1/status")[1]["items"] == before


async def test_the_answers_stay_when_the_others_and_the_broker_are_away_and_say_so(shop: Shop) -> None:
    await shop.system.settled("embed", "profile")
    wanted = await newest(shop.system)
    wait_until(lambda: not other_answers(shop, wanted), 20, lambda: str(other_answers(shop, wanted)[:1]))
    shop.kill("serve")
    shop.start("serve")
    assert not other_answers(shop, wanted), "after kill -9 of the serve worker"
    shop.kill("embed", "profile")
    assert not other_answers(shop, wanted), "after kill -9 of the others"
    wait_until(lambda: all_live(shop), 30, lambda: f"{shop.ask(STATUS)[1]}\n{warnings(shop)}")
    shop.system.broker.stop()
    wait_until(lambda: shop.recommended("user-1")["state"]["source"] == "stale", SOON, shop.system.log)
    assert not other_answers(shop, wanted), "without a broker"
    assert shop.ask("/v1/interactions", "POST", shop.event("late", PICTURES[0], EVENTS + 1))[0] == 503
    assert shop.ask("/ready")[0] == 200
    shop.system.broker.start()
    wait_until(lambda: all_live(shop), 30, lambda: f"{shop.ask(STATUS)[1]}\n{warnings(shop)}")
    shop.start("embed", "profile")
    assert not other_answers(shop, wanted), "with the broker again"


async def test_an_erased_user_is_in_no_answer(shop: Shop) -> None:
    assert shop.ask("/v1/users/user-3/export")[0] == 200
    status, answer = shop.ask("/v1/users/user-3", "DELETE")
    assert status == 202, answer
    wait_until(lambda: shop.ask("/v1/users/user-3")[0] == 404, SOON, shop.system.log)
    gone = shop.recommended("user-3", "items=3")
    assert gone["cold_start"] and not gone["attention"]
