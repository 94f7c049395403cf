"""All peers of `tests.benchmarks.throughput` give the answers that the oracle computes, so that their rates are comparable."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from streams.messages import parse_interaction
from tests.benchmarks.throughput.peers import PEERS
from tests.benchmarks.throughput.stand import Stand, record_of
from tests.benchmarks.throughput.workload import BEGIN, Event, Shop
from tests.kafka.system import Record, System, picture_server
from tests.oracle import OPTIONS, Oracle

HALF_LIFE = 5 * 24 * 3600.0  # seconds; all events of this small shop lie within some hours
TOLERANCE = 1e-5
QUIX = pytest.param(
    "quix",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(find_spec("quixstreams") is None, reason="needs quixstreams (pip install '.[bench]')"),
    ],
)


def small(base: str) -> Shop:
    """A shop with bags that overflow, and some uncached pictures."""
    return Shop(base, users=20, items=60, bag=8, cached=0.9)


def played(shop: Shop) -> list[Event]:
    """Events of all types. Two users are erased; one of them comes back."""
    events = [*shop.filling("filling"), *shop.events(240, "later")]
    now = int(str(events[-1]["timestamp"]))
    erased: Event = {"type": "erase", "timestamp": now, "user_id": shop.user(0), "event_id": "erased-0"}
    back: Event = {**events[0], "event_id": "back", "timestamp": now + 1}
    return [*events, erased, back, {**erased, "user_id": shop.user(1), "event_id": "erased-1"}]


def final(records: Sequence[Record]) -> dict[str, bytes | None]:
    """The newest value of each user."""
    return {(record.key or b"").decode(): record.value for record in sorted(records, key=lambda one: one.offset)}


async def outputs(system: System, name: str, base: str, events: list[Event]) -> list[Record]:
    """What one peer publishes for these events."""
    folder: Path = system.folder / name
    folder.mkdir()
    stand = Stand(system.broker, folder, small(base), Bundle.load(), half_life=HALF_LIFE)
    async with stand.running(PEERS[name], filled=False) as running:
        await running.produce(events)
        await running.answers(len(events))
        return await running.system.read(running.settings.recommendations_topic)


@pytest.mark.parametrize("name", ["ours", pytest.param("naive", marks=pytest.mark.slow), QUIX])
async def test_each_user_ends_with_what_the_oracle_computes(system: System, name: str) -> None:
    with picture_server(CATALOGUE) as base:
        shop = small(base)
        events = played(shop)
        found = final(await outputs(system, name, base, events))

    oracle = Oracle(
        Bundle.load(),
        lambda url: (CATALOGUE / url.rsplit("/", 1)[1].partition("?")[0]).read_bytes(),
        options=replace(OPTIONS, bag_size=shop.bag, half_life=HALF_LIFE),
        max_slots=2 * shop.bag,
    )
    interactions = [parse_interaction(record_of(event)[1], now=time.time(), max_future=0) for event in events]
    expected = oracle.expected(interactions)
    assert found.keys() == expected.keys()
    for user, one in expected.items():
        value = found[user]
        if not one.bag.slots:
            assert value is None, f"{user} was erased"
            continue
        assert value is not None, user
        message = json.loads(value)
        assert message["bag_size"] == len(one.items), user
        assert len(message["categories"]) == OPTIONS.top_k
        scores = dict(zip(oracle.bundle.categories, one.scores.tolist(), strict=True))
        for category in message["categories"]:
            assert category["score"] == pytest.approx(scores[category["category"]], abs=TOLERANCE), user
        best = sorted(one.scores.tolist(), reverse=True)[: OPTIONS.top_k]
        assert [category["score"] for category in message["categories"]] == pytest.approx(best, abs=TOLERANCE), user
    assert expected[shop.user(0)].bag.slots.keys() == {str(events[0]["item_id"])}
    assert not expected[shop.user(1)].bag.slots


async def test_the_bare_application_returns_each_event_once(system: System) -> None:
    with picture_server(CATALOGUE) as base:
        events = small(base).events(300, "bare")
        records = await outputs(system, "bare", base, events)
    ids = Counter(json.loads(record.value or b"{}")["event_id"] for record in records)
    assert ids == Counter(str(event["event_id"]) for event in events)


def test_the_events_depend_only_on_the_seed() -> None:
    shop = Shop("http://127.0.0.1:1", users=30, items=60, bag=8, cached=0.95)
    assert shop.events(500, "a") == shop.events(500, "a")
    assert shop.events(500, "a") != Shop(shop.base, users=30, items=60, bag=8, cached=0.95, seed=2).events(500, "a")
    filling = shop.filling("a")
    bags = Counter(str(event["user_id"]) for event in filling)
    assert set(bags.values()) == {8}
    assert len({(event["user_id"], event["item_id"]) for event in filling}) == len(filling), "different items"
    assert int(str(filling[0]["timestamp"])) == BEGIN
    new = [event for event in shop.events(2000, "a") if "&new=" in str(event["image_url"])]
    assert 0.03 < len(new) / 2000 < 0.07
