"""New features are published together, and whoever made them waits for the broker."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streams.embed.disk_cache import DiskCache
from streams.exceptions import DeliveryError
from streams.features import sharing
from streams.features.follower import Follower
from streams.features.records import Features, encode_features, features_key
from streams.features.sharing import Sharing
from streams.features.taking import Own
from streams.kafka.records import Outgoing
from streams.settings import read_settings

NOW = 1_700_000_000.0


class Topic:
    """Takes records when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Outgoing]] = []
        self.asked = asyncio.Event()
        self.may_take = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, records: list[Outgoing]) -> None:
        self.batches.append(records)
        self.asked.set()
        await self.may_take.wait()
        if self.error:
            raise self.error


@pytest.fixture
def own() -> Own:
    return Own()


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def shared(topic: Topic, own: Own, tmp_path: Path) -> Any:
    disk = DiskCache(tmp_path / "c", row_bytes={"v1": 3}, max_bytes=1024**2, max_age=60)
    follower = Follower(read_settings(), disk, {"v1": 3}, tmp_path / "p.json", own=own)
    yield Sharing(topic.send, own, follower)
    disk.close()


async def test_features_that_wait_while_the_broker_is_busy_share_one_batch(shared: Sharing, topic: Topic) -> None:
    sent = [asyncio.create_task(shared.publish(f"u{number}", {"v1": b"row"}, now=NOW)) for number in range(4)]
    async with asyncio.timeout(60):
        await topic.asked.wait()
    sent += [asyncio.create_task(shared.publish("u9", {"v1": b"row", "v2": b"row"}, now=NOW))]
    done, _ = await asyncio.wait(sent, timeout=0.05)
    assert not done
    topic.may_take.set()
    await asyncio.gather(*sent)
    assert [len(batch) for batch in topic.batches] == [4, 2]
    value = encode_features(Features(int(NOW * 1000), b"row"))
    assert topic.batches[1] == [(features_key("v1", "u9"), value, ()), (features_key("v2", "u9"), value, ())]


async def publish_one_by_one(shared: Sharing, count: int) -> None:
    """Publish pictures so that each could be sent before the next one comes."""
    sent: list[asyncio.Task[None]] = []
    for number in range(count):
        sent.append(asyncio.create_task(shared.publish(f"u{number}", {"v1": b"row"}, now=NOW)))
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.gather(*sent)


async def test_a_flood_is_sent_in_few_batches_although_the_broker_answers_at_once(
    shared: Sharing, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "PAUSE", 0.5)
    topic.may_take.set()
    await publish_one_by_one(shared, sharing.FLOOD + 20)
    sizes = [len(batch) for batch in topic.batches]
    assert sizes[: sharing.FLOOD - 1] == [1] * (sharing.FLOOD - 1), "nobody waits before there is a flood"
    assert len(sizes) <= sharing.FLOOD + 1


async def test_a_few_pictures_are_sent_at_once(shared: Sharing, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PAUSE", 60.0)
    topic.may_take.set()
    async with asyncio.timeout(60):
        await publish_one_by_one(shared, sharing.FLOOD - 1)
    assert [len(batch) for batch in topic.batches] == [1] * (sharing.FLOOD - 1)


async def test_all_of_a_batch_fail_if_the_broker_refuses_it_and_later_ones_are_sent(
    shared: Sharing, topic: Topic
) -> None:
    topic.error = DeliveryError("the broker said no")
    topic.may_take.set()
    sent = [shared.publish(f"u{number}", {"v1": b"row"}, now=NOW) for number in range(3)]
    found = await asyncio.gather(*sent, return_exceptions=True)
    assert [type(one) for one in found] == [DeliveryError] * 3
    topic.error = None
    await shared.publish("u4", {"v1": b"row"}, now=NOW)


async def test_what_is_published_is_known_as_own(shared: Sharing, topic: Topic, own: Own) -> None:
    topic.may_take.set()
    await shared.publish("u", {"v1": b"row"}, now=NOW)
    assert own.take(features_key("v1", "u"), int(NOW * 1000))


async def test_the_wait_for_the_features_of_others_is_bounded(shared: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE", 0.05)
    async with asyncio.timeout(60):
        await shared.caught_up()
    assert not shared._follower.caught_up.is_set()


async def test_nobody_waits_where_there_is_no_topic_to_follow(tmp_path: Path, own: Own, topic: Topic) -> None:
    disk = DiskCache(tmp_path / "c", row_bytes={"v1": 3}, max_bytes=1024**2, max_age=60)
    follower = Follower(read_settings(broker="127.0.0.1:9"), disk, {"v1": 3}, tmp_path / "p.json", own=own)
    follower.start(lambda _: None, lambda: None)
    try:
        async with asyncio.timeout(60):
            await Sharing(topic.send, own, follower).caught_up(1000)
    finally:
        await follower.stop()
        disk.close()
    assert not (tmp_path / "p.json").exists()
