"""How fast a profile worker recovers its bags from the changelog topic alone, on real Kafka.

    python -m tests.benchmarks.recovery
    python -m tests.benchmarks.recovery --users 1000000 --items 4 --rounds 1

Writes the rows of made-up bags to the changelog topic, and starts a profile worker with an empty data folder, several rounds.
"""

import argparse
import asyncio
import random
import re
import shutil
import statistics
import tempfile
from pathlib import Path

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import track

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.profile.bag import Bag, Moment, Picture, Slot
from streams.profile.rows import encode_bag
from streams.topics import BAGS_CHANGELOG
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, wait_until
from tests.usage import MB, peak_resident_mb

PATIENCE = 900.0  # seconds of a recovery


def bag_rows(user: str, items: int, bundle: Bundle, rng: random.Random) -> dict[bytes, bytes]:
    """The rows of a user with so many purchases."""
    slots: dict[str, Slot] = {}
    for number in range(items):
        item = f"item-{rng.randrange(10**9)}"
        moment = Moment(1_700_000_000_000 + number, f"event-{rng.randrange(10**12)}", item, "purchase")
        embedding = rng.randbytes(HEADER_BYTES + bundle.embedding_size)
        picture = Picture(moment, bundle.embedder_version, f"https://shop.example/pictures/{item}.jpg", embedding)
        slots[item] = Slot(item, {"purchase": moment}, picture)
    return encode_bag(user, Bag(slots))


async def fill(system: System, users: int, items: int) -> float:
    """Write the rows of so many users to the changelog; gives the mean size of a row in bytes."""
    bundle, rng, size = Bundle.load(), random.Random(7), 0
    partitions = await system.partitions(BAGS_CHANGELOG)
    async with AIOKafkaProducer(
        bootstrap_servers=system.broker.bootstrap, linger_ms=20, max_batch_size=2**18
    ) as producer:
        for user in track(range(users), "writing the changelog", console=Console(stderr=True), transient=True):
            partition = partitions[user % len(partitions)].partition
            for key, value in bag_rows(f"user-{user}", items, bundle, rng).items():
                size += len(key) + len(value)
                await producer.send(BAGS_CHANGELOG, value, key=key, partition=partition)
        await producer.flush()
    return size / (users * items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000, help="(default 20000)")
    parser.add_argument("--items", type=int, default=10, help="of each user, a row each (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="recoveries from an empty disk (default 3)")
    arguments = parser.parse_args()
    rows = arguments.users * arguments.items
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        system = System(broker, Path(temporary))
        assert system.command("topics").returncode == 0
        size = asyncio.run(fill(system, arguments.users, arguments.items))
        rates: list[float] = []
        memory, disk = 0.0, 0
        for _ in range(arguments.rounds):
            shutil.rmtree(system.folder / "data", ignore_errors=True)
            begins = len(system.log()) if (system.folder / "worker.log").exists() else 0
            with system.worker("profile", ready=False):
                wait_until(lambda: system.get("profile", "/ready")[0] == 200, PATIENCE, system.log)
                memory = max(memory, peak_resident_mb(system.worker_pid("profile")))
            [(count, seconds)] = re.findall(r"from (\d+) records of the changelog in ([\d.]+) s", system.log()[begins:])
            assert int(count) == rows
            rates.append(int(count) / float(seconds))
            disk = sum(path.stat().st_size for path in (system.folder / "data").rglob("*") if path.is_file())
    shown = ", ".join(f"{rate:,.0f}" for rate in rates)
    console.print(
        f"{arguments.users:,} users, {rows:,} rows of {size:,.0f} bytes: median {statistics.median(rates):,.0f} rows/s ({shown}); "
        f"at most {memory:.0f} MB resident; {disk / MB:,.0f} MB on disk, {disk / arguments.users:,.0f} bytes for a user"
    )


if __name__ == "__main__":
    main()
