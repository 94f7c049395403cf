"""Bytes that an event adds to the changelog, for several bag sizes, compared with peers that store a whole bag in one value.

    python -m tests.benchmarks.changelog

It counts the keys and values of the records on the changelog topics, before the broker compresses or compacts them. Quix Streams
writes a key once per checkpoint, however often the key has changed. Its figure therefore depends on the rate and on the number of
users that share the events.
"""

import argparse
import asyncio
import logging
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.benchmarks.throughput.peers import PEERS
from tests.benchmarks.throughput.stand import Outcome, Stand
from tests.benchmarks.throughput.workload import Shop
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import picture_server


async def run(bags: list[int], names: list[str], users: int, count: int) -> dict[str, dict[int, Outcome]]:
    """Measure all peers. Returns the outcomes by peer and bag size."""
    measured: dict[str, dict[int, Outcome]] = {name: {} for name in names}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        base = stack.enter_context(picture_server(CATALOGUE))
        for bag in bags:
            inside = folder / f"bags-of-{bag}"
            inside.mkdir()
            stand = Stand(broker, inside, Shop(base, users=users, bag=bag), Bundle.load())
            for name in names:
                measured[name][bag] = await stand.round(PEERS[name], count)
    return measured


def show(measured: dict[str, dict[int, Outcome]], bags: list[int]) -> None:
    table = Table(
        "peer", *(f"bags of {bag}" for bag in bags), title="bytes (and records) that an event adds to the changelog"
    )
    for name, outcomes in measured.items():
        table.add_row(name, *(f"{outcomes[bag].changelog:,.0f} ({outcomes[bag].rows:.2f})" for bag in bags))
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5000, help="events for each bag size (default 5000)")
    parser.add_argument("--users", type=int, default=250, help="number of users (default 250)")
    parser.add_argument("--bags", default="8,64", help="bag sizes (default 8,64)")
    installed = [name for name in ("ours", "naive", "quix") if name != "quix" or find_spec("quixstreams")]
    parser.add_argument(
        "--peers", default=",".join(installed), help=f"peers to measure (default {','.join(installed)})"
    )
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    bags = [int(bag) for bag in arguments.bags.split(",")]
    show(asyncio.run(run(bags, arguments.peers.split(","), arguments.users, arguments.events)), bags)


if __name__ == "__main__":
    main()
