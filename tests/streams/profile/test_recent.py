"""The cache of recent bags: it returns the bag put last, and never exceeds its capacity."""

import tracemalloc
from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.profile.bag import Bag, Moment, Picture, Slot
from streams.profile.recent import RecentBags
from streams.profile.rows import encode_bag, keys_of
from streams.profile.worker import ProfileWorker
from streams.settings import Settings

ROOMY = 1024**3  # bytes


def bag(items: int, number: int = 0) -> Bag:
    moments = (Moment(number, f"e{item}", f"item-{item}", "view") for item in range(items))
    return Bag({moment.item_id: Slot(moment.item_id, {"view": moment}) for moment in moments})


def test_the_bag_put_last_is_returned() -> None:
    recent = RecentBags(100, ROOMY)
    recent.put(0, "ada", bag(1))
    recent.put(0, "ada", bag(2))
    assert recent.get(0, "ada") == bag(2)
    assert recent.get(1, "ada") is None


def test_the_least_recently_used_bags_are_dropped_when_full() -> None:
    recent = RecentBags(12, ROOMY)
    for user in "abc":
        recent.put(0, user, bag(3))  # 3 slots and the user
    recent.get(0, "a")
    recent.put(0, "d", bag(3))
    assert [recent.get(0, user) is not None for user in "abcd"] == [True, False, True, True]
    recent.put(0, "a", bag(11))
    assert [recent.get(0, user) is not None for user in "abcd"] == [True, False, False, False]
    recent.put(0, "e", bag(12))
    assert [recent.get(0, user) for user in "ae"] == [None, None]


def test_bags_of_erased_users_count_as_well() -> None:
    recent = RecentBags(10, ROOMY)
    for number in range(100):
        recent.put(0, f"u{number}", Bag(floor=Moment(1, "", "", "")))
    assert sum(recent.get(0, f"u{number}") is not None for number in range(100)) == 10


def test_forgetting_a_partition_frees_its_slots_and_keeps_the_others() -> None:
    recent = RecentBags(8, ROOMY)
    recent.put(0, "a", bag(3))
    recent.put(1, "b", bag(3))
    recent.forget(0)
    recent.put(1, "c", bag(3))
    assert [recent.get(0, "a"), recent.get(1, "b"), recent.get(1, "c")] == [None, bag(3), bag(3)]


def test_the_keys_of_a_bag_are_those_of_its_rows() -> None:
    with_floor = Bag(bag(3).slots, Moment(1, "", "", ""))
    assert set(keys_of("ada", with_floor)) == set(encode_bag("ada", with_floor))
    assert len(keys_of("ada", with_floor)) == 4


def test_a_partition_that_is_closed_is_read_from_disk_again(tmp_path: Path) -> None:
    table = ProfileWorker(Settings.model_construct(), Bundles(Bundle.load()), tmp_path, partitions=1).table
    table.data.open(0)
    table.data.write(0, dict(encode_bag("ada", bag(2))))
    table._recent.put(0, "ada", bag(2))
    assert table.bag(0, "ada")[1] == bag(2)
    table.data.write(0, dict(encode_bag("ada", bag(3))))  # as another worker's rows come in by a recovery
    assert table.bag(0, "ada")[1] == bag(2)
    table.data.close(0)
    table.data.open(0)
    keys, found = table.bag(0, "ada")
    assert found == bag(3)
    assert sorted(keys) == sorted(encode_bag("ada", bag(3)))


def heavy(user: int, fill: str, items: int) -> Bag:
    """A bag whose texts are all different objects, as if they came from disk."""

    def moment(item: int, kind: str) -> Moment:
        return Moment(user, f"e{user}-{item}-{kind}{fill}", f"i{user}-{item}{fill}", kind)

    slots = [
        Slot(
            f"i{user}-{item}{fill}",
            {kind: moment(item, kind) for kind in ("view", "cart", "purchase", "return")},
            (Picture(moment(item, "view"), f"v{item}", f"http://{user}/{item}{fill * 4}", item.to_bytes(136, "big")),),
        )
        for item in range(items)
    ]
    return Bag({slot.item_id: slot for slot in slots})


@pytest.mark.parametrize("fill", ["", "x" * 250, "\U0001f455" * 250], ids=["short", "long", "emoji"])
@pytest.mark.parametrize("items", [0, 1, 64])
def test_recent_bags_take_no_more_memory_than_they_may(fill: str, items: int) -> None:
    limit = 2 * 1024**2
    tracemalloc.start()
    try:
        recent = RecentBags(10**9, limit)
        for user in range(3000 // (items + 1) + 100):
            recent.put(0, f"u{user}{fill}", heavy(user, fill, items))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= limit


def test_a_bag_that_changes_counts_as_if_it_were_new() -> None:
    changed, new = RecentBags(100, ROOMY), RecentBags(100, ROOMY)
    for items in (3, 5, 0, 2):
        changed.put(0, "ada", heavy(1, "x", items))
    new.put(0, "ada", heavy(1, "x", 2))
    assert changed._bytes == new._bytes
    changed.forget(0)
    assert changed._bytes == changed._held == 0
