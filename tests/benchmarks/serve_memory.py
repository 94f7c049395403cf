"""The memory of a serve worker by users and items: resident once it has all items, and the peak after requests.

    python -m tests.benchmarks.serve_memory
    python -m tests.benchmarks.serve_memory --users 0 20000 --items 100000

The bags are on disk when the worker starts, and there is no broker.
"""

import argparse
import random
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
from rich.console import Console

from model.bundle import Bundle
from model.quantization import quantize_all
from streams.kafka.partitioning import partition_of
from streams.profile.bag import Bag, Moment, Picture, Slot
from streams.profile.databases import BagDatabases, RocksDBMemory
from streams.profile.rows import encode_bag
from tests.kafka.broker import free_port
from tests.kafka.system import wait_until
from tests.streams.serve.process import PARTITIONS, bags_on_disk, get, worker
from tests.usage import peak_resident_mb, resident_mb

BAG = 16  # items of a user
START = 1_700_000_000_000  # milliseconds
ASKED = 1000  # requests
READ = 1800.0  # seconds that the worker has to read the bags

show = Console(soft_wrap=True, highlight=False).print


def fill(folder: Path, users: int, items: int) -> None:
    """Write the bags of users, which hold all items."""
    bags_on_disk(folder)
    bundle, rng = Bundle.load(), np.random.default_rng(0)
    rows = quantize_all(rng.random((items, bundle.embedding_size), np.float32))
    databases = BagDatabases(folder / "serve" / "bags", RocksDBMemory(64 * 1024**2), lambda _: None)
    for partition in range(PARTITIONS):
        databases.open(partition)
    for number in range(users):
        user, slots = f"user-{number}", dict[str, Slot]()
        for place in range(BAG):
            item = (number * BAG + place) % items
            name = f"item-{item}"
            moment = Moment(START + place * 86_400_000, f"event-{number}-{place}", name, "purchase")
            picture = Picture(moment, bundle.embedder_version, f"https://shop.example/{name}.jpg", rows[item])
            slots[name] = Slot(name, {"purchase": moment}, (picture,))
        databases.write(
            partition_of(user.encode(), PARTITIONS), dict[bytes, bytes | None](encode_bag(user, Bag(slots)))
        )
    for partition in range(PARTITIONS):
        databases.close(partition)


def measured(folder: Path, users: int, items: int) -> None:
    """Fill a folder, and show what a worker takes that has it."""
    fill(folder, users, items)
    port, held = free_port(), min(items, users * BAG)
    chance = random.Random(0)
    with worker(folder, port, serve_rate=0) as process:
        wait_until(lambda: get(port, "/v1/status")[1].get("items") == held, READ, (folder / "log").read_text)
        there = resident_mb(process.pid)
        for _ in range(ASKED if users else 0):
            url = f"http://127.0.0.1:{port}/v1/users/user-{chance.randrange(users)}/recommendations?items=12"
            with urllib.request.urlopen(url, timeout=30) as response:
                response.read()
        show(
            f"{users:,} users, {held:,} items: {there:.0f} MB with all items, {resident_mb(process.pid):.0f} MB after {ASKED} "
            f"requests for 12 items, {peak_resident_mb(process.pid):.0f} MB at most"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[0, 1000, 100_000], help="(default 0 1000 100000)")
    parser.add_argument("--items", type=int, default=100_000, help="in the catalogue (default 100,000)")
    asked = parser.parse_args()
    for users in asked.users:
        with tempfile.TemporaryDirectory() as folder:
            measured(Path(folder), users, asked.items)


if __name__ == "__main__":
    main()
