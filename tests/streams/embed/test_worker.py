"""The agent of the embed worker: events run side by side; one failure, or a stop, ends all of them unacknowledged."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import TopicPartition
from PIL import Image

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.embed.worker import EmbedWorker
from streams.engine.in_flight import InFlightTracker, Pending
from streams.exceptions import DeliveryError
from streams.kafka.records import Record
from streams.settings import Settings, read_settings
from tests.model.bundle.networks import write_colours
from tests.records import record
from tests.streams.web.servers import serving

TOPIC = "user-interactions"
TP = TopicPartition(TOPIC, 0)
_file = io.BytesIO()
Image.new("RGB", (32, 32), "teal").save(_file, "PNG")
PNG = _file.getvalue()


class Running(EmbedWorker):
    """A worker whose events wait until they are let go, one at a time by offset."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Settings.model_construct(), Bundles(Bundle.load()), folder, partitions=1)
        self.started: list[int] = []
        self.ended: list[int] = []
        self.errors: dict[int, Exception] = {}
        self.release = asyncio.Event()
        self.starts = asyncio.Semaphore(0)

    async def _process(self, pending: Pending) -> None:
        offset = pending.record.offset
        self.started.append(offset)
        self.starts.release()
        try:
            if offset in self.errors:
                raise self.errors[offset]
            await self.release.wait()
            pending.finish()
        finally:
            self.ended.append(offset)


async def batches(tracker: InFlightTracker) -> AsyncIterator[list[Pending]]:
    while True:
        yield await tracker.take(2)


@pytest.fixture
def worker(tmp_path: Path) -> Running:
    made = Running(tmp_path)
    made.app.in_flight.begin({TP: 0})
    made.app.in_flight.put(TP, [record(TOPIC, offset=offset) for offset in range(3)])
    return made


async def started(worker: Running, count: int) -> None:
    """Wait until so many events have started."""
    async with asyncio.timeout(60):
        for _ in range(count):
            await worker.starts.acquire()


async def test_events_of_several_batches_run_side_by_side(worker: Running) -> None:
    agent = asyncio.create_task(worker.agent(batches(worker.app.in_flight)))  # pyright: ignore[reportArgumentType]
    await started(worker, 3)
    worker.release.set()
    await worker.app.in_flight.idle()
    assert worker.app.in_flight.committable() == {TP: 3}
    agent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await agent


async def test_an_event_that_fails_ends_the_agent_and_leaves_the_others_unacknowledged(worker: Running) -> None:
    worker.errors[1] = DeliveryError("the broker said no")
    with pytest.raises(ExceptionGroup) as failed:
        await worker.agent(batches(worker.app.in_flight))  # pyright: ignore[reportArgumentType]
    assert failed.group_contains(DeliveryError)
    assert sorted(worker.ended) == sorted(worker.started), "no event is left running"
    assert worker.app.in_flight.committable() == {}


async def test_a_stop_cancels_the_events_in_flight_and_acknowledges_none(worker: Running) -> None:
    agent: asyncio.Task[Any] = asyncio.create_task(worker.agent(batches(worker.app.in_flight)))  # pyright: ignore[reportArgumentType]
    await started(worker, 3)
    agent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await agent
    assert sorted(worker.ended) == [0, 1, 2]
    assert worker.app.in_flight.committable() == {}


def viewed(url: str, partition: int, offset: int) -> Record:
    value = {"user_id": "ada", "item_id": "hat", "type": "view", "timestamp": 1_400_000_000_000, "image_url": url}
    return record(TOPIC, partition, offset, value=json.dumps(value).encode())


async def test_a_failure_is_final_only_for_the_partition_that_many_events_wait_in(tmp_path: Path) -> None:
    """Each picture fails once, and the events of partition 0 fill more than half of its share."""
    asked: set[str] = set()

    async def shop(request: web.BaseRequest) -> web.Response:
        if request.path in asked:
            return web.Response(body=PNG)
        asked.add(request.path)
        return web.Response(status=503)

    settings = read_settings(
        share_features=False, embed_in_flight=64, fetch_allow_networks=(ip_network("127.0.0.0/8"),)
    )
    async with serving(shop) as url, EmbedWorker(settings, Bundles(Bundle.load()), tmp_path, partitions=1) as worker:
        tracker = worker.app.in_flight
        tracker.begin({TP: 0, TopicPartition(TOPIC, 1): 0})
        tracker.put(TP, [viewed(f"{url}/0-{offset}", 0, offset) for offset in range(20)])
        tracker.put(TopicPartition(TOPIC, 1), [viewed(f"{url}/1", 1, 0), viewed(f"{url}/0-1", 1, 1)])
        taken = {(one.record.partition, one.record.offset): one for one in await tracker.take(64)}
        events = [(0, 0), (1, 0), (0, 1), (1, 1)]  # the last two have the same picture
        outcomes = await asyncio.gather(*(worker._outcome(taken[event]) for event in events))
    assert [outcome.topic for outcome in outcomes] == [settings.dlq_topic] + [settings.embedded_topic] * 3


async def test_a_picture_without_finite_features_is_a_dead_letter_and_the_others_are_embedded(tmp_path: Path) -> None:
    async def shop(request: web.BaseRequest) -> web.Response:
        file = io.BytesIO()
        Image.new("RGB", (224, 224), request.path.strip("/")).save(file, "PNG")
        return web.Response(body=file.getvalue())

    settings = read_settings(share_features=False, fetch_allow_networks=(ip_network("127.0.0.0/8"),))
    bundle = write_colours(tmp_path / "colours")
    async with serving(shop) as url, EmbedWorker(settings, Bundles(bundle), tmp_path / "embed", partitions=1) as worker:
        tracker = worker.app.in_flight
        tracker.begin({TP: 0})
        tracker.put(
            TP, [viewed(f"{url}/{colour}", 0, offset) for offset, colour in enumerate(("pink", "black", "white"))]
        )
        outcomes = await asyncio.gather(*(worker._outcome(one) for one in await tracker.take(64)))
    topics = [outcome.topic for outcome in outcomes]
    assert topics == [settings.embedded_topic, settings.dlq_topic, settings.embedded_topic]
    assert b"invalid_embedding" in dict(outcomes[1].headers).values()


@pytest.mark.parametrize("shared", [True, False])
async def test_without_shared_features_items_are_not_embedded_ahead_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, shared: bool
) -> None:
    caplog.set_level("INFO", "streams.embed.worker")
    settings = read_settings(share_features=shared, broker="127.0.0.1:1")
    worker = EmbedWorker(settings, Bundles(Bundle.load()), tmp_path, partitions=1)
    worker.app.in_flight.begin({TP: 0})
    agent = asyncio.create_task(worker.agent(batches(worker.app.in_flight)))  # pyright: ignore[reportArgumentType]
    await asyncio.sleep(0)
    agent.cancel()
    await asyncio.gather(agent, return_exceptions=True)
    told = [line for line in caplog.messages if "pictures of topic items are embedded with their first event" in line]
    assert len(told) == (0 if shared else 1)
