"""Latency from producing an event to its recommendation, and to an answer over HTTP that holds it; and memory of the workers.

The system is idle, and there is one event at a time.

    python -m tests.benchmarks.latency

Kafka and the workers run on this machine. `fetched`: new pictures, from a local server. `cached`: the same pictures again.
`asked over HTTP`: the same once more, and the serve worker is asked for an answer with the event as soon as it is sent. The
pictures are those of the H&M data set if it is available, else the photos of the demo, each under many URLs.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter, time

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.data import photos
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, picture_server
from tests.usage import peak_resident_mb


def urls(folder: Path, base: str) -> Iterator[str]:
    """An endless supply of new URLs for the pictures of a folder."""
    pictures = sorted(path.name for path in folder.glob("*.jpg"))
    turn = 0
    while True:
        yield from (f"{base}/{name}?{turn}" for name in pictures)
        turn += 1


async def measure(system: System, events: list[dict[str, object]]) -> list[float]:
    """Milliseconds of each event. An event is produced when the one before it has been answered."""
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap))
        consumer = await stack.enter_async_context(
            AIOKafkaConsumer(
                "user-recommendations", bootstrap_servers=system.broker.bootstrap, auto_offset_reset="latest"
            )
        )
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        waits: list[float] = []
        for event in track(events, console=Console(stderr=True), transient=True):
            begun = perf_counter()
            await producer.send_and_wait(
                "user-interactions", json.dumps(event).encode(), key=str(event["user_id"]).encode()
            )
            async for record in consumer:
                if json.loads(record.value or b"{}").get("event_id") == event["event_id"]:
                    break
            waits.append((perf_counter() - begun) * 1000)
        return waits


async def measure_asked(system: System, events: list[dict[str, object]]) -> list[float]:
    """Milliseconds of each event until an answer of the serve worker holds it."""
    waits: list[float] = []
    address = f"http://127.0.0.1:{system.ports['serve']}/v1/users"
    async with (
        AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer,
        aiohttp.ClientSession() as session,
    ):
        for event in track(events, console=Console(stderr=True), transient=True):
            url = f"{address}/{event['user_id']}/recommendations?event_id={event['event_id']}&wait_ms=5000"
            begun = perf_counter()
            value = json.dumps(event).encode()
            sent = await producer.send("user-interactions", value, key=str(event["user_id"]).encode())
            async with session.get(url) as response:
                answer = await response.json()
            waits.append((perf_counter() - begun) * 1000)
            if answer["up_to_date"] is not True:
                raise RuntimeError(f"the answer does not hold the event: {answer}")
            await sent
    return waits


async def run(count: int, rounds: int) -> None:
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        system = System(broker, Path(temporary))
        with picture_server(photos()) as base, system.worker("all"):
            fresh = urls(photos(), base)
            system.wait_ready("serve")
            ways = {"fetched": measure, "cached": measure, "cached, asked over HTTP": measure_asked}
            rows: dict[str, list[list[float]]] = {name: [] for name in ways}
            number = 0
            for _ in range(rounds):
                some = [next(fresh) for _ in range(count)]
                for name, measured in rows.items():
                    events: list[dict[str, object]] = []
                    for url in some:
                        number += 1
                        events.append(
                            {
                                "event_id": f"{number}",
                                "user_id": f"user-{number % 20}",
                                "item_id": url,
                                "type": "view",
                                "timestamp": int(time() * 1000),
                                "image_url": url,
                            }
                        )
                    measured.append(await ways[name](system, events))
            memory = {kind: peak_resident_mb(system.worker_pid(kind)) for kind in system.ports}
    table = Table(
        "picture", "events", "p50 ms", "p95 ms", "p99 ms", "p50 of each round", title="from produce to the answer"
    )
    for kind, measured in rows.items():
        flat = sorted(value for one in measured for value in one)
        cuts = statistics.quantiles(flat, n=100)
        medians = ", ".join(f"{statistics.median(one):.1f}" for one in measured)
        table.add_row(kind, str(len(flat)), f"{cuts[49]:.1f}", f"{cuts[94]:.1f}", f"{cuts[98]:.1f}", medians)
    console.print(table)
    console.print(", ".join(f"{kind} worker: {size:.0f} MB resident at most" for kind, size in memory.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="events of each kind per round (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; fetched and cached alternate (default 3)")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.count, arguments.rounds))


if __name__ == "__main__":
    main()
