"""The serve worker beside the others on real Kafka: it answers what the topic has, whoever dies, and forgets who asks for it."""

import asyncio
import random
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import pytest

from streams.demo.catalogue import CATALOGUE
from tests.kafka.broker import KafkaBroker
from tests.kafka.shop import STATUS, Shop, all_live, newest, other_answers
from tests.kafka.system import PATIENCE, System, picture_server, wait_until

USERS, EVENTS = 30, 200
SOON = 2 * PATIENCE  # seconds
PICTURES = sorted(path.name for path in CATALOGUE.glob("*.jpg"))
ODD = ("a/b", "50%", "ada ✿", "x" * 256)


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


async def test_each_user_gets_what_the_topic_has(shop: Shop) -> None:
    wanted = await newest(shop.system)
    assert len(wanted) > USERS
    wait_until(lambda: not other_answers(shop, wanted), SOON, lambda: str(other_answers(shop, wanted)[:1]))
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

    def answer() -> dict[str, Any]:
        return shop.recommended("writer", f"event_id=event-{EVENTS}&wait_ms=5000&at=event")

    wait_until(lambda: answer()["up_to_date"] is True, SOON, shop.system.log)
    assert answer()["event_id"] == f"event-{EVENTS}"
    assert shop.recommended("writer", "event_id=never&wait_ms=10")["up_to_date"] is False


async def test_pictures_of_a_stranger_get_a_taste_and_are_not_kept(shop: Shop) -> None:
    before = shop.ask("/v1/status")[1]["items"]
    pictures = [{"url": f"{shop.base}/{name}"} for name in PICTURES[:3]] + [{"url": f"{shop.base}/none.jpg"}]
    status, answer = shop.ask("/v1/taste?items=3", "POST", {"pictures": pictures})
    assert status == 200, answer
    assert answer["categories"] and len(answer["items"]) == 3
    assert shop.ask("/v1/status")[1]["items"] == before


async def test_the_overview_measures_a_sample_and_names_the_workers(shop: Shop) -> None:
    await shop.system.produce([shop.event(f"user-{number}", PICTURES[0], 1000 + number) for number in range(20)])

    await shop.system.settled("embed", "profile")
    found: dict[str, Any] = {}

    def measured() -> bool:
        found.update(shop.ask("/v1/overview?step=1")[1])
        history = found["history"]
        counted = [sum(rate or 0 for rate in history[name]) for name in ("events_in", "events_out")]
        return (
            found["latency"]["samples"] > 0
            and found["second"]["lag_events"] == 0
            and found["verdict"]["well"]
            and min(counted) >= 15
        )

    wait_until(measured, SOON, lambda: str(found))
    assert 0 < found["latency"]["p50"] <= found["latency"]["p99"] < SOON
    for group in found["groups"]:
        assert [one["partition"] for one in group["partitions"]] == list(range(4))
        assert all(one["owner"]["host"] == "127.0.0.1" for one in group["partitions"]), group
    status, text = shop.system.get("serve", "/metrics")
    assert status == 200
    assert 'tastestream_group_lag{partition="3",topic="user-interactions"} 0.0' in text
    assert 'tastestream_group_lag_seconds{partition="0",topic="embedded-interactions"} 0.0' in text


async def test_the_answers_stay_when_the_others_and_the_broker_are_away_and_say_so(shop: Shop) -> None:
    await shop.system.settled("embed", "profile")
    wanted = await newest(shop.system)
    wait_until(lambda: not other_answers(shop, wanted), SOON, lambda: str(other_answers(shop, wanted)[:1]))
    shop.kill("serve")
    shop.start("serve")
    assert not other_answers(shop, wanted), "after kill -9 of the serve worker"
    shop.kill("embed", "profile")
    assert not other_answers(shop, wanted), "after kill -9 of the others"
    wait_until(lambda: all_live(shop), SOON, lambda: f"{shop.ask(STATUS)[1]}\n{warnings(shop)}")
    shop.system.broker.stop()
    wait_until(lambda: shop.recommended("user-1")["state"]["source"] == "stale", SOON, shop.system.log)
    assert not other_answers(shop, wanted), "without a broker"
    assert shop.ask("/v1/interactions", "POST", shop.event("late", PICTURES[0], EVENTS + 1))[0] == 503
    assert shop.ask("/ready")[0] == 200
    shop.system.broker.start()
    wait_until(lambda: all_live(shop), SOON, lambda: f"{shop.ask(STATUS)[1]}\n{warnings(shop)}")
    shop.start("embed", "profile")
    assert not other_answers(shop, wanted), "with the broker again"


async def test_an_erased_user_is_in_no_answer(shop: Shop) -> None:
    assert shop.ask("/v1/users/user-3/export")[0] == 200
    status, answer = shop.ask("/v1/users/user-3", "DELETE")
    assert status == 202, answer
    wait_until(lambda: shop.ask("/v1/users/user-3")[0] == 404, SOON, shop.system.log)
    gone = shop.recommended("user-3", "items=3")
    assert gone["cold_start"] and not gone["attention"]
