"""Runs workers of one kind alone, between their input topic and their output topic."""

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
"""The topics that each kind reads and writes."""

RECOVERY_TIMEOUT = 900.0  # seconds

Keyed = tuple[bytes, bytes]  # key and value of a record


@dataclass(frozen=True)
class Work:
    """Figures of the workers for some events."""

    rate: float
    """Events/s, between the first and the last record written."""
    used: float
    """Processor milliseconds per event, of all workers together."""
    broker: float
    """Processor milliseconds per event, of the broker."""
    resident: float
    """Peak resident memory of the largest worker so far, MB."""


@dataclass(frozen=True)
class Alone:
    """Running workers of one kind."""

    kind: str
    systems: Sequence[System]
    consumer: AIOKafkaConsumer

    async def through(self, records: Sequence[Keyed]) -> Work:
        """Measure the workers with these records. Raises RuntimeError if they make no progress."""
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
    """Run workers of a kind, each with its own data folder. Topics are created before, and deleted at the end.

    Args:
        broker: a running broker.
        folder: parent of the data folders.
        kind: kind of the workers.
        count: number of workers.
        prepare: called for each worker before the first one starts, when the topics exist.
        settings: settings of the workers.
    """
    systems: list[System] = []
    for number in range(count):
        inside = folder / f"{kind}-{number}"
        inside.mkdir(parents=True)
        systems.append(System(broker, inside, **settings))
        systems[-1].configure(partitions=PARTITIONS, commit_interval=1.0)
    made = systems[0].command("topics")
    if made.returncode:
        raise RuntimeError(f"the topics could not be created: {made.stderr}")
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
