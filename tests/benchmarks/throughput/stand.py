"""Measures one peer at a time on a broker.

It creates the topics, starts the peer, fills the bags of its users, produces the events as fast as the broker accepts them, and
measures the time from the first event to the last recommendation, by the clock of the broker. Then it deletes everything, so that
the next peer starts in the same state.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import DefaultPartitioner

from model.bundle import Bundle
from streams.settings import Settings
from tests.benchmarks.throughput.peers import Peer
from tests.benchmarks.throughput.workload import Event, Shop
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import Record, System, stop
from tests.usage import processor_seconds

PARTITIONS = 4
PATIENCE = 60.0  # seconds without a new recommendation, after which the round fails
TOPICS_TIMEOUT = 30.0  # maximum seconds until topics are created or deleted
POLL = 0.05  # seconds between two checks
BATCH_BYTES = 128 * 1024  # maximum size of a batch


@dataclass(frozen=True)
class Outcome:
    """Figures of one peer in one round."""

    rate: float
    """Events/s."""
    processor: dict[str, float]
    """Processor milliseconds per event, by process of the peer."""
    broker: float
    """Processor milliseconds per event, of the broker."""
    rows: float
    """Records per event on the changelog topics."""
    changelog: float
    """Bytes per event on the changelog topics, keys and values."""

    @property
    def used(self) -> float:
        """Processor milliseconds per event, of all processes of the peer."""
        return sum(self.processor.values())


@dataclass
class Running:
    """A running peer with its own topics."""

    system: System
    settings: Settings
    pids: Mapping[str, int]
    alive: Callable[[], None]
    """Raises RuntimeError if a process of the peer has ended."""
    consumer: AIOKafkaConsumer
    answered: int = 0
    """Number of recommendations awaited so far."""
    _outputs: list[TopicPartition] = field(default_factory=list[TopicPartition])

    async def produce(self, events: Sequence[Event]) -> None:
        """Produce events as fast as the broker accepts them."""
        records = [record_of(event) for event in events]
        await produce(self.system.broker.bootstrap, self.settings.interactions_topic, records)

    async def produce_at(self, events: Sequence[Event], rate: float) -> tuple[list[float], list[float]]:
        """Produce each event at its own time, whatever the earlier events take.

        Returns:
            These times, seconds since the epoch, and by how many seconds each event was late.
        """
        topic, sent, late = self.settings.interactions_topic, [], []
        async with AIOKafkaProducer(bootstrap_servers=self.system.broker.bootstrap, linger_ms=1) as producer:
            begun = time.time() + POLL
            times = [begun + number / rate for number in range(len(events))]
            for (key, value), due in zip([record_of(event) for event in events], times, strict=True):
                if (early := due - time.time()) > 0:
                    await asyncio.sleep(early)
                late.append(max(time.time() - due, 0.0))
                sent.append(await producer.send(topic, value, key=key, partition=partition_of(key)))
            await asyncio.gather(*sent)
        return times, late

    async def answers(self, count: int) -> None:
        """Wait for `count` more recommendations. Raises RuntimeError if the peer ends or makes no progress."""
        self.answered += count
        await written(self.consumer, self._outputs, self.answered, alive=self.alive)

    async def ends(self) -> dict[str, dict[TopicPartition, int]]:
        """The end offsets of all topics except those of Kafka itself."""
        topics = [topic for topic in await self.consumer.topics() if not topic.startswith("__")]
        found: dict[str, dict[TopicPartition, int]] = {}
        for topic in topics:
            found[topic] = await self.consumer.end_offsets(await self.system.partitions(topic))
        return found


class Stand:
    """A broker and a shop. `running` runs a peer on them."""

    def __init__(self, broker: KafkaBroker, folder: Path, shop: Shop, bundle: Bundle, **settings: object) -> None:
        """settings: settings of tastestream, for all peers."""
        self.broker = broker
        self.shop = shop
        self._folder = folder
        self._bundle = bundle
        self._settings = {"bag_size": shop.bag, "max_slots": 2 * shop.bag, "commit_interval": 1.0, **settings}
        self._number = 0

    async def round(self, peer: Peer, count: int) -> Outcome:
        """Start a peer, fill the bags of its users, and measure it with `count` events."""
        events = self.shop.events(count, "measured")
        async with self.running(peer) as running:
            return await self.measured(running, events)

    async def measured(self, running: Running, events: Sequence[Event]) -> Outcome:
        """Measure a peer from the first event to the last recommendation."""
        before, pids = await running.ends(), {**running.pids, "broker": self.broker.pid}
        used = {name: processor_seconds(pid) for name, pid in pids.items()}
        await running.produce(events)
        await running.answers(len(events))
        used = {name: (processor_seconds(pid) - used[name]) / len(events) * 1000 for name, pid in pids.items()}
        system, settings = running.system, running.settings
        produced = await system.read(settings.interactions_topic, before[settings.interactions_topic])
        answered = await system.read(settings.recommendations_topic, before[settings.recommendations_topic])
        check_answers(events, answered)
        seconds = (max(one.timestamp for one in answered) - min(one.timestamp for one in produced)) / 1000
        added = [
            record
            for topic, begin in before.items()
            if "changelog" in topic
            for record in await system.read(topic, begin)
        ]
        return Outcome(
            len(events) / seconds,
            {name: used[name] for name in running.pids},
            used["broker"],
            len(added) / len(events),
            sum(len(one.key or b"") + len(one.value or b"") for one in added) / len(events),
        )

    @asynccontextmanager
    async def running(self, peer: Peer, *, filled: bool = True) -> AsyncGenerator[Running]:
        """Run a peer with its own topics and folder. By default, fill the bags of its users."""
        self._number += 1
        name = f"{peer.name}-{self._number}"
        folder = self._folder / name
        folder.mkdir()
        system = System(self.broker, folder)
        system.configure(
            **self._settings,
            partitions=PARTITIONS,
            interactions_topic=f"{name}-interactions",
            embedded_topic=f"{name}-embedded",
            recommendations_topic=f"{name}-recommendations",
            dlq_topic=f"{name}-dlq",
            features_topic=f"{name}-features",
        )
        settings = settings_of(system)
        peer.prepare(settings, self._bundle, self.shop)
        async with connected(self.broker.bootstrap) as (admin, consumer):
            await make_topics(admin, settings)
            outputs = [TopicPartition(settings.recommendations_topic, number) for number in range(PARTITIONS)]
            try:
                with ExitStack() as stack:
                    processes = {kind: system.launch(kind, through=(peer.module,)) for kind in peer.kinds}
                    for process in processes.values():
                        stack.callback(stop, process)

                    def alive() -> None:
                        for kind, process in processes.items():
                            if process.poll() is not None:
                                code, log = process.returncode, system.log()[-3000:]
                                raise RuntimeError(f"{peer.name}'s {kind} worker ended with code {code}:\n{log}")

                    pids = {kind: process.pid for kind, process in processes.items()}
                    running = Running(system, settings, pids, alive, consumer, _outputs=outputs)
                    if filled:
                        filling = self.shop.filling(name)
                        await running.produce(filling)
                        await running.answers(len(filling))
                    yield running
            finally:
                await drop_topics(admin)


def settings_of(system: System) -> Settings:
    """The settings that the processes of a system read from their environment."""
    given = {name.removeprefix("TASTESTREAM_").lower(): value for name, value in system.environment.items()}
    return Settings(**{name: value for name, value in given.items() if name in Settings.model_fields})  # pyright: ignore[reportArgumentType]


def record_of(event: Event) -> tuple[bytes, bytes]:
    """Key and value of the record of an event."""
    return str(event["user_id"]).encode(), System.encoded(event)


async def written(
    consumer: AIOKafkaConsumer,
    partitions: Sequence[TopicPartition],
    count: int,
    *,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Wait until `count` records have been written to these partitions.

    Args:
        consumer: any connected consumer.
        partitions: of one topic.
        count: number of records since the creation of the topic.
        alive: raises if the writer has ended.

    Raises:
        RuntimeError: if no record is written for `PATIENCE` seconds.
    """
    least, deadline = -1, 0.0
    while (seen := sum((await consumer.end_offsets(partitions)).values())) < count:
        alive()
        if seen > least:
            least, deadline = seen, time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{partitions[0].topic} has {seen} of {count} records, and none was added for {PATIENCE:g} s"
            )
        await asyncio.sleep(POLL)


async def produce(bootstrap: str, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Produce keys and values as fast as the broker accepts them, in batches that are built before."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=BATCH_BYTES
    ) as producer:
        batches: list[tuple[int, Any]] = []
        unfilled: dict[int, Any] = {}  # by partition
        for key, value in records:
            partition = partition_of(key)
            batch = unfilled.get(partition)
            if batch is None or batch.append(key=key, value=value, timestamp=None) is None:
                batch = unfilled[partition] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
                batches.append((partition, batch))
        sent = [await producer.send_batch(batch, topic, partition=partition) for partition, batch in batches]
        await asyncio.gather(*sent)


_partitioner: Callable[[bytes, list[int], list[int]], int] = DefaultPartitioner()


def partition_of(key: bytes) -> int:
    """The partition to which the clients of Kafka send a key."""
    every = list(range(PARTITIONS))
    return _partitioner(key, every, every)


def check_answers(events: Sequence[Event], answered: Sequence[Record]) -> None:
    """Raise RuntimeError unless each event has a recommendation."""
    found = {json.loads(record.value)["event_id"] for record in answered if record.value is not None}
    missing = {str(event["event_id"]) for event in events} - found
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(events)} events have no recommendation, such as {min(missing)}")


@asynccontextmanager
async def connected(bootstrap: str) -> AsyncGenerator[tuple[AIOKafkaAdminClient, AIOKafkaConsumer]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await consumer.start()
        try:
            yield admin, consumer
        finally:
            await consumer.stop()
    finally:
        await admin.close()


async def make_topics(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    """Create the topics of a round. Records get the time of the broker."""
    names = [
        settings.interactions_topic,
        settings.embedded_topic,
        settings.recommendations_topic,
        settings.dlq_topic,
    ]
    configs = {"message.timestamp.type": "LogAppendTime"}
    response: Any = await admin.create_topics(
        [
            NewTopic(name, PARTITIONS, 1, topic_configs=configs | policy)
            for name in names
            for policy in [{"cleanup.policy": "compact" if name == settings.recommendations_topic else "delete"}]
        ]
    )
    refused = [error for error in response.topic_errors if error[1]]
    if refused:
        raise RuntimeError(f"the broker created no topics: {refused}")

    async def without_leader() -> list[str]:
        found = await admin.describe_topics(names)
        led = {one["topic"] for one in found if len(one["partitions"]) == PARTITIONS and not one["error_code"]}
        return [name for name in names if name not in led]

    await until(without_leader)


async def drop_topics(admin: AIOKafkaAdminClient) -> None:
    """Delete all topics except those of Kafka itself, and wait until they are gone."""

    async def there() -> list[str]:
        return [topic for topic in await admin.list_topics() if not topic.startswith("__")]

    if names := await there():
        await admin.delete_topics(names)
    await until(there)


async def until(left: Callable[[], Awaitable[Sequence[object]]], timeout: float = TOPICS_TIMEOUT) -> None:
    """Wait until `left` returns nothing. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while await left():  # noqa: ASYNC110 -- the broker sends no notice
            await asyncio.sleep(POLL)
