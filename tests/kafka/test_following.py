"""Following a topic while the broker hangs, and a reader that hangs by itself: both are seen."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from streams.exceptions import StallError
from streams.kafka import following as module
from streams.kafka.following import Following, share_of_response
from streams.kafka.metadata import DescribedTopic
from streams.serve.watchdog import ServeWatchdog
from streams.settings import read_settings
from tests.kafka.broker import KafkaBroker, lists_a_broker
from tests.kafka.system import System

TOPIC = "followed"
SOON = 60.0  # seconds
LIMIT = 5.0  # seconds without a read after which it is a stall: a busy machine holds a process up for a second or two


class Reader:
    """Reads the only partition from its start."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.values: list[bytes | None] = []
        self.problems: list[str] = []
        self.hangs = asyncio.Event()
        self.following = Following(
            read_settings(broker=broker.bootstrap),
            TOPIC,
            problem="topic %s is not followed: %s",
            missing="the test creates it",
            logger=module.logging.getLogger(__name__),
            pause=0.1,
        )
        self.running = asyncio.create_task(self.following.run(self.read, self.problems.append, share_of_response))

    async def read(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        tp = TopicPartition(TOPIC, 0)
        consumer.assign([tp])
        consumer.seek(tp, 0)
        self.values.clear()
        self.following.reached()
        while True:
            records = (await consumer.getmany(tp, timeout_ms=200)).get(tp, [])
            self.following.turn(consumer, records)
            self.values += [record.value for record in records]
            if self.hangs.is_set():
                await asyncio.Event().wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not condition():  # noqa: ASYNC110 -- a test asks for more than one thing
                await asyncio.sleep(0.05)


@pytest.fixture
async def reader(system: System) -> AsyncIterator[Reader]:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        await producer.send_and_wait(TOPIC, b"first", partition=0)
    reader = Reader(system.broker)
    yield reader
    reader.running.cancel()
    await asyncio.gather(reader.running, return_exceptions=True)
    await admin.delete_topics([TOPIC])
    await admin.close()


async def test_a_reader_that_hangs_is_a_stall(reader: Reader) -> None:
    await reader.until(lambda: reader.values == [b"first"])
    dog = ServeWatchdog(lambda: reader.following.still, LIMIT)
    watching = asyncio.create_task(dog.run())
    await asyncio.sleep(1.2 * LIMIT)  # longer than the limit, while it reads
    assert dog.live and not watching.done()
    reader.hangs.set()
    await reader.until(lambda: not dog.live)
    assert not watching.done()
    with pytest.raises(StallError):
        await asyncio.wait_for(watching, SOON)


async def test_a_reader_without_answers_connects_again_and_goes_on_when_the_broker_does(
    reader: Reader, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 2.0)
    monkeypatch.setattr(module, "CONNECTING", 3.0)
    await reader.until(lambda: reader.values == [b"first"])
    os.kill(system.broker.pid, signal.SIGSTOP)
    try:
        await reader.until(lambda: len(reader.problems) >= 2)
        assert "has not answered for 2 s" in reader.problems[0]
        assert reader.following.still == 0, "an outage is no stall"
    finally:
        os.kill(system.broker.pid, signal.SIGCONT)
        async with asyncio.timeout(SOON):  # others need it afterwards
            while not await lists_a_broker(system.broker.bootstrap):  # noqa: ASYNC110 -- Kafka sends no notice
                await asyncio.sleep(0.1)
    await reader.until(lambda: reader.values == [b"first"])
