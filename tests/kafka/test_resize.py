"""`topics resize` under load: the bags move to more and to fewer partitions, and back, and no event is lost."""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streams.kafka.generations import Layout, LayoutReader, read_layout
from streams.kafka.observing import Observer
from streams.kafka.partitioning import partition_of
from streams.profile.bag import Bag
from streams.profile.rows import user_of
from streams.resize.waiting import look
from streams.settings import Settings, read_settings
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import clean
from tests.kafka.system import System
from tests.kafka.test_topic_changes import Event, events, expected_bags, ids, of_item, until_answered
from tests.stored import bags_of

USERS = 60
RATE = 60  # events/s
REACHED = 120.0  # seconds for a step of the command
ERASED = "user-199"  # of the first events only


@pytest.fixture
async def system(broker: KafkaBroker, tmp_path: Path) -> AsyncIterator[System]:
    yield System(broker, tmp_path, standby=True)
    await clean(broker)


class Load:
    """Produces events until it ends. An asynchronous context manager."""

    def __init__(self, system: System) -> None:
        self.events: list[Event] = []
        self._system = system
        self._stop = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Load":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._stop = True
        await self._task

    async def _run(self) -> None:
        number = 0
        while not self._stop:
            some = of_item(f"item-{number % 5}", events(f"load-{number}", USERS))
            some = [{**event, "timestamp": 1_700_000_000_000 + number} for event in some]
            await self._system.produce(some, rate=RATE)
            self.events += some
            number += 1


async def killed_at(system: System, reached: Callable[[Layout], bool], *arguments: str) -> None:
    """Start the command, and kill it once the layout is as wanted."""
    settings = read_settings(broker=system.broker.bootstrap)
    process = system.begin("topics", "resize", *arguments)
    deadline = time.monotonic() + REACHED
    async with LayoutReader(settings) as reader:
        while not reached(await reader.layout()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)


async def done(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    finished = await asyncio.to_thread(system.command, "topics", "resize", *arguments, timeout=3 * REACHED)
    assert finished.returncode == 0, finished.stdout + finished.stderr + system.log()[-3000:]
    return finished


async def bags_on_topic(system: System, number: int) -> dict[str, Bag]:
    """The bags in the changelog of a generation, each of whose rows is in the partition of its user."""
    settings = read_settings(broker=system.broker.bootstrap).of_generation(number)
    spread = len(await system.partitions(settings.bags_changelog))
    rows: dict[bytes, bytes | None] = {}
    for record in await system.read(settings.bags_changelog):
        assert record.key is not None
        assert record.partition == partition_of(user_of(record.key).encode(), spread)
        rows[record.key] = record.value
    return bags_of((key, value) for key, value in sorted(rows.items()) if value is not None)


@pytest.mark.slow
async def test_bags_move_to_more_and_to_fewer_partitions_and_back_under_load(system: System) -> None:
    settings = read_settings(broker=system.broker.bootstrap)
    erasure: Event = {"user_id": ERASED, "type": "erase", "timestamp": 1_750_000_000_000, "event_id": "gone"}
    first = [*events("a", 200), erasure]
    with system.worker("embed"), system.worker("profile") as profile:
        await system.produce(first)
        async with Load(system) as load:
            await killed_at(system, lambda layout: layout.target == 2, "--partitions", "6")
            await killed_at(system, lambda layout: layout.is_draining, "--partitions", "6")
            said = (await done(system, "--partitions", "6")).stdout
            assert "are the same in both changelogs; generation 2 serves" in said
            await until_answered(system, ids(load.events))
            assert len(await system.partitions("embedded-interactions-g2")) == 6

            refused = await asyncio.to_thread(system.command, "topics", "resize", "--partitions", "3")
            assert refused.returncode == 1
            assert "generation 1 is kept for a rollback: delete it first" in refused.stderr
            await done(system, "--delete-old")

            await done(system, "--partitions", "3")
            await until_answered(system, ids(load.events))
            await killed_at(system, lambda layout: layout.is_draining, "--rollback")
            await done(system, "--rollback")
        await until_answered(system, ids(load.events))
        await until_left(system, settings.of_generation(2))
        assert profile.poll() is None

    expected = expected_bags(first, load.events)
    assert (await read_layout(settings)).serving == 2
    assert await bags_on_topic(system, 2) == expected
    assert not expected[ERASED].slots
    assert "ended with code" not in system.log()
    found = (await done(system, "--status")).stdout
    assert "serves     generation 2, 6 partitions" in found
    assert "kept       generation 3, 3 partitions" in found


async def test_a_resize_that_is_taken_back_before_the_switch_leaves_everything_as_it_was(system: System) -> None:
    settings = read_settings(broker=system.broker.bootstrap)
    first = events("a", 100)
    with system.worker("embed"), system.worker("profile"):
        await system.produce(first)
        async with Load(system) as load:
            await killed_at(system, lambda layout: layout.is_draining, "--partitions", "2")
            # Events wait at the new topic now, and go back to the old one.
            await until_some(system, settings.of_generation(2).embedded_topic)
            said = (await done(system, "--rollback")).stdout
        assert "generation 1 serves, as before" in said
        await until_answered(system, ids(load.events))
        await until_left(system, settings)
    assert await bags_on_topic(system, 1) == expected_bags(first, load.events)
    assert (await read_layout(settings)).in_use == {1}
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    left = set(await admin.list_topics())
    await admin.close()
    assert not {name for name in left if "-g2" in name}


async def until_some(system: System, topic: str) -> None:
    """Wait until a topic has records."""
    async with asyncio.timeout(REACHED):
        while not sum((await system.ends(topic)).values()):  # noqa: ASYNC110 -- the broker sends no notice
            await asyncio.sleep(0.1)


async def until_left(system: System, settings: Settings) -> None:
    """Wait until the profile workers have finished all events of a generation."""
    async with asyncio.timeout(REACHED), Observer(settings) as observer:
        while (await look(observer, settings)).events != 0:  # noqa: ASYNC110 -- the same
            await asyncio.sleep(0.2)
