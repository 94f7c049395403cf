"""New items, and whose taste they meet: what the recommendations say, of a sample of bags, without a name."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from streams.profile.bag import Bag
from streams.serve.api import tastes
from streams.serve.api.tastes import sample
from streams.serve.interface import Item
from tests.streams.serve.api.conftest import Served
from tests.streams.serve.made import NOW, MadeServing, event

PATH = "/v1/items:arrivals?n=48"
USERS = [f"shopper-{number}" for number in range(9)]


@pytest.fixture
def serving(serving: MadeServing) -> MadeServing:
    """Fifty more items, and nine more users with a bag."""
    bundle = serving.bags.bundle
    for number in range(10, 60):
        item = Item(item_id=f"item-{number}", image_url="https://shop.example/a.jpg", listed=True, arrived=NOW + number)
        serving.catalogue.add(item, number, popularity=number % 3)
    for number, user in enumerate(USERS):
        for item in range(number, number + 3):
            serving.bags.put(event(bundle, user, f"item-{7 * item}", number=7 * item))
    serving.bags.put(event(bundle, "cold", "item-1", number=1))
    serving.bags.put(event(bundle, "cold", "item-1", kind="return", timestamp=NOW + 1))
    serving.bags.put(event(bundle, "erased", "item-1", number=1))
    serving.bags.put(event(bundle, "erased", "", kind="erase", timestamp=NOW + 1))
    return serving


async def counted(served: Served, path: str = PATH) -> dict[str, Any]:
    """The answer, once all bags of the sample were looked at."""
    async with asyncio.timeout(60):
        while True:
            response = await served.get(path)
            assert response.status == 200, await response.text()
            answer = await response.json()
            if answer["sample"]["complete"]:
                return answer
            await asyncio.sleep(0.01)


async def test_an_item_meets_the_tastes_of_those_to_whom_it_is_recommended(served: Served) -> None:
    answer = await counted(served)
    shown: Counter[str] = Counter()
    for user in ["ada", "bob", *USERS]:
        found = await (await served.get(f"/v1/users/{user}/recommendations?items=12")).json()
        assert len(found["items"]) == answer["sample"]["recommended"] == 12
        shown.update(one["item_id"] for one in found["items"])
    assert {one["item_id"]: one["tastes"] for one in answer["items"]} == {
        one["item_id"]: shown[one["item_id"]] for one in answer["items"]
    }
    assert len({one["tastes"] for one in answer["items"]}) > 2
    assert answer["sample"]["bags"] == 2 + len(USERS)  # neither the cold one nor the erased one has a taste
    assert answer["sample"]["at"] == "2025-11-28T12:00:00Z"
    assert [one["item_id"] for one in answer["items"]][:2] == ["item-59", "item-58"]


async def test_no_user_is_named(served: Served) -> None:
    await counted(served)
    text = await (await served.get(PATH)).text()
    assert not [user for user in ["ada", "bob", "cold", *USERS] if user in text]


async def test_the_first_answer_comes_at_once_and_says_that_nothing_was_counted_yet(served: Served) -> None:
    answer = await (await served.get(PATH)).json()
    assert answer["sample"] == {"bags": 0, "recommended": 12, "complete": False, "at": None}
    assert {one["tastes"] for one in answer["items"]} == {None}


async def test_an_item_that_came_after_the_sample_has_no_count_yet(served: Served) -> None:
    await counted(served)
    served.serving.catalogue.add(Item(item_id="newest", listed=True, arrived=NOW + 1000), 200)
    answer = await counted(served)
    assert [(one["item_id"], one["tastes"] is None) for one in answer["items"]][:2] == [
        ("newest", True), ("item-59", False),
    ]  # fmt: skip


async def test_the_same_answer_is_not_sent_twice(served: Served) -> None:
    await counted(served)
    response = await served.get(PATH)
    again = await served.get(PATH, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


async def test_a_disk_that_fails_leaves_the_items_without_a_count(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.serving.bags.broken = True
    answer = await (await served.get(PATH)).json()
    assert {one["tastes"] for one in answer["items"]} == {None}
    async with asyncio.timeout(60):
        while "IO error" not in caplog.text:  # noqa: ASYNC110 -- the log tells nobody
            await asyncio.sleep(0.01)


async def test_items_that_are_being_read_are_a_problem(served: Served) -> None:
    served.serving.catalogue.ready = False
    assert (await served.get(PATH)).status == 503


@pytest.mark.parametrize("query", ["?n=0", "?n=49", "?which=new"])
async def test_a_parameter_that_there_is_not_is_refused(served: Served, query: str) -> None:
    assert (await served.get(f"/v1/items:arrivals{query}")).status == 400


# -- the sample


class Pages:
    """Bags in key order, `size` at a time, and from the start again."""

    def __init__(self, users: int, size: int, bag: Bag) -> None:
        self.bags = {str(number): bag for number in range(users)}
        self.size = size
        self.reads = self.start = 0

    def sample(self, slots: int) -> dict[str, Bag]:
        del slots
        self.reads += 1
        some = list(self.bags.items())[self.start : self.start + self.size]
        self.start = self.start + self.size if self.start + self.size < len(self.bags) else 0
        return dict(some)


@pytest.mark.parametrize(
    ("users", "size", "found", "reads"), [(0, 5, 0, 1), (7, 100, 7, 2), (1000, 90, 200, 3), (10_000, 3, 24, 8)]
)
async def test_each_bag_is_in_the_sample_once_and_the_reads_have_an_end(
    serving: MadeServing, users: int, size: int, found: int, reads: int
) -> None:
    pages: Any = Pages(users, size, serving.bags.bags["ada"])
    assert len(await sample(pages, tastes.BAGS)) == found
    assert pages.reads == reads


async def test_bags_of_erased_users_are_not_in_the_sample() -> None:
    pages: Any = Pages(50, 10, Bag())
    assert await sample(pages, tastes.BAGS) == []
