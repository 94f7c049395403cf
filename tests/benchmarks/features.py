"""How long a new embed worker takes to read the features of a catalogue from the topic into its cache, on real Kafka.

    python -m tests.benchmarks.features

The worker has an empty folder, and does nothing else meanwhile. The rows are random, so that nothing compresses.
"""

import argparse
import asyncio
import logging
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from streams.embed.disk_cache import DiskCache
from streams.features.follower import Follower
from streams.features.records import Features, encode_features, features_key
from streams.features.taking import Own
from streams.settings import Settings
from tests.kafka.broker import KafkaBroker
from tests.usage import processor_seconds

VERSION = "b" * 64
ROW = 1032  # bytes of a row of the shipped bundle
PARTITIONS = 8
BATCH = 500  # records in a batch of the producer


class Outcome(NamedTuple):
    seconds: float
    used: float  # processor seconds of the follower
    broker: float  # and of the broker
    bytes: int  # on disk


async def fill(broker: KafkaBroker, topic: str, count: int) -> None:
    """Write the features of `count` pictures to a new topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs={"cleanup.policy": "compact"})])
    finally:
        await admin.close()
    rng, made_at = np.random.default_rng(1), int(time.time() * 1000)
    header = np.array([0, 0.01], "<f4").tobytes()
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, max_batch_size=1024**2) as producer:
        for start in range(0, count, BATCH):
            builder = producer.create_batch()
            noise = rng.bytes(BATCH * (ROW - len(header)))
            for number in range(start, min(start + BATCH, count)):
                at = (number - start) * (ROW - len(header))
                row = header + noise[at : at + ROW - len(header)]
                key = features_key(VERSION, f"https://cdn.shop.example/pictures/{number:08}/front.jpg")
                builder.append(key=key, value=encode_features(Features(made_at, row)), timestamp=None)
            await producer.send_batch(builder, topic, partition=start // BATCH % PARTITIONS)
        await producer.flush()


async def follow(broker: KafkaBroker, topic: str, folder: Path) -> Outcome:
    """Read the topic to its end with an empty cache."""
    settings = Settings.model_construct(broker=broker.bootstrap, features_topic=topic)
    disk = DiskCache(folder, row_bytes={VERSION: ROW}, max_bytes=8 * 1024**3, max_age=settings.cache_max_age)
    follower = Follower(settings, disk, {VERSION: ROW}, folder.with_suffix(".json"), own=Own())
    begun, used, broker_used = time.monotonic(), time.process_time(), processor_seconds(broker.pid)
    follower.start(lambda _: None, lambda: None)
    await follower.caught_up.wait()
    outcome = (
        time.monotonic() - begun, time.process_time() - used, processor_seconds(broker.pid) - broker_used
    )  # fmt: skip
    await follower.stop()
    disk.close()
    return Outcome(*outcome, sum(path.stat().st_size for path in folder.iterdir()))


async def run(count: int, rounds: int) -> list[Outcome]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        await fill(broker, "features", count)
        return [await follow(broker, "features", folder / f"cache-{number}") for number in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200_000, help="features on the topic (default 200000)")
    parser.add_argument("--rounds", type=int, default=2, help="how often they are read (default 2)")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    table = Table(
        "round", "s", "pictures/s", "processor us", "of the broker us", "bytes on disk", title="a picture's features"
    )
    for number, one in enumerate(asyncio.run(run(arguments.pictures, arguments.rounds)), 1):
        each = 1 / arguments.pictures
        table.add_row(
            str(number), f"{one.seconds:.1f}", f"{arguments.pictures / one.seconds:,.0f}",
            f"{one.used * each * 1e6:.1f}", f"{one.broker * each * 1e6:.1f}", f"{one.bytes * each:,.0f}",
        )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
