"""Records in flight, and records that are fetched ahead, are bounded in bytes as well as in numbers."""

import asyncio
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher

from streams.engine.fetch_pacing import LARGEST_PARTITION_FETCH, SMALLEST_PARTITION_FETCH, limit_fetches
from streams.engine.in_flight import InFlightTracker, Room, size_of
from streams.kafka.records import Record
from tests.records import record

SMALL, MANY = TopicPartition("events", 0), TopicPartition("events", 1)
LIMIT = 100_000  # bytes
LARGE = record(value=bytes(LIMIT))


def tracker(*partitions: TopicPartition) -> InFlightTracker:
    made = InFlightTracker(1000, LIMIT)
    made.begin(dict.fromkeys(partitions, 0))
    return made


async def test_a_partition_has_room_for_its_share_of_the_bytes() -> None:
    tracked = tracker(SMALL, MANY)
    one = record(value=bytes(20_000))
    tracked.put(SMALL, [one])
    left = LIMIT // 2 - size_of(one)
    assert await tracked.room() == {SMALL: Room(499, left), MANY: Room(500, LIMIT // 2)}


async def test_a_record_that_is_larger_than_the_share_passes_and_nothing_of_its_partition_after_it() -> None:
    tracked = tracker(SMALL, MANY)
    tracked.put(SMALL, [record(value=bytes(LIMIT // 2))])
    assert list(await tracked.room()) == [MANY], "a large record takes the room of its own partition only"
    [large] = await tracked.take(10)
    large.finish()
    assert list(await tracked.room()) == [SMALL, MANY]


async def test_all_partitions_wait_while_large_records_fill_the_whole_memory() -> None:
    tracked = tracker(SMALL, MANY)
    tracked.put(SMALL, [LARGE])
    waiting = asyncio.ensure_future(tracked.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    [large] = await tracked.take(10)
    large.finish()
    assert set(await waiting) == {SMALL, MANY}


async def test_a_finished_record_takes_no_memory_while_it_waits_behind_a_slow_one() -> None:
    tracked = tracker(SMALL)
    tracked.put(SMALL, [record(), *[record(offset=1 + number, value=bytes(LIMIT // 20)) for number in range(9)]])
    slow, *others = await tracked.take(100)
    before = (await tracked.room())[SMALL]
    for one in others:
        one.finish()
    after = (await tracked.room())[SMALL]
    assert after.records == before.records == 1000 - 10
    assert after.size == LIMIT - size_of(slow.record)
    assert not any(hasattr(one, "record") for one in others)


async def test_a_new_generation_begins_with_all_of_the_memory() -> None:
    tracked = tracker(SMALL)
    tracked.put(SMALL, [LARGE])
    [old] = await tracked.take(1)
    tracked.begin({SMALL: 0})
    old.finish()
    assert await tracked.room() == {SMALL: Room(1000, LIMIT)}


def an_event(number: int) -> Record:
    return record(offset=number, key=b"%06d" % number, value=b"%0300d" % number)


def with_a_hundred_headers(number: int) -> Record:
    return record(offset=number, headers=[(f"{one:04}", b"%06d" % number) for one in range(100)])


def with_a_long_name(number: int) -> Record:
    return record(offset=number, headers=[(f"{number:0500}", b"")])


@pytest.mark.parametrize("made", [an_event, with_a_hundred_headers, with_a_long_name])
async def test_the_size_of_a_record_covers_its_objects(made: Callable[[int], Record]) -> None:
    tracked = tracker(SMALL)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        records: list[Record] = [made(number) for number in range(200)]
        tracked.put(SMALL, records)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.2 * sum(map(size_of, records)) < used < sum(map(size_of, records))


class Cluster:
    """The part of aiokafka's state that a fetch request is made of: three brokers, and every partition is read at offset 0."""

    _metadata_max_age_ms = 1000
    subscription = None

    def __init__(self, partitions: int) -> None:
        self.tps = [TopicPartition("events", number) for number in range(partitions)]
        self.cluster = self
        self._loop = asyncio.get_running_loop()

    def register_fetch_waiters(self, waiters: object) -> None:
        """Nobody waits."""

    async def wait_for_assignment(self) -> None:
        await asyncio.Event().wait()

    def leader_for_partition(self, tp: TopicPartition) -> int:
        return tp.partition % 3

    def state_value(self, tp: TopicPartition) -> Any:
        return SimpleNamespace(has_valid_position=True, paused=False, position=tp.partition)


@pytest.mark.parametrize(
    ("partitions", "share"), [(1, LARGEST_PARTITION_FETCH), (64, 2**18), (10**4, SMALLEST_PARTITION_FETCH)]
)
async def test_the_requests_of_a_running_client_ask_for_a_share_of_the_memory(partitions: int, share: int) -> None:
    cluster: Any = Cluster(partitions)
    fetcher: Any = Fetcher(cluster, cluster)
    try:
        consumer: Any = SimpleNamespace(_fetcher=fetcher)
        limit_fetches(consumer, 2**24, partitions)
        requests, *_ = fetcher._get_actions_per_node(cluster)
    finally:
        await fetcher.close()
    assert len(requests) == min(partitions, 3)
    asked = [[size for _, topics in request.topics for *_, size in topics] for _, request in requests]
    assert {size for sizes in asked for size in sizes} == {share}
    assert all(request._max_bytes == 2**24 for _, request in requests)


async def test_a_client_that_has_not_started_starts_with_the_limit() -> None:
    consumer: Any = SimpleNamespace(_fetcher=None)
    limit_fetches(consumer, 2**24)
    assert (consumer._fetch_max_bytes, consumer._max_partition_fetch_bytes) == (2**24, LARGEST_PARTITION_FETCH)
