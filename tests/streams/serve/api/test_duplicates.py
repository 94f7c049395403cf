"""Items with the same picture, in groups, page by page."""

import asyncio
from typing import Any

import pytest

from streams.serve.api.duplicates import ALIKE
from streams.serve.interface import Item
from streams.serve.page.static import FILES
from tests.streams.serve.api.conftest import Served

PATH = "/v1/items:duplicates"


async def searched(served: Served, query: str = "") -> dict[str, Any]:
    """The answer, once all items were compared."""
    async with asyncio.timeout(60):
        while True:
            response = await served.get(f"{PATH}{query}")
            assert response.status == 200, await response.text()
            answer = await response.json()
            if answer["left"] == 0:
                return answer
            await asyncio.sleep(0.01)


def copies(served: Served, *pictures: int) -> None:
    for place, picture in enumerate(pictures):
        served.serving.catalogue.add(Item(item_id=f"copy-{place}", title=f"Copy {place}"), picture)


def ids(answer: dict[str, Any]) -> list[list[str]]:
    return [[one["item_id"] for one in group["items"]] for group in answer["groups"]]


async def test_a_catalogue_without_duplicates_has_none(served: Served) -> None:
    first = await (await served.get(PATH)).json()
    assert (first["groups"], first["left"]) == ([], None)
    answer = await searched(served)
    assert answer == {"groups": [], "found": 0, "items": 0, "least": ALIKE, "left": 0}


async def test_items_with_one_picture_are_a_group_the_largest_first(served: Served) -> None:
    copies(served, 4, 7, 7)
    answer = await searched(served)
    assert ids(answer) == [["item-7", "copy-1", "copy-2"], ["item-4", "copy-0"]]
    assert [group["count"] for group in answer["groups"]] == [3, 2]
    assert {one["score"] for group in answer["groups"] for one in group["items"]} == {1.0}
    assert (answer["found"], answer["items"]) == (2, 5)


async def test_an_item_is_in_the_list_if_the_one_that_is_most_like_it_is_near_enough(served: Served) -> None:
    copies(served, 4, 7, 7)
    listed = {item for group in ids(await searched(served)) for item in group}
    for number in range(10):
        one = await (await served.get(f"/v1/items/item-{number}")).json()
        assert (one["nearest"]["score"] >= ALIKE) == (f"item-{number}" in listed)


async def test_the_list_has_pages_and_a_group_names_some_of_its_items(served: Served) -> None:
    copies(served, *[3] * 20, 4, 5)
    answer = await searched(served)
    assert [group["count"] for group in answer["groups"]] == [21, 2, 2]
    assert [len(group["items"]) for group in answer["groups"]] == [8, 2, 2]
    second = await searched(served, "?start=1&n=1")
    assert second["groups"] == answer["groups"][1:2]
    assert second["found"] == 3
    assert (await searched(served, "?start=3"))["groups"] == []


async def test_items_that_are_gone_since_are_not_listed(served: Served) -> None:
    copies(served, 4, 7, 7)
    await searched(served)
    catalogue = served.serving.catalogue
    catalogue.replace("copy-0", 100)
    catalogue.replace("copy-1", 101)
    answer = await searched(served)
    assert ids(answer) == [["item-7", "copy-2"]]
    assert answer["groups"][0]["count"] == 2


def test_the_page_marks_a_twin_from_the_same_cosine_on() -> None:
    assert f"const TWIN = {ALIKE}; " in (FILES / "screens/catalogue.js").read_text()


async def test_the_same_answer_is_not_sent_twice(served: Served) -> None:
    await searched(served)
    response = await served.get(PATH)
    again = await served.get(PATH, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status == 304


async def test_an_item_may_have_the_name_of_the_list(served: Served) -> None:
    served.serving.catalogue.add(Item(item_id="duplicates"), 400)
    assert (await (await served.get("/v1/items/duplicates")).json())["item_id"] == "duplicates"


@pytest.mark.parametrize("query", ["?n=0", "?n=25", "?start=-1", "?least=0.5"])
async def test_a_parameter_that_there_is_not_is_refused(served: Served, query: str) -> None:
    assert (await served.get(f"{PATH}{query}")).status == 400
