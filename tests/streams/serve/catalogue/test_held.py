"""Which items the bags hold, told while partitions are read, change, go and come again: it equals a count of all bags."""

import asyncio
import random
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.messages import EmbeddedInteraction, InteractionType
from streams.profile.bag import Bag
from streams.profile.prepared import code_state
from streams.profile.rows import encode_bag, prefix_of
from streams.serve.catalogue import held as module
from streams.serve.catalogue.held import HeldItems
from streams.serve.prepared import PreparedItems
from tests.streams.serve.catalogue.made import VERSION, Made, bag_of, event

PARTITIONS, USERS, ITEMS = 3, 5, 8
DAY = 86_400_000  # milliseconds
WEEK = 7 * DAY
KINDS: list[InteractionType] = ["view", "purchase", "return"]


class Disk:
    """The bags of some partitions, and who is told of them, as the replica does it."""

    def __init__(self) -> None:
        self.bags: dict[int, dict[str, Bag]] = {}
        self.watcher: HeldItems | None = None

    def users_after(self, partition: int, prefix: bytes, least: int) -> list[tuple[bytes, bytes]]:
        rows = sorted(row for user, bag in self.bags[partition].items() for row in encode_bag(user, bag).items())
        found: list[tuple[bytes, bytes]] = []
        for key, value in rows:
            if prefix_of(key) <= prefix:
                continue
            if len(found) >= least and prefix_of(key) != prefix_of(found[-1][0]):
                break
            found.append((key, value))
        return found

    def open(self, partition: int, bags: dict[str, Bag]) -> None:
        self.bags[partition] = bags
        assert self.watcher is not None
        self.watcher.opened(partition)

    def close(self, partition: int) -> None:
        del self.bags[partition]
        assert self.watcher is not None
        self.watcher.closed(partition)

    def write(self, partition: int, one: EmbeddedInteraction) -> None:
        before = self.bags[partition].get(one.user_id, Bag())
        after = self.bags[partition][one.user_id] = bag_of(one, bag=before)
        assert self.watcher is not None
        self.watcher.written(partition, {one.user_id: before}, {one.user_id: after})

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """How many bags hold each item, and how many touched it in the newest five weeks."""
        bags = [bag for bags in self.bags.values() for bag in bags.values()]
        slots = [slot for bag in bags for slot in bag.slots.values()]
        moments = [moment for slot in slots for moment in slot.newest.values()]
        moments += [bag.floor for bag in bags if bag.floor is not None]
        newest = max((moment.timestamp // WEEK for moment in moments), default=0)
        touched = {
            id(slot): max(moment.timestamp // WEEK for moment in slot.since_return.values())
            for slot in slots
            if slot.since_return
        }
        return (
            Counter(slot.item_id for slot in slots if id(slot) in touched),
            Counter(slot.item_id for slot in slots if touched.get(id(slot), newest - 5) > newest - 5),
        )

    def states(self) -> Counter[str]:
        """The items with a picture, by the state of their code."""
        slots = [slot for bags in self.bags.values() for bag in bags.values() for slot in bag.slots.values()]
        return Counter(state for slot in slots if (state := code_state(slot, VERSION)) is not None)


@pytest.fixture
def made(tmp_path: Path) -> Generator[Made]:
    made = Made(tmp_path)
    yield made
    made.store.close()


def told(made: Made) -> tuple[Counter[str], Counter[str]]:
    """How many bags hold each item, and how many touched it lately, as the catalogue was told."""
    catalogue = made.catalogue
    places = {f"item-{number}": catalogue.place(f"item-{number}") for number in range(ITEMS)}
    known = {item: place for item, place in places.items() if place is not None}
    holders, recent = catalogue._memory.columns.holders, catalogue.popularity
    return (
        Counter({item: int(holders[place]) for item, place in known.items()}),
        Counter({item: int(recent[place]) for item, place in known.items() if recent[place]}),
    )


@pytest.mark.parametrize("seed", range(8))
async def test_the_items_are_those_that_a_count_of_all_bags_finds(
    made: Made, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE", 3)  # several slices for each partition
    chance, disk = random.Random(seed), Disk()
    time = 0

    def some_event(partition: int) -> EmbeddedInteraction:
        nonlocal time
        time += chance.choice([0, 1, 5 * DAY, 2 * WEEK]) if chance.random() < 0.1 else 1
        user, item = f"user-{partition}-{chance.randrange(USERS)}", f"item-{chance.randrange(ITEMS)}"
        kind: InteractionType = "erase" if chance.random() < 0.03 else chance.choice(KINDS)
        return event(user, item, kind, timestamp=max(time - chance.choice([0, 0, DAY, 4 * WEEK]), 0))

    def some_bags(partition: int) -> dict[str, Bag]:
        bags: dict[str, Bag] = {}
        for _ in range(20):
            one = some_event(partition)
            bags[one.user_id] = bag_of(one, bag=bags.get(one.user_id))
        return bags

    prepared = PreparedItems(VERSION)
    with ThreadPoolExecutor(1) as thread:
        disk.watcher = held = HeldItems([made.catalogue, prepared], thread, disk.users_after)
        running = asyncio.create_task(held.run())
        for partition in range(PARTITIONS):
            disk.open(partition, some_bags(partition))
        for _ in range(200):
            partition = chance.randrange(PARTITIONS)
            if partition not in disk.bags:
                disk.open(partition, some_bags(partition))
            elif chance.random() < 0.05:
                disk.close(partition)
            else:
                disk.write(partition, some_event(partition))
            if chance.random() < 0.3:
                await asyncio.sleep(0.001)
        async with asyncio.timeout(60):
            while told(made) != disk.counts() or not held.counted:  # noqa: ASYNC110 -- it tells nobody when it is done
                await asyncio.sleep(0.01)
        await held._jobs.join()
        assert told(made) == disk.counts(), "and it stays so"
        assert prepared.states == disk.states()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
