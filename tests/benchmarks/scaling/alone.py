"""Workers of one kind alone, between their input topic and their output topic, on topics of their own."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from tests.benchmarks.throughput.stand import PARTITIONS, connected, drop_topics, produce, written
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System
from tests.usage import peak_resident_mb, processor_seconds

TOPICS = {
    "embed": ("user-interactions", "embedded-interactions"),
    "profile": ("embedded-interactions", "user-recommendations"),
}
"""What each kind reads and writes."""

RECOVERY_TIMEOUT = 900.0  # seconds

Keyed = tuple[bytes, bytes]  # key and value of a record


@dataclass(frozen=True)
class Work:
    """What the workers did with some events."""

    rate: float
    """Events a second, between the first and the last that was written."""
    used: float
    """Milliseconds of the processors for an event, of all workers together."""
    broker: float
    """The same, of the broker."""
    resident: float
    """MB of the largest worker, at its highest so far."""


@dataclass(frozen=True)
class Alone:
    """Workers of one kind, ready."""

    kind: str
    systems: Sequence[System]
    consumer: AIOKafkaConsumer

    async def through(self, records: Sequence[Keyed]) -> Work:
        """Measure them over these. Raises RuntimeError when they stand still."""
        source, output = TOPICS[self.kind]
        first = self.systems[0]
        begin = await first.ends(output)
        pids = [system.worker_pid(self.kind) for system in self.systems]
        workers, broker = sum(map(processor_seconds, pids)), processor_seconds(first.broker.pid)
        await produce(first.broker.bootstrap, source, records)
        await written(self.consumer, list(begin), sum(begin.values()) + len(records))
        workers, broker = sum(map(processor_seconds, pids)) - workers, processor_seconds(first.broker.pid) - broker
        times = [record.timestamp for record in await first.read(output, begin)]
        each = 1000 / len(records)
        return Work(
            len(times) / (max(times) - min(times)) * 1000,
            workers * each,
            broker * each,
            max(map(peak_resident_mb, pids)),
        )


@asynccontextmanager
async def alone(
    broker: KafkaBroker,
    folder: Path,
    kind: str,
    count: int,
    *,
    prepare: Callable[[System], Awaitable[None]],
    **settings: object,
) -> AsyncGenerator[Alone]:
    """So many workers of a kind, each with a data folder of its own; topics are made before, and deleted at the end.

    prepare: called for each, before any is started, with the topics there.
    """
    systems: list[System] = []
    for number in range(count):
        inside = folder / f"{kind}-{number}"
        inside.mkdir(parents=True)
        systems.append(System(broker, inside, **settings))
        systems[-1].configure(partitions=PARTITIONS, commit_interval=1.0)
    made = systems[0].command("topics")
    if made.returncode:
        raise RuntimeError(f"no topics: {made.stderr}")
    async with connected(broker.bootstrap) as (admin, consumer):
        try:
            for system in systems:
                await prepare(system)
            with ExitStack() as stack:
                for system in systems:
                    process = stack.enter_context(system.worker(kind, ready=False))
                    system.wait_ready(kind, process, RECOVERY_TIMEOUT)
                yield Alone(kind, systems, consumer)
        finally:
            await drop_topics(admin)
