"""What is read between two assignments is read again, and never skipped."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.engine.consumer import Consumer

TP = TopicPartition("events", 0)


class Client:
    """As much of aiokafka's client as matters here: a log, and a position that a poll moves."""

    def __init__(self) -> None:
        self.log: list[int] = []
        self.position_of = 0
        self.end = 10
        self._arrived = asyncio.Event()

    def append(self, *offsets: int) -> None:
        self.log += offsets
        self._arrived.set()

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        async with asyncio.timeout(timeout_ms / 1000):
            while not (found := [offset for offset in self.log if offset >= self.position_of]):
                self._arrived.clear()
                await self._arrived.wait()
        self.position_of = found[-1] + 1
        return {TP: found}

    async def committed(self, tp: TopicPartition) -> int:
        await asyncio.sleep(0)
        return 3

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)

    async def position(self, tp: TopicPartition) -> int:
        return self.position_of

    async def seek_to_beginning(self, tp: TopicPartition) -> None:
        self.position_of = 0

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.position_of = offset


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Consumer.__new__(Consumer)
    made.reading = 1
    made._polling = None
    monkeypatch.setattr(Consumer, "_client", Client())
    return made


async def test_a_poll_of_an_earlier_reading_swallows_nothing_of_the_next(consumer: Any) -> None:
    stale = asyncio.create_task(consumer._poll(1, [TP], 10))
    await asyncio.sleep(0)
    consumer.reading = 2  # the partitions are revoked, and assigned again
    assert await consumer._go_to_committed([TP]) == {TP: 3}
    consumer._client.append(3, 4)

    assert await stale == ({}, {})
    assert await consumer._poll(2, [TP], 10) == ({TP: [3, 4]}, {TP: 5})


async def test_a_poll_that_comes_too_late_does_not_begin(consumer: Any) -> None:
    consumer._client.append(0)
    consumer.reading = 2
    assert await consumer._poll(1, [TP], 10) == ({}, {})
    assert consumer._client.position_of == 0


async def test_what_is_polled_comes_back(consumer: Any) -> None:
    polling = asyncio.create_task(consumer._poll(1, [TP], 10))
    await asyncio.sleep(0)
    consumer._client.append(0, 1)
    assert await polling == ({TP: [0, 1]}, {TP: 2})


async def test_a_topic_that_ends_before_the_committed_offset_is_read_from_its_start(consumer: Any) -> None:
    """It was cut off or made anew; aiokafka would go to the start by itself, and tell nobody."""
    consumer._client.end = 2
    assert await consumer._go_to_committed([TP]) == {TP: 0}
