"""The memory of the workers over many events on real Kafka: it should stay flat.

    python -m tests.benchmarks.memory --out runs/memory

Events are produced in blocks. After all recommendations of a block, the resident memory of both workers is read. The table shows the
memory after the first tenth, the peak, the last value, and the slopes of lines through all blocks after the first tenth and through
the last half, since the cache of RocksDB fills slowly.
"""

import argparse
import asyncio
import logging
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.benchmarks.results import COLOURS, write
from tests.benchmarks.throughput.peers import PEERS
from tests.benchmarks.throughput.stand import Stand
from tests.benchmarks.throughput.workload import Shop
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import picture_server
from tests.usage import resident_mb

BLOCK = 20_000  # events


async def run(blocks: int, users: int, items: int, settings: dict[str, str]) -> dict[str, list[float]]:
    """MB of each worker after each block. settings: settings of the workers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        base = stack.enter_context(picture_server(CATALOGUE))
        stand = Stand(broker, folder, Shop(base, users=users, items=items), Bundle.load(), **settings)
        async with stand.running(PEERS["ours"], filled=False) as running:
            found: dict[str, list[float]] = {kind: [] for kind in running.pids}
            for number in track(range(blocks), "events", console=Console(stderr=True), transient=True):
                await running.produce(stand.shop.events(BLOCK, f"block-{number}", after=number * BLOCK))
                await running.answers(BLOCK)
                for kind, pid in running.pids.items():
                    found[kind].append(resident_mb(pid))
    return found


def slope(values: list[float]) -> float:
    """Slope of a line through the values of the blocks, per 100,000 events."""
    return float(np.polyfit(np.arange(len(values)) * BLOCK / 100_000, values, 1)[0])


def show(found: dict[str, list[float]]) -> None:
    blocks = len(next(iter(found.values())))
    table = Table(
        "worker", "after a tenth", "highest", "last", "slope after a tenth, MB per 100,000 events", "of the last half",
        title=f"resident memory in MB over {blocks * BLOCK:,} events",
    )  # fmt: skip
    for kind, values in found.items():
        later = values[blocks // 10 :]
        slopes = (f"{slope(part):+.2f}" for part in (later, values[blocks // 2 :]))
        table.add_row(kind, f"{later[0]:.0f}", f"{max(values):.0f}", f"{values[-1]:.0f}", *slopes)
    Console(width=120).print(table)


def draw(found: dict[str, list[float]], figure: Any) -> None:
    axes = figure.subplots()
    for (kind, values), colour in zip(found.items(), COLOURS, strict=False):
        axes.plot((np.arange(len(values)) + 1) * BLOCK, values, color=colour, label=f"{kind} worker")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("events")
    axes.set_ylabel("MB resident")
    axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="number of events, in blocks of 20,000 (default 1000000)"
    )
    parser.add_argument("--users", type=int, default=20_000, help="number of users (default 20000)")
    parser.add_argument("--items", type=int, default=20_000, help="number of items (default 20000)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the workers, e.g. recent_items=0"
    )
    parser.add_argument("--out", type=Path, help="folder for the figures, as JSON and as a plot")
    arguments = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in arguments.set)
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    found = asyncio.run(run(max(arguments.events // BLOCK, 10), arguments.users, arguments.items, settings))
    show(found)
    if arguments.out:
        write(arguments.out, "memory", found, partial(draw, found), (8, 4))


if __name__ == "__main__":
    main()
