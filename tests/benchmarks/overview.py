"""What it costs a serve worker to watch the whole system: processor time of a second, by events per second.

    python -m tests.benchmarks.overview

There are no workers. A process of its own writes each event to the input, to the embedded topic and, with its id, to the
recommendations, and commits as workers do once a second. So the figures are those of the watch alone.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.serve.overview.watch import Watch
from streams.settings import Settings
from tests.kafka.broker import KafkaBroker

PARTITIONS = 8
EMBEDDED = b"x" * 400  # about the size of an embedded interaction
FILLER = "x" * 900  # of a recommendation


def settings_of(broker: str) -> Settings:
    given: dict[str, Any] = {"broker": broker}
    return Settings(**given)


async def play(broker: str, rate: int) -> None:
    """Write events until standard input ends."""
    settings = settings_of(broker)
    topics = settings.interactions_topic, settings.embedded_topic, settings.recommendations_topic
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    groups = [
        AIOKafkaConsumer(bootstrap_servers=broker, group_id=group, enable_auto_commit=False)
        for group in (settings.embed_group, settings.profile_group)
    ]
    for consumer, topic in zip(groups, topics, strict=False):
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    async with AIOKafkaProducer(bootstrap_servers=broker, linger_ms=5) as producer:
        number, begun = 0, time.monotonic()
        while not ended.done():
            while number < (time.monotonic() - begun) * rate:
                user = f"user-{number % 1000}"
                event = {
                    "event_id": f"e-{number}", "user_id": user, "item_id": "shoe", "type": "return", "timestamp": 1_700_000_000_000,
                }  # fmt: skip
                values = json.dumps(event).encode(), EMBEDDED, json.dumps({**event, "filler": FILLER}).encode()
                for topic, value in zip(topics, values, strict=True):
                    await producer.send(topic, value, key=user.encode())
                number += 1
            await asyncio.sleep(0.01)
    for consumer in groups:
        await consumer.stop()


async def measured(broker: str, rate: int, seconds: float) -> tuple[float, Watch]:
    """Processor seconds of a second of watching at a rate."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.overview",
        "--play",
        broker,
        "--rate",
        str(rate),
        stdin=asyncio.subprocess.PIPE,
    )
    watch = Watch(settings_of(broker), list)
    watching = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(120):
            while rate and not watch.board.now.latency.samples:  # noqa: ASYNC110 -- until the child writes
                await asyncio.sleep(0.1)
        used, begun = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        return (time.process_time() - used) / (time.monotonic() - begun), watch
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        if child.stdin:
            child.stdin.close()
        await child.wait()


async def run(broker: str, rates: list[int], seconds: float) -> None:
    settings = settings_of(broker)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    names = settings.interactions_topic, settings.embedded_topic, settings.recommendations_topic, settings.dlq_topic
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    await admin.close()
    for rate in rates:
        share, watch = await measured(broker, rate, seconds)
        now = watch.board.now
        came = now.second.events_in if now.second else None
        each = f"{share / rate * 1e6:.1f} us an event" if rate else ""
        sys.stdout.write(
            f"{rate:>5} events/s: {share * 1000:.1f} ms of a core a second {each} ({came} came, {now.latency.samples} measured)\n"
        )
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate (default 20)")
    parser.add_argument(
        "--rates", type=int, nargs="+", default=[0, 100, 2000], help="events per second (default 0 100 2000)"
    )
    parser.add_argument("--play", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        asyncio.run(play(arguments.play, arguments.rate))
        return
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka") as broker:
        asyncio.run(run(broker.bootstrap, arguments.rates, arguments.seconds))


if __name__ == "__main__":
    main()
