"""Speed of `tastestream rollout prepare` from features: rows a second of processor time, and by the clock.

    python -m tests.benchmarks.prepare

It writes the rows of a shop to the changelog of the bags and the features of its pictures to their topic, on a broker of its
own, and runs the command as a process. No worker runs, so that only the command is measured. The processor time includes the
start of Python, the reading of both topics, the item network, and the acknowledgements.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from streams.kafka.partitioning import partition_of
from streams.profile.bag import Bag, fold
from streams.profile.rows import encode_bag
from streams.settings.names import BAGS_CHANGELOG
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System
from tests.streams.rollout.shop import Shop, write_next

PARTITIONS = 4  # as `System` makes them


async def write_rows(broker: str, shop: Shop, users: int, items: int) -> int:
    """Write the bags of users who have some items each to the changelog. Returns the number of rows."""
    kept, pictures, rows = {shop.served.embedder_version}, len(shop.urls), 0
    async with AIOKafkaProducer(bootstrap_servers=broker, linger_ms=20, max_batch_size=256 * 1024) as producer:
        for user in range(users):
            name, bag = f"user {user:07}", Bag()
            for number in range(items):
                event = shop.event(name, (user * 31 + number * 7) % pictures, 1_700_000_000_000 + number)
                bag = fold(bag, event, max_slots=128, kept=kept)
            partition = partition_of(name.encode(), PARTITIONS)
            for key, value in encode_bag(name, bag).items():
                await producer.send(BAGS_CHANGELOG, value, key=key, partition=partition)
                rows += 1
        await producer.flush()
    return rows


def run(users: int, items: int, pictures: int, rounds: int) -> list[tuple[float, float]]:
    """Rows a second by processor time and by the clock, of each round."""
    figures: list[tuple[float, float]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        shop = Shop(Bundle.load(), write_next(folder / "next"), pictures)
        system = System(broker, folder, next_bundle=shop.following.path)
        created = system.command("topics")
        if created.returncode:
            sys.exit(created.stderr)
        rows = asyncio.run(write_rows(broker.bootstrap, shop, users, items))
        asyncio.run(shop.share(broker.bootstrap, range(pictures)))
        for _ in range(rounds):
            before, begun = _processor_seconds(), monotonic()
            done = system.command("rollout", "prepare", timeout=600)
            seconds, used = monotonic() - begun, _processor_seconds() - before
            if done.returncode or f"for {rows:,} items" not in done.stdout:
                sys.exit(done.stdout + done.stderr)
            Console().print(done.stdout.strip(), markup=False, highlight=False)
            figures.append((rows / used, rows / seconds))
    return figures


def _processor_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=5000, help="number of users (default 5000)")
    parser.add_argument("--items", type=int, default=20, help="items in each bag (default 20)")
    parser.add_argument("--pictures", type=int, default=20_000, help="number of pictures (default 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the command (default 3)")
    arguments = parser.parse_args()
    table = Table("round", "rows/s of processor time", "rows/s by the clock", title="rollout prepare from features")
    for number, (by_processor, by_clock) in enumerate(
        run(arguments.users, arguments.items, arguments.pictures, arguments.rounds), 1
    ):
        table.add_row(str(number), f"{by_processor:,.0f}", f"{by_clock:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
