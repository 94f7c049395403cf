"""The number of partitions that the bags are spread over follows from where their rows are."""

import asyncio
import random
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.exceptions import BrokerUnreachable
from streams.kafka.partitioning import partition_of
from streams.profile.rows import user_prefix
from streams.profile.spread import partitions_of_bags, spread
from streams.settings import Settings
from tests.records import record


def rows(users: int, partitions: int, *, seed: int = 0) -> list[tuple[int, bytes]]:
    """Partition and key of a header row of each user."""
    names = [f"user-{number}" for number in random.Random(seed).sample(range(10_000), users)]
    return [(partition_of(name.encode(), partitions), user_prefix(name) + b"\x00") for name in names]


@pytest.mark.parametrize("partitions", [1, 2, 3, 4, 8, 30, 100])
@pytest.mark.parametrize("more", [0, 1, 2, 28])
def test_the_number_at_the_first_bag_is_found(partitions: int, more: int) -> None:
    """Partitions were added to one topic or to both."""
    found = rows(20 * partitions, partitions)
    assert spread(found, usual=partitions + more, most=partitions + more) == partitions
    assert spread(found, usual=partitions, most=partitions + more) == partitions


def test_a_topic_of_events_that_is_smaller_than_the_changelog_does_not_change_the_number() -> None:
    assert spread(rows(40, 4), usual=2, most=4) == 4


@pytest.mark.parametrize(("usual", "most"), [(4, 4), (4, 6), (6, 6)])
def test_without_bags_the_topics_decide(usual: int, most: int) -> None:
    assert spread([], usual=usual, most=most) == usual


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("users", [1, 2, 3])
def test_a_few_users_are_found_where_they_are(users: int, seed: int) -> None:
    """Several numbers may explain their rows; any of them is right."""
    found = rows(users, 4, seed=seed)
    number = spread(found, usual=6, most=6)
    assert all(partition_of(key[2:-1], number) == partition for partition, key in found)


def test_rows_of_strangers_change_nothing() -> None:
    foreign = [
        *((number, user_prefix("nobody") + b"\x00") for number in range(6)),
        (0, b""),
        (1, b"\x00"),
        (2, b"\xff\xff"),
        (3, b"\x00\x00\x00"),
        (4, b"\x00\x09short"),
    ]
    assert spread([*rows(40, 4), *foreign], usual=6, most=6) == 4
    assert spread(foreign, usual=4, most=6) == 4


class Changelog:
    """A consumer of a changelog with rows over four partitions of six. Each request gives the next ten offsets of a partition."""

    def __init__(self, *, first: int, answers: bool = True) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self._first = first  # the offset of the first row; those before it are gone
        self._answers = answers
        self._rows = rows(40, 4)

    def __call__(self, **_: Any) -> "Changelog":
        return self

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: 30 if tp.partition < 4 else 0 for tp in partitions}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        if not self._answers:
            return {}
        found: dict[TopicPartition, list[Any]] = {}
        for tp in partitions:
            self.positions[tp] += 10
            if self.positions[tp] > self._first:
                found[tp] = [record(tp.topic, *tp[1:], key=key) for number, key in self._rows if number == tp.partition]
        return found


async def number_of(changelog: Changelog, monkeypatch: pytest.MonkeyPatch) -> int:
    settings = Settings.model_construct()
    monkeypatch.setattr("streams.profile.spread.AIOKafkaConsumer", changelog)
    monkeypatch.setattr("streams.profile.spread.PATIENCE", 0.1)
    return await partitions_of_bags(settings, {settings.embedded_topic: 6, settings.bags_changelog: 6})


@pytest.mark.parametrize("first", [0, 25], ids=["at the start", "behind batches without rows"])
async def test_the_first_rows_are_found(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    assert await number_of(Changelog(first=first), monkeypatch) == 4


async def test_a_changelog_without_rows_leaves_the_number_to_the_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await number_of(Changelog(first=1000), monkeypatch) == 6


async def test_rows_that_do_not_come_are_no_reason_to_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerUnreachable, match="no rows"):
        await number_of(Changelog(first=0, answers=False), monkeypatch)
