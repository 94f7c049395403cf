"""One broker, and on it one peer at a time: its topics are made, it is started, its users' bags are filled, the events are produced
as fast as the broker takes them, and the time is taken from the first event to the last recommendation, both as the broker
saw them. Then all of it is gone, and the next peer finds the same.
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
PATIENCE = 60.0  # seconds without a new recommendation, after which something is wrong
TOPICS_TIMEOUT = 30.0  # seconds for topics to come or to go
POLL = 0.05  # seconds between two looks at the end of a topic
BATCH_BYTES = 128 * 1024  # of one partition


@dataclass(frozen=True)
class Outcome:
    """What one peer did with the events of one round."""

    rate: float
    """Events a second."""
    processor: dict[str, float]
    """Milliseconds of the processors for an event, by process of the peer."""
    broker: float
    """The same, of the broker."""
    rows: float
    """Records that an event added to the changelog topics."""
    changelog: float
    """Bytes of these, keys and values."""

    @property
    def used(self) -> float:
        """Milliseconds of the processors for an event, of all processes of the peer."""
        return sum(self.processor.values())


@dataclass
class Running:
    """A peer that runs, on topics of its own."""

    system: System
    settings: Settings
    pids: Mapping[str, int]
    alive: Callable[[], None]
    """Raises RuntimeError when a process of the peer has ended."""
    consumer: AIOKafkaConsumer
    answered: int = 0
    """Recommendations that are accounted for."""
    _outputs: list[TopicPartition] = field(default_factory=list[TopicPartition])

    async def produce(self, events: Sequence[Event]) -> None:
        """As fast as the broker takes them."""
        records = [record_of(event) for event in events]
        await produce(self.system.broker.bootstrap, self.settings.interactions_topic, records)

    async def produce_at(self, events: Sequence[Event], rate: float) -> tuple[list[float], list[float]]:
        """Each event at its time, whatever became of those before.

        Gives these times, in seconds since the epoch, and for how many seconds each was late nonetheless.
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
        """Wait for so many more recommendations. Raises RuntimeError when the peer has died or stands still."""
        self.answered += count
        await written(self.consumer, self._outputs, self.answered, alive=self.alive)

    async def ends(self) -> dict[str, dict[TopicPartition, int]]:
        """The offsets that the next records will have, of all topics that are not the broker's own."""
        topics = [topic for topic in await self.consumer.topics() if not topic.startswith("__")]
        found: dict[str, dict[TopicPartition, int]] = {}
        for topic in topics:
            found[topic] = await self.consumer.end_offsets(await self.system.partitions(topic))
        return found


class Stand:
    """One broker and one shop; `running` is one peer on them."""

    def __init__(self, broker: KafkaBroker, folder: Path, shop: Shop, bundle: Bundle, **settings: object) -> None:
        """settings: of tastestream, for all peers."""
        self.broker = broker
        self.shop = shop
        self._folder = folder
        self._bundle = bundle
        self._embeddings = shop.embeddings(bundle)
        self._settings = {"bag_size": shop.bag, "max_slots": 2 * shop.bag, "commit_interval": 1.0, **settings}
        self._number = 0

    async def round(self, peer: Peer, count: int) -> Outcome:
        """Start a peer, fill its users' bags, and measure it over `count` events."""
        events = self.shop.events(count, "measured")
        async with self.running(peer) as running:
            return await self.measured(running, events)

    async def measured(self, running: Running, events: Sequence[Event]) -> Outcome:
        """From the first event to the last recommendation."""
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
        """A peer on topics and in a folder of its own, its users' bags filled."""
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
        )
        settings = settings_of(system)
        peer.prepare(settings, self._bundle, self._embeddings)
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
    """What the processes of a system will read from their environment."""
    given = {name.removeprefix("TASTESTREAM_").lower(): value for name, value in system.environment.items()}
    return Settings(**{name: value for name, value in given.items() if name in Settings.model_fields})  # pyright: ignore[reportArgumentType]


def record_of(event: Event) -> tuple[bytes, bytes]:
    """Key and value of an event as it is produced."""
    return str(event["user_id"]).encode(), System.encoded(event)


async def written(
    consumer: AIOKafkaConsumer,
    partitions: Sequence[TopicPartition],
    count: int,
    *,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Wait until so many records were ever written to these partitions.

    alive: raises when there is nobody left to wait for. Raises RuntimeError when none comes in `PATIENCE` seconds.
    """
    least, deadline = -1, 0.0
    while (seen := sum((await consumer.end_offsets(partitions)).values())) < count:
        alive()
        if seen > least:
            least, deadline = seen, time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            raise RuntimeError(f"{seen} of {count} records of {partitions[0].topic}, and no more in {PATIENCE:g} s")
        await asyncio.sleep(POLL)


async def produce(bootstrap: str, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Keys and values, as fast as the broker takes them, in batches that are made before."""
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
    """Where Kafka's own clients put a key."""
    every = list(range(PARTITIONS))
    return _partitioner(key, every, every)


def check_answers(events: Sequence[Event], answered: Sequence[Record]) -> None:
    """Raises RuntimeError unless each event has a recommendation."""
    found = {json.loads(record.value)["event_id"] for record in answered if record.value is not None}
    missing = {str(event["event_id"]) for event in events} - found
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(events)} events have no recommendation, {min(missing)} for one")


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
    """The topics of a round, all with the broker's clock."""
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
        raise RuntimeError(f"the broker made no topics: {refused}")

    async def without_leader() -> list[str]:
        found = await admin.describe_topics(names)
        led = {one["topic"] for one in found if len(one["partitions"]) == PARTITIONS and not one["error_code"]}
        return [name for name in names if name not in led]

    await until(without_leader)


async def drop_topics(admin: AIOKafkaAdminClient) -> None:
    """Delete all topics but the broker's own, and wait until they are gone."""

    async def there() -> list[str]:
        return [topic for topic in await admin.list_topics() if not topic.startswith("__")]

    if names := await there():
        await admin.delete_topics(names)
    await until(there)


async def until(left: Callable[[], Awaitable[Sequence[object]]], timeout: float = TOPICS_TIMEOUT) -> None:
    """Wait until nothing is left. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while await left():  # noqa: ASYNC110 -- the broker tells nobody
            await asyncio.sleep(POLL)
