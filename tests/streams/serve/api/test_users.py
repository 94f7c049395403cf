"""What is said of a user: the answer of the topic, its items, its state, and nothing of anybody else."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest

from model.bundle import Bundle
from streams.messages import EmbeddedInteraction, encode_recommendation
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender
from streams.serve.interface import Item, Scorer
from streams.trend.trend import WHOLE_ITEM, Trend
from tests.bundles import write_sibling, write_trending
from tests.streams.serve.api.conftest import Serve, Served, problem_of
from tests.streams.serve.made import DAY, NOW, OPTIONS, MadeServing, event


def topic_answer(serving: MadeServing, caused: EmbeddedInteraction) -> bytes:
    """What the profile worker publishes after an event that leaves the bag as it is."""
    scorer = serving.scorer()
    bag = serving.bags.bags[caused.user_id]
    [found] = scorer.recommender.recommend([(caused, bag)], now=datetime.now(UTC), trend=scorer.trend)
    assert found is not None
    return encode_recommendation(found)


def without_produced_at(value: bytes) -> bytes:
    before, _, after = value.partition(b'"produced_at":"')
    return before + after.partition(b'"')[2]


async def test_an_answer_at_the_event_is_that_of_the_topic_byte_for_byte(served: Served) -> None:
    newest = event(served.serving.bags.bundle, "ada", "item-0", timestamp=NOW)
    expected = without_produced_at(topic_answer(served.serving, newest))
    found = await (await served.get("/v1/users/ada/recommendations?at=event")).read()
    assert without_produced_at(found).startswith(expected[:-1] + b',"items":[],"state":{')
    now = await (await served.get("/v1/users/ada/recommendations")).read()
    assert without_produced_at(now).startswith(expected[:-1])  # without a trend the moment makes no difference


async def test_an_unknown_user_gets_the_prior_and_popular_items(served: Served) -> None:
    found = await (await served.get("/v1/users/nobody/recommendations?items=3")).json()
    assert (found["cold_start"], found["bag_size"], found["event_id"], found["timestamp"]) == (True, 0, "", None)
    assert [item["item_id"] for item in found["items"]] == ["item-9", "item-8", "item-7"]
    assert len(found["categories"]) == 10
    assert found["state"]["source"] == "live"


async def test_an_erased_user_is_unknown(served: Served, bundle: Bundle) -> None:
    served.serving.bags.put(event(bundle, "ada", "", kind="erase", timestamp=NOW))
    found = await served.get("/v1/users/ada/recommendations?items=3")
    body = await found.json()
    assert (found.status, body["cold_start"], body["event_id"], body["attention"]) == (200, True, "", [])
    for path in ("/v1/users/ada", "/v1/users/ada/export", "/v1/users/ada/explanation?category=camera"):
        response = await served.get(path)
        assert (await problem_of(response))["reason"] == "unknown_user"
        assert "item-" not in await response.text()


@pytest.mark.parametrize("k", [1, 3, 25])
async def test_k_is_the_number_of_categories_and_items(served: Served, k: int) -> None:
    found = await (await served.get(f"/v1/users/ada/recommendations?k={k}")).json()
    ten = await (await served.get("/v1/users/ada/recommendations")).json()
    assert (len(found["categories"]), len(found["attention"])) == (k, min(k, 5))
    assert found["categories"][:10] == ten["categories"][:k]
    cold = await (await served.get(f"/v1/users/nobody/recommendations?k={k}")).json()
    assert len(cold["categories"]) == k


async def test_items_are_filtered_and_leave_the_bag_out(served: Served) -> None:
    async def asked(parameters: str) -> set[str]:
        found = await (await served.get(f"/v1/users/ada/recommendations?items=10&{parameters}")).json()
        return {item["item_id"] for item in found["items"]}

    assert await asked("") == {f"item-{number}" for number in range(5, 10)}
    assert await asked("exclude=nothing") == {f"item-{number}" for number in range(10)}
    assert await asked("category=camera") == {"item-5", "item-7", "item-9"}
    assert await asked("exclude=nothing&in_stock=true&category=camera") == {"item-1", "item-5", "item-7", "item-9"}
    assert await asked("price_max=60") == {"item-5", "item-6"}
    found = await (await served.get("/v1/users/ada/recommendations?items=1")).json()
    assert found["items"][0]["because"] in served.serving.bags.bags["ada"].slots


# User ids


@pytest.mark.parametrize(
    "user_id",
    [
        "a/b",
        "a%2Fb",
        "100%",
        "%",
        "ünïcode",
        "🧶👗",
        "x" * 256,
        "🧶" * 256,
        "a b",
        "a+b",
        "..",
        ".",
        "a?b#c",
        "{x}",
        "a:batch",
        "~",
    ],
)
async def test_any_user_id_is_decoded_exactly_once(served: Served, bundle: Bundle, user_id: str) -> None:
    served.serving.bags.put(event(bundle, user_id, "item-8", number=8))
    response = await served.get(
        f"/v1/users/{quote(user_id, safe='')}/recommendations".replace("/./", "/%2E/").replace("/../", "/%2E%2E/")
    )
    found = await response.json()
    assert (found["user_id"], [one["item_id"] for one in found["attention"]]) == (user_id, ["item-8"])


async def test_an_id_that_decodes_twice_is_another_user(served: Served, bundle: Bundle) -> None:
    served.serving.bags.put(event(bundle, "a/b", "item-8", number=8))
    found = await (await served.get("/v1/users/a%252Fb/recommendations")).json()
    assert (found["user_id"], found["cold_start"]) == ("a%2Fb", True)


@pytest.mark.parametrize(
    "path",
    ["x" * 257, "%FF", "%zz", "a%", "%00", "a%0Ab", "%E2%80%AE", "%C0%AF", "%ED%A0%80", "🧶".encode().hex("%")[:-2]],
)
async def test_an_id_that_is_none_is_refused(served: Served, path: str) -> None:
    response = await served.get(f"/v1/users/{path}/recommendations")
    found = await problem_of(response)
    assert (response.status, found["reason"], found["field"]) == (400, "invalid_field", "user_id")


# The bag, and why


async def test_the_bag_says_of_each_item_why_it_was_not_scored(served: Served, bundle: Bundle) -> None:
    bags = served.serving.bags
    bags.put(event(bundle, "ada", "item-1", kind="return", timestamp=NOW + 1))
    other = msgspec.structs.replace(event(bundle, "ada", "old", timestamp=NOW - 9 * DAY), embedder_version="another")
    bags.put(other)
    found = await (await served.get("/v1/users/ada")).json()
    entries = {entry["item_id"]: entry for entry in found["items"]}
    assert entries["item-1"]["not_scored"] == "returned"
    assert entries["old"]["not_scored"] == "no_embedding"
    assert entries["item-0"]["scored"] and entries["item-0"]["not_scored"] is None
    assert entries["item-0"]["image_url"] == "https://shop.example/item-0.jpg"
    assert entries["item-0"]["types"] == {"purchase": "2025-11-28T12:00:00Z"}
    assert sum(entry["weight"] or 0 for entry in entries.values()) == pytest.approx(1, abs=1e-5)
    assert next(entry["item_id"] for entry in found["items"]) == "item-1"  # the newest event


async def test_an_explanation_says_how_much_each_item_raises_a_category(served: Served) -> None:
    found = await (await served.get("/v1/users/ada/explanation?category=camera")).json()
    assert found["category"] == "camera"
    assert {one["item_id"] for one in found["items"]} == set(served.serving.bags.bags["ada"].slots)
    of_item = await (await served.get("/v1/users/ada/explanation?item=item-8")).json()
    assert of_item["item"] == "item-8"


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("", 400, "missing_field"),
        ("?category=camera&item=item-1", 400, "missing_field"),
        ("?category=unheard-of", 404, "unknown_category"),
        ("?item=unheard-of", 404, "unknown_item"),
    ],
)
async def test_an_explanation_needs_one_known_target(served: Served, query: str, status: int, reason: str) -> None:
    response = await served.get(f"/v1/users/ada/explanation{query}")
    assert ((await problem_of(response))["reason"], response.status) == (reason, status)


async def test_given_items_are_ranked_and_unknown_ones_named(served: Served) -> None:
    asked = {"items": ["item-1", "item-9", "gone", "item-1"]}
    found = await (await served.post("/v1/users/ada/rank", asked)).json()
    assert {item["item_id"] for item in found["items"]} == {"item-1", "item-9"}
    assert found["unknown"] == ["gone"]
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)


async def test_many_users_are_answered_as_each_alone(served: Served) -> None:
    found = await (await served.post("/v1/users:batch", {"users": ["ada", "nobody", "bob"], "k": 5, "items": 2})).json()
    for answer in found["users"]:
        alone = await (await served.get(f"/v1/users/{answer['user_id']}/recommendations?k=5&items=2")).json()
        assert {**answer, "produced_at": ""} == {**alone, "produced_at": ""}
    assert [answer["user_id"] for answer in found["users"]] == ["ada", "nobody", "bob"]


# Reading one's own writes


async def test_an_answer_waits_for_an_event(served: Served, bundle: Bundle) -> None:
    path = "/v1/users/ada/recommendations?event_id=e-new&wait_ms=5000"
    asking = asyncio.create_task(served.get(path))
    await asyncio.sleep(0)
    new = event(bundle, "ada", "item-9", number=9, timestamp=NOW + 1, event_id="e-new")
    await served.serving.bags.put_and_tell(new)
    found = await (await asking).json()
    assert (found["up_to_date"], found["event_id"]) == (True, "e-new")


async def test_an_answer_without_the_event_says_so(served: Served) -> None:
    found = await (await served.get("/v1/users/ada/recommendations?event_id=e-never&wait_ms=20")).json()
    assert (found["up_to_date"], found["bag_size"]) == (False, 5)
    assert (await (await served.get("/v1/users/ada/recommendations")).json())["up_to_date"] is None


# Validators


async def test_an_answer_that_is_known_is_not_sent_again(served: Served, bundle: Bundle) -> None:
    path = "/v1/users/ada/recommendations"
    etag = (await served.get(path)).headers["ETag"]
    again = await served.get(path, headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status, await again.read()) == (304, b"")
    for other in (f"{path}?k=3", "/v1/users/bob/recommendations", f"{path}?at=event"):
        assert (await served.get(other, headers={"If-None-Match": etag})).status == 200
    served.serving.bags.put(event(bundle, "ada", "item-9", number=9))
    assert (await served.get(path, headers={"If-None-Match": etag})).status == 200


async def test_an_answer_with_items_is_known_until_the_catalogue_changes(served: Served) -> None:
    path = "/v1/users/ada/recommendations?items=5"
    etag = (await served.get(path)).headers["ETag"]
    assert (await served.get(path, headers={"If-None-Match": etag})).status == 304
    items = served.serving.catalogue.items
    items[9] = msgspec.structs.replace(items[9], price=1.0)
    assert (await served.get(path, headers={"If-None-Match": etag})).status == 200


async def test_an_answer_of_a_stale_replica_is_another_one(served: Served) -> None:
    path = "/v1/users/ada/recommendations"
    etag = (await served.get(path)).headers["ETag"]
    served.serving.bags.source = "stale"
    found = await served.get(path, headers={"If-None-Match": etag})
    assert (found.status, (await found.json())["state"]["source"]) == (200, "stale")


async def test_after_a_bundle_swap_the_answer_is_that_of_the_new_bundle(served: Served, bundle: Bundle) -> None:
    path = "/v1/users/ada/recommendations"
    etag = (await served.get(path)).headers["ETag"]
    recommender = Recommender(bundle, bundle.aggregator(), OPTIONS)
    served.serving.scored_by = Scorer(recommender, Trend(3, {}, len(bundle.categories)))
    assert (await served.get(path, headers={"If-None-Match": etag})).status == 200


async def test_while_a_bundle_is_loaded_the_codes_of_two_are_not_compared(served: Served) -> None:
    served.serving.catalogue.embedder_version = "another one, whose codes have the same length"
    for path in (
        "/v1/users/ada/recommendations?items=3",
        "/v1/users/ada/explanation?item=item-8",
        "/v1/items/item-1/similar",
        "/v1/items",
    ):
        response = await served.get(path)
        assert (response.status, (await problem_of(response))["reason"]) == (503, "not_ready")
    assert (await served.get("/v1/users/ada/recommendations")).status == 200


async def test_a_bundle_swap_during_a_request_changes_the_next_answer_and_not_this_one(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, catalogue = "/v1/users/ada/recommendations?items=3", served.serving.catalogue
    before = await (await served.get(path)).json()
    sibling = Bundle.load(write_sibling(tmp_path / "sibling"))
    nearest = catalogue.nearest

    def swapping(*arguments: Any) -> Any:
        recommender = Recommender(sibling, sibling.aggregator(), OPTIONS)
        served.serving.scored_by = Scorer(recommender, Trend(None, {}, len(sibling.categories)))
        return nearest(*arguments)

    monkeypatch.setattr(catalogue, "nearest", swapping)
    during = await (await served.get(path)).json()
    for one in (before, during):
        del one["produced_at"]
    assert during == before
    after = await (await served.get("/v1/users/ada/recommendations")).json()
    assert (after["model"]["version"], after["cold_start"]) == ("sibling", True), (
        "it knows no code of the other embedder"
    )


# A replica that does not know


async def test_while_the_replica_is_read_nobody_is_unknown(served: Served) -> None:
    served.serving.bags.age = None
    for path in ("/v1/users/nobody", "/v1/users/ada/recommendations", "/v1/users/ada/export"):
        response = await served.get(path)
        assert (response.status, (await problem_of(response))["reason"]) == (503, "not_ready")
        assert "Retry-After" in response.headers


async def test_a_user_of_another_worker_is_misdirected(served: Served) -> None:
    served.serving.bags.not_served = range(4)
    for path in ("/v1/users/ada", "/v1/users/ada/recommendations?event_id=e&wait_ms=1"):
        response = await served.get(path)
        assert (response.status, (await problem_of(response))["reason"]) == (421, "not_served")


async def test_a_disk_that_fails_is_a_problem_of_the_worker(served: Served) -> None:
    served.serving.bags.broken = served.serving.catalogue.broken = True
    for path in ("/v1/users/ada", "/v1/items/item-1/similar"):
        response = await served.get(path)
        assert (response.status, (await problem_of(response))["reason"]) == (503, "state_unreadable")
        assert "RocksDB" not in await response.text()


@pytest.mark.parametrize("path", ["/v1/users/ada/recommendations?items=3", "/v1/items/item-0/similar"])
async def test_while_items_are_read_from_disk_other_answers_do_not_wait(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    catalogue, reading, others = served.serving.catalogue, threading.Event(), threading.Event()
    read = catalogue.at

    def slow(places: Sequence[int]) -> list[Item]:
        reading.set()
        assert others.wait(60)
        return read(places)

    monkeypatch.setattr(catalogue, "at", slow)
    waiting = asyncio.create_task(served.get(path))
    assert await asyncio.to_thread(reading.wait, 60)
    assert not waiting.done()
    assert (await served.get("/v1/users/ada/recommendations")).status == 200
    others.set()
    assert len((await (await waiting).json())["items"]) >= 3


async def test_with_a_trend_the_moment_of_the_event_gives_the_answer_of_the_topic(
    serve: Serve, serving: MadeServing, tmp_path: Path
) -> None:
    bundle = Bundle.load(write_trending(tmp_path / "trending"))
    size = len(bundle.categories)
    rows = {NOW // DAY - day: np.random.default_rng(day).integers(0, 90 * WHOLE_ITEM, size) for day in range(60)}
    caused = event(bundle, "ada", "item-1", timestamp=NOW - 40 * DAY)
    serving.bags.bags["ada"] = fold(Bag(), caused, max_slots=9, kept={bundle.embedder_version})
    serving.scored_by = Scorer(Recommender(bundle, bundle.aggregator(), OPTIONS), Trend(7, rows, size))
    expected = without_produced_at(topic_answer(serving, caused))
    async with serve() as served:
        found = without_produced_at(await (await served.get("/v1/users/ada/recommendations?at=event")).read())
        assert found.startswith(expected[:-1])
        assert b'"trend_version":7' in found
        now = without_produced_at(await (await served.get("/v1/users/ada/recommendations")).read())
        assert not now.startswith(expected[:-1])


async def test_without_an_item_the_categories_are_others_and_the_bag_stays(served: Served) -> None:
    before = await (await served.get("/v1/users/ada")).json()
    item = before["items"][0]["item_id"]
    found = await (await served.get(f"/v1/users/ada/without?item={item}&k=5")).json()
    assert (found["user_id"], found["item"], found["scored"]) == ("ada", item, True)
    scores = {one["category"]: one["score"] for one in before["categories"]}
    assert all(
        one["score"] == pytest.approx(scores[one["category"]], abs=1e-5)
        for one in found["categories"]
        if one["category"] in scores
    )
    assert any(one["without"] != one["score"] for one in found["categories"])
    assert await (await served.get("/v1/users/ada")).json() == before


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("ada/without", 400, "missing_field"),
        ("ada/without?item=nothing", 404, "unknown_item"),
        ("nobody/without?item=item-1", 404, "unknown_user"),
    ],
)
async def test_only_an_item_of_the_bag_can_be_left_out(served: Served, path: str, status: int, reason: str) -> None:
    response = await served.get(f"/v1/users/{path}")
    assert (response.status, (await problem_of(response))["reason"]) == (status, reason)


async def test_while_the_items_are_read_from_disk_categories_are_answered_and_items_have_to_wait(
    served: Served,
) -> None:
    served.serving.catalogue.ready = False
    plain = await served.get("/v1/users/ada/recommendations")
    assert (plain.status, (await plain.json())["items"]) == (200, [])
    assert (await (await served.get("/v1/status")).json())["catalogue_ready"] is False
    waiting = [
        await served.get("/v1/users/ada/recommendations?items=3"),
        await served.get("/v1/users/ada/explanation?item=item-7"),
        await served.get("/v1/items"),
        await served.get("/v1/items/item-1"),
        await served.get("/v1/items:arrivals"),
        await served.get("/v1/items:duplicates"),
        await served.get("/v1/items/item-1/similar"),
        await served.post("/v1/users/ada/rank", {"items": ["item-1"]}),
        await served.post("/v1/users:batch", {"users": ["ada"], "items": 3}),
    ]
    for response in waiting:
        assert (response.status, (await problem_of(response))["reason"]) == (503, "catalogue_not_ready")
        assert response.headers["Retry-After"] == "5"
    served.serving.catalogue.ready = True
    assert len((await (await served.get("/v1/users/ada/recommendations?items=3")).json())["items"]) == 3
