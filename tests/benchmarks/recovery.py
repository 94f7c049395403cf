"""How fast a profile worker recovers its bags from the changelog topic alone, on real Kafka.

    python -m tests.benchmarks.recovery

Writes rows of made-up bags to the changelog topic, as many as asked for, and starts a profile worker with an empty data
folder, several rounds.
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
from tests.kafka.system import System
from tests.usage import peak_resident_mb

SLOTS = 10  # of each user


def bag_rows(user: str, bundle: Bundle, rng: random.Random) -> dict[bytes, bytes]:
    """The rows of a user with SLOTS purchases."""
    slots: dict[str, Slot] = {}
    for number in range(SLOTS):
        item = f"item-{rng.randrange(10**9)}"
        moment = Moment(1_700_000_000_000 + number, f"event-{rng.randrange(10**12)}", item, "purchase")
        embedding = rng.randbytes(HEADER_BYTES + bundle.embedding_size)
        picture = Picture(moment, bundle.embedder_version, f"https://shop.example/pictures/{item}.jpg", embedding)
        slots[item] = Slot(item, {"purchase": moment}, picture)
    return encode_bag(user, Bag(slots))


async def fill(system: System, rows: int) -> float:
    """Write that many rows to the changelog; gives the mean size of a row in bytes."""
    bundle, rng, size = Bundle.load(), random.Random(7), 0
    partitions = await system.partitions(BAGS_CHANGELOG)
    async with AIOKafkaProducer(
        bootstrap_servers=system.broker.bootstrap, linger_ms=20, max_batch_size=2**18
    ) as producer:
        sent: list[asyncio.Future[object]] = []
        for user in track(range(rows // SLOTS), "writing the changelog", console=Console(stderr=True), transient=True):
            partition = partitions[user % len(partitions)].partition
            for key, value in bag_rows(f"user-{user}", bundle, rng).items():
                size += len(key) + len(value)
                sent.append(await producer.send(BAGS_CHANGELOG, value, key=key, partition=partition))
        await asyncio.gather(*sent)
    return size / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows in the changelog (default 200000)")
    parser.add_argument("--rounds", type=int, default=3, help="recoveries from an empty disk (default 3)")
    arguments = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        system = System(broker, Path(temporary))
        assert system.command("topics").returncode == 0
        size = asyncio.run(fill(system, arguments.rows))
        rates: list[float] = []
        memory = 0.0
        for _ in range(arguments.rounds):
            shutil.rmtree(system.folder / "data", ignore_errors=True)
            begins = len(system.log()) if (system.folder / "worker.log").exists() else 0
            with system.worker("profile"):
                memory = max(memory, peak_resident_mb(system.worker_pid("profile")))
            [(count, seconds)] = re.findall(r"from (\d+) records of the changelog in ([\d.]+) s", system.log()[begins:])
            assert int(count) == arguments.rows
            rates.append(int(count) / float(seconds))
    shown = ", ".join(f"{rate:,.0f}" for rate in rates)
    console.print(
        f"{arguments.rows:,} rows of {size:,.0f} bytes: median {statistics.median(rates):,.0f} rows/s ({shown}); "
        f"at most {memory:.0f} MB resident"
    )


if __name__ == "__main__":
    main()
