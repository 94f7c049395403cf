"""The catalogue itself over HTTP: listings, and one item with the one that is most like it."""

from typing import Any
from urllib.parse import quote

import pytest

from streams.serve.interface import Item
from tests.streams.serve.api.conftest import Served, problem_of


async def listed(served: Served, query: str = "") -> list[dict[str, Any]]:
    response = await served.get(f"/v1/items{query}")
    assert response.status == 200, await response.text()
    return (await response.json())["items"]


async def test_the_newest_items_come_first(served: Served) -> None:
    found = await listed(served, "?n=3")
    assert [one["item_id"] for one in found] == ["item-0", "item-1", "item-2"]
    assert found[0]["arrived"] == "2025-11-28T12:00:00Z"
    assert all(one["listed"] and one["pictured"] for one in found)


async def test_the_items_that_most_bags_hold_come_first(served: Served) -> None:
    found = await listed(served, "?which=held&n=2")
    assert [(one["item_id"], one["holders"]) for one in found] == [("item-9", 9), ("item-8", 8)]


async def test_each_item_has_the_one_that_is_most_like_it_and_never_itself(served: Served) -> None:
    for one in await listed(served):
        [similar] = (await (await served.get(f"/v1/items/{one['item_id']}/similar?n=1")).json())["items"]
        assert one["nearest"]["item_id"] == similar["item_id"] != one["item_id"]
        assert one["nearest"]["score"] == pytest.approx(similar["score"], abs=1e-5)


async def test_an_item_with_the_same_picture_has_a_cosine_of_one(served: Served) -> None:
    served.serving.catalogue.add(Item(item_id="copy", arrived=1), 4)
    found = await (await served.get("/v1/items/copy")).json()
    assert found["nearest"]["item_id"] == "item-4"
    assert found["nearest"]["score"] == pytest.approx(1, abs=1e-5)


async def test_a_single_item_has_none_that_is_like_it(served: Served) -> None:
    served.serving.catalogue.__init__(served.serving.bags.bundle)
    served.serving.catalogue.add(Item(item_id="only", arrived=1), 1)
    [found] = await listed(served)
    assert (found["item_id"], found["nearest"]) == ("only", None)


async def test_an_item_that_is_not_there_is_unknown(served: Served) -> None:
    response = await served.get("/v1/items/nothing")
    assert (response.status, (await problem_of(response))["reason"]) == (404, "unknown_item")


@pytest.mark.parametrize("item_id", ["a/b", "a%2Fb", "50%", "🧶👗", "x" * 256, "a?b#c", "a b", "..", "a:batch"])
async def test_any_item_id_is_decoded_exactly_once(served: Served, item_id: str) -> None:
    served.serving.catalogue.add(Item(item_id=item_id, arrived=1), 4)
    path = f"/v1/items/{quote(item_id, safe='')}".replace("/..", "/%2E%2E")
    assert (await (await served.get(path)).json())["item_id"] == item_id
    similar = await (await served.get(f"{path}/similar?n=1")).json()
    assert [one["item_id"] for one in similar["items"]] == ["item-4"]
    asked = await served.get(f"/v1/users/ada/explanation?item={quote(item_id, safe='')}")
    assert asked.status == 200, await asked.text()
    ranked = await (await served.post("/v1/users/ada/rank", {"items": [item_id, "nothing"]})).json()
    assert ([one["item_id"] for one in ranked["items"]], ranked["unknown"]) == ([item_id], ["nothing"])
    twice = await served.get(f"/v1/items/{quote(quote(item_id, safe=''), safe='')}")
    assert twice.status == (404 if quote(item_id, safe="") != item_id else 200)


@pytest.mark.parametrize("path", ["x" * 257, "%FF", "a%", "%00", "%E2%80%AE"])
async def test_an_item_id_that_is_none_is_refused(served: Served, path: str) -> None:
    for asked in (f"/v1/items/{path}", f"/v1/items/{path}/similar"):
        response = await served.get(asked)
        found = await problem_of(response)
        assert (response.status, found["reason"], found["field"]) == (400, "invalid_field", "item_id")


@pytest.mark.parametrize("query", ["?which=all", "?n=0", "?n=49", "?sort=new"])
async def test_a_listing_that_there_is_not_is_refused(served: Served, query: str) -> None:
    assert (await served.get(f"/v1/items{query}")).status == 400
